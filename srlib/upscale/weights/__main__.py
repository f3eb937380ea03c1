"""``make weights``: train the networks that come with the package, on the bundled photos, and write their ledger.

    python -m srlib.upscale.weights [--steps N] [--device auto]

An interrupted training goes on where it was. What is shipped is folded: plain convolutions, float32.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from srlib.train import checkpoints, trainer as training
from srlib.measure import evaluation
from srlib import models
from srlib.train.config import TrainConfig
from srlib.data import open_store
from srlib.train.experiments import train_once
from srlib.device import choose_device, choose_precision, resolve_runs

HERE = Path(__file__).parent
# Chosen on the validation photo. Longer trainings learn the five photos by heart: by Muon `small` scores 27.40 dB
# there after 600 steps and 27.21 after 2,400. For `base` it makes no difference: 27.44 dB by Adam, 27.43 by Muon,
# 27.42 by Muon in half the steps.
RECIPE = TrainConfig(steps=600, validate_every=50)
LEDGER = """# Weights that come with the package

Made by `make weights` (`python -m srlib.upscale.weights`) on the bundled photos: five photos without a face for training,
tiles of one face for the score. They enlarge photos in general; for faces, train on faces. Only tensors and plain
values are in the files.

| network | parameters | training | seconds | test tiles, RGB PSNR | bicubic | file |
|---|---:|---|---:|---:|---:|---:|
"""


def ship(config: TrainConfig, device: torch.device) -> str:
    """Train, fold, save; the line of the ledger."""
    runs = resolve_runs("runs")
    store = open_store("sample", runs)
    precision, _ = choose_precision(device)
    trained = train_once(config, store, runs, device=device, precision=precision)
    network = models.folded(trained.model)
    file = HERE / f"{config.model}.pt"
    shipped = asdict(replace(config, options={**config.options, "collapsed": True}))
    checkpoints.save(file, {"format": checkpoints.FORMAT, "config": shipped, "average": network.state_dict()})
    network, _ = training.load_model(file, device)
    how = {"kernel": config.kernel, "scale": config.scale, "device": device}
    photos = store.tensor("test")
    ours, bicubic = (
        evaluation.evaluate(net, photos, config.task, **how)["psnr"].mean()
        for net in (network, models.Interpolation("bicubic", config.scale))
    )
    recipe = f"{config.steps:,} steps of {config.batch_size} crops of {config.patch}, seed {config.seed}"
    seconds = trained.history[-1]["seconds"]
    return (
        f"| `{config.model}` | {models.count_parameters(network):,} | {recipe} | {seconds:.0f} | {ours:.2f} dB "
        f"| {bicubic:.2f} dB | {file.stat().st_size / 1e6:.2f} MB |\n"
    )


def main() -> None:
    """Train and write both."""
    parser = argparse.ArgumentParser(prog="python -m srlib.upscale.weights", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = choose_device(args.device)
    lines = [ship(replace(RECIPE, model=name, steps=args.steps), device) for name in ("small", "base")]
    aside = HERE / ".README.md"
    aside.write_text(LEDGER + "".join(lines), encoding="utf-8")
    aside.replace(HERE / "README.md")
    print((HERE / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
