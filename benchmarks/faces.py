"""How good do ``small`` and ``base`` become on faces? The table of page 02, trained and scored anew.

    python benchmarks/faces.py --data ~/celeba [--pairs ~/benchmarks] [--runs runs]

Trains what ``runs/faces/NAME/`` does not hold yet (70 minutes for all; an interrupted training goes on where it
was), scores all validation faces and writes ``expected/celeba-networks.json``. ``--pairs`` is a folder with
``Set5`` and ``Set14`` in it, each with ``HR_x4`` and ``LR_x4``.
"""

import argparse
import json
from pathlib import Path
from statistics import mean

import torch
from tqdm.auto import tqdm

from course import doctor, results
from course.page import EXPECTED
from srlib import commands, models
from srlib.data.store import SIDE
from srlib.files import resolve, write_json
from srlib.train.checkpoints import load_model
from srlib.train.config import TrainConfig

BASE = ["--model", "base", "--minutes", "30", "--loss", "charbonnier", "--learning-rate", "0.001"]
BASE += ["--validate-every", "500"]
NETWORKS = {
    "small": ["--model", "small", "--minutes", "10"],
    "base": BASE,
    "base-lecture": [*BASE, "--crop", "lecture", "--kernel", "lecture"],
}
RECIPE = ["--optimiser", "muon", "--late-patch", "176", "--ema", "0.999"]
TRIED = 200  # optimiser, rate, loss and form of the networks were chosen by the first so many validation faces


def run(*words: str | Path) -> None:
    """One command of ``python -m srlib``; the first failure ends it all."""
    if status := commands.main([str(word) for word in words]):
        raise SystemExit(status)


def score(out: Path, name: str, *words: str | Path) -> dict:
    """What ``evaluate --json`` says of the network in ``out``, from its file where there is one."""
    file = out / f"{name}.json"
    if not file.exists():
        run("evaluate", out / "model.pt", *words, "--json", file)
    return json.loads(file.read_text(encoding="utf-8"))


def faces_seen(config: TrainConfig, history: list[dict]) -> int:
    """Crops by their share of a whole face, to the nearest hundred."""
    last = history[-1]
    turn = (1 - config.late_share) * last["seconds"]
    early = max((row["step"] for row in history if row["seconds"] <= turn), default=0)
    whole = early * config.patch**2 + (last["step"] - early) * (config.late_patch or config.patch) ** 2
    return round(config.batch_size * whole / SIDE**2 / 100) * 100


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--runs", default="runs")
    args = parser.parse_args()
    runs = resolve(args.runs)
    found: dict[str, dict] = {}

    def record(key: str, value: float, unit: str = "") -> None:
        found[f"02.{key}"] = {"value": value, "unit": unit}

    for name, words in tqdm(NETWORKS.items(), desc="networks", unit="network"):
        out = runs / "faces" / name
        if not (out / "model.pt").exists():
            resume = ["--resume"] if (out / "last.pt").exists() else []
            run("train", "--data", args.data, *words, *RECIPE, "--runs", runs, "--out", out, *resume)
        network, config = load_model(out / "model.pt")
        history = json.loads((out / "history.json").read_text(encoding="utf-8"))
        where = ["--crop", config.crop, "--kernel", config.kernel]
        report = score(out, "val", "--data", args.data, "--split", "val", *where, "--runs", runs)
        record(f"{name}.parameters", models.count_parameters(models.folded(network)))
        record(f"{name}.minutes", round(history[-1]["seconds"] / 60, 1), "min")
        record(f"{name}.steps", history[-1]["step"])
        record(f"{name}.faces", faces_seen(config, history))
        for who in ("model", "bicubic"):
            record(f"{name}.{who}.psnr", report[who]["rgb"]["psnr_mean"], "dB")
            record(f"{name}.{who}.mse", report[who]["rgb"]["mse_mean"])
            rest = [image[who] for image in report["per_image"][TRIED:]]
            for what, unit in (("psnr", "dB"), ("mse", "")):
                record(f"{name}.unseen.{who}.{what}", mean(image[what] for image in rest), unit)
        record("images", report["images"])
        record("images.unseen", len(rest))
        for pairs in ("Set5", "Set14") if args.pairs else ():
            folder = args.pairs / pairs
            report = score(out, pairs, "--pairs", folder / "HR_x4", folder / "LR_x4")
            record(f"{name}.{pairs.lower()}", report["model"]["y"]["psnr_mean"], "dB")
            record(f"bicubic.{pairs.lower()}", report["bicubic"]["y"]["psnr_mean"], "dB")
    machine = str(doctor.machine(torch.device("cpu"))["summary"])
    command = "python benchmarks/faces.py --data FOLDER" + (" --pairs BENCHMARKS" if args.pairs else "")
    write_json(EXPECTED / "celeba-networks.json", results.expect([found], command, machine, ["once"]))
    for key, entry in found.items():
        print(f"{key:32} {results.show_with_unit(**entry)}")


if __name__ == "__main__":
    main()
