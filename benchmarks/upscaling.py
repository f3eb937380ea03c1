"""What does ``upscale`` cost beside the bare network, and how much memory does a large photo take?

    python benchmarks/upscaling.py [--model base] [--repeats 7] [--megapixels 12]

Rates: megapixels per second of the whole path in memory (uint8 in, overlapping tiles, uint8 out), against the bare
    network on float tensors of 256 x 256 that are there already, in the same precision and memory layout; beside
    them reading and writing the files. The parts are interleaved and repeated; each figure is a median.
Memory: the peak of a process that runs the command on a JPEG of so many megapixels, and how much of it was there
    before the photo was opened (PyTorch and the rest being imported). Linux only.

The photo is a mosaic of the sample's tiles. The network is untrained: its weights change neither time nor memory.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srlib import models
from srlib.data import open_store
from srlib.device import exact_float32
from srlib.train import checkpoints
from srlib.train.config import TrainConfig
from srlib.upscale import TILE, Enlarger, load_network
from srlib.upscale import photo_files as pictures

# The peak is read from /proc: that of getrusage would hold the memory of the process that started this one.
COMMAND = """
import sys
import srlib.commands.upscale
from srlib.commands import main
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
status = main(sys.argv[1:])
print(f"peak {peak():,.0f} MiB, {before:,.0f} MiB of it before the photo was opened")
sys.exit(status)
"""


def mosaic(width: int, height: int) -> Image.Image:
    """The sample's tiles side by side, over and over."""
    tiles = open_store("sample").images.transpose(0, 2, 3, 1)
    side = tiles.shape[1]
    sheet = Image.new("RGB", (width, height))
    for row in range(math.ceil(height / side)):
        for column in range(math.ceil(width / side)):
            sheet.paste(Image.fromarray(tiles[(7 * row + column) % len(tiles)]), (column * side, row * side))
    return sheet


def untrained(name: str, folder: Path) -> Path:
    """A checkpoint of a named network with the weights that it starts from."""
    torch.manual_seed(0)
    config, path = TrainConfig(model=name), folder / f"{name}.pt"
    weights = models.build(name).state_dict()
    checkpoints.save(path, {"config": asdict(config), "average": weights})
    return path


def rates(enlarger: Enlarger, side: int, repeats: int, folder: Path) -> None:
    """All parts in turn, again and again; medians with their range."""
    device = enlarger.device
    photo = mosaic(side, side)
    pixels = np.asarray(photo)
    here = torch.rand(1, 3, TILE, TILE, device=device).contiguous(memory_format=torch.channels_last)
    passes = max(1, round(side**2 / TILE**2))
    large = enlarger.image(photo)
    like = pictures.Picture(photo)
    pictures.write(photo, folder / "in.jpg", like.options)

    def bare() -> None:
        with torch.inference_mode(), exact_float32():
            for _ in range(passes):
                enlarger.network(here)
            if device.type == "cuda":
                torch.cuda.synchronize()

    parts: dict[str, tuple[Callable[[], object], float]] = {
        "bare network, tensors there": (bare, passes * TILE**2),
        f"tiled, uint8 to uint8, tiles {enlarger.tile}": (lambda: enlarger.array(pixels), side**2),
        "reading JPEG": (lambda: pictures.read(folder / "in.jpg"), side**2),
        "writing JPEG": (lambda: pictures.write(large, folder / "out.jpg", like.options), side**2),
        "writing PNG": (lambda: pictures.write(large, folder / "out.png", like.options), side**2),
    }
    values: dict[str, list[float]] = {name: [] for name in parts}
    for repeat in range(repeats + 1):
        for name, (work, amount) in parts.items():
            start = time.perf_counter()
            work()
            if repeat:  # the first round warms up
                values[name].append(amount / 1e6 / (time.perf_counter() - start))
    print(
        f"\nmegapixels of the photo per second ({enlarger.scale**2} times as many come out), {side}x{side}, "
        f"{device.type}, {torch.get_num_threads()} threads, margin {enlarger.margin}"
    )
    middle = {name: statistics.median(row) for name, row in values.items()}
    for name, row in values.items():
        lowest, highest = min(row), max(row)
        print(f"  {name:36} {middle[name]:8.3f} in {enlarger.scale**2 * middle[name]:8.2f} out"
              f"   ({lowest:.3f} to {highest:.3f})")  # fmt: skip
    names = list(parts)
    print(f"  {'tiled / bare':36} {middle[names[1]] / middle[names[0]]:8.3f}")


def memory(weights: Path, megapixels: float, tile: int, folder: Path) -> None:
    """The command in a process of its own, JPEG to JPEG."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    photo = folder / "photo.jpg"
    mosaic(height * 4 // 3, height).save(photo, quality=90)
    print(f"\nmemory, {height * 4 // 3}x{height}, JPEG to JPEG")
    options = ["--model", str(weights), "--device", "cpu", "--tile", str(tile), "--force"]
    subprocess.run([sys.executable, "-c", COMMAND, "upscale", str(photo), *options], check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="base", choices=models.MODELS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--side", type=int, default=1024, help="of the photo that rates are measured on")
    parser.add_argument("--tile", type=int, default=TILE)
    parser.add_argument("--megapixels", type=float, default=12, help="of the photo that memory is measured on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("rates", "memory"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        weights = untrained(args.model, Path(scratch))
        network, about = load_network(weights)
        print(about)
        if args.only != "memory":
            enlarger = Enlarger(network, tile=args.tile, device=args.device)
            rates(enlarger, args.side, args.repeats, Path(scratch))
        if args.only != "rates":
            memory(weights, args.megapixels, args.tile, Path(scratch))


if __name__ == "__main__":
    main()
