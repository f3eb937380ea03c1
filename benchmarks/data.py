"""What does the store cost, and what does it give? Three comparisons, each within one run.

    python benchmarks/data.py [--data FOLDER] [--repeats 7]

Building: photos per second decoded into a store, against bare decoding on all cores, which reads and decodes the
    same files and drops the pixels. Bare decoding is tried with Pillow and with torchvision, in threads and in
    processes; the fastest counts. A store also cuts, keeps a hash of each file, and writes 93 kB per photo.
Supplying: crops of 88 pixels per second with their LR, in batches of 16, against the rate at which the lecture's
    network trains on such batches when they are there already.
Reading: photos per second in random order, from the store, from JPEG files (Pillow), and from files as the lecture
    kept them, a float64 .npy for HR and one for LR.

The parts are interleaved and repeated; each figure is a median. Files are in the page cache, so that processors
are compared and not disks. Without --data the photos are the sample's tiles, saved as JPEG.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from srlib.data import Batches, Store, open_store
from srlib.data.build import CHUNK, build_store
from srlib.data.find import find_source
from srlib.device import choose_precision
from srlib.images.degrade import degrade
from srlib.models import build
from srlib.train.losses import mse_loss

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BATCH, PATCH, SCALE = 16, 88, 4


def read(path: str) -> bytes:
    """The bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def decode_pillow(paths: list[str]) -> None:
    """Read and decode, and nothing else."""
    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB").load()


def decode_torchvision(paths: list[str]) -> None:
    """The same by torchvision, for JPEG."""
    for path in paths:
        decode_jpeg(torch.frombuffer(bytearray(read(path)), dtype=torch.uint8), mode=ImageReadMode.RGB)


def rate(count: int, work: Callable[[], object]) -> float:
    """How many per second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def median_of(parts: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Each part measured in turn, again and again; prints medians with their range."""
    values: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            values[name].append(part())
    for name, row in values.items():
        print(f"  {name:36} {statistics.median(row):9,.0f} /s   ({min(row):,.0f} to {max(row):,.0f})")
    return {name: statistics.median(row) for name, row in values.items()}


def building(folder: Path, repeats: int, most: int) -> None:
    """Bare decoding against building a store."""
    source = find_source(folder)
    source = replace(source, photos=source.photos[:most])
    paths = [os.path.join(source.root, photo.path) for photo in source.photos]
    chunks = [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)]

    def bare(pool: Executor, decode: Callable[[list[str]], None]) -> Callable[[], float]:
        return lambda: rate(len(paths), lambda: list(pool.map(decode, chunks)))

    def whole_store() -> float:
        with tempfile.TemporaryDirectory() as runs, contextlib.redirect_stdout(io.StringIO()):
            return rate(len(paths), lambda: build_store(source, "center", Path(runs, "store"), max_bad=100))

    print(f"\nbuilding, {len(paths):,} photos, {CORES} cores")
    # processes before threads: a process that has threads should not be forked
    with ProcessPoolExecutor(CORES) as processes:
        list(processes.map(abs, range(1000)))
        with ThreadPoolExecutor(CORES) as threads:
            parts = {
                "bare, Pillow, threads": bare(threads, decode_pillow),
                "bare, Pillow, processes": bare(processes, decode_pillow),
            }
            if all(path.lower().endswith((".jpg", ".jpeg")) for path in paths):
                parts |= {
                    "bare, torchvision, threads": bare(threads, decode_torchvision),
                    "bare, torchvision, processes": bare(processes, decode_torchvision),
                }
            m = median_of(parts | {"store": whole_store}, repeats)
    for name in parts:
        print(f"  store / {name:28} {m['store'] / m[name]:9.0%}")


def supplying(store: Store, repeats: int) -> None:
    """Batches against the training steps that use them up."""
    dtype, _ = choose_precision(torch.device("cpu"))
    batches = Batches(store, "train", BATCH, PATCH, "bicubic", SCALE)
    model = build("subpixel").to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    lr, hr = batches.batch(0)
    lr = lr.contiguous(memory_format=torch.channels_last)

    def train() -> None:
        for _ in range(20):
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                output = model(lr)
            mse_loss(output.float(), hr).backward()
            optimiser.step()

    def supply(source: Batches) -> Callable[[], float]:
        return lambda: rate(200 * BATCH, lambda: [source.batch(step) for step in range(200)] and None)

    print(f"\nsupplying, batches of {BATCH} crops of {PATCH} with LR, {torch.get_num_threads()} threads, {dtype}")
    network = "training, the lecture's network"
    m = median_of(
        {
            network: lambda: rate(20 * BATCH, train),
            "batches": supply(batches),
        },
        repeats,
    )
    print(f"  {'batches / training':36} {m['batches'] / m[network]:9.1f}")


def reading(folder: Path, store: Store, repeats: int, most: int) -> None:
    """One photo after another in random order: store, JPEG, float64 .npy."""
    rows = np.random.default_rng(0).permutation(len(store))[:most]
    root = find_source(folder).root
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows:
            hr = torch.from_numpy(store.images[row].astype(np.float64) / 255)
            np.save(Path(scratch, f"{row}-hr.npy"), hr.numpy())
            np.save(Path(scratch, f"{row}-lr.npy"), degrade(hr, "lecture", SCALE, round_lr=True).numpy())
        sizes = [sum(Path(scratch, f"{row}-{kind}.npy").stat().st_size for row in rows) for kind in ("hr", "lr")]

        def from_npy() -> None:
            for row in rows:
                np.load(os.path.join(scratch, f"{row}-hr.npy"))
                np.load(os.path.join(scratch, f"{row}-lr.npy"))

        def from_store() -> None:
            for row in rows:
                store.images[row].copy()

        def from_jpeg() -> None:
            for row in rows:
                with Image.open(os.path.join(root, store.names[row])) as image:
                    np.asarray(image.convert("RGB"))

        print(f"\nreading, {len(rows):,} photos in random order, one thread")
        m = median_of(
            {
                "store (uint8 memory map)": lambda: rate(len(rows), from_store),
                "JPEG, Pillow": lambda: rate(len(rows), from_jpeg),
                "float64 .npy, HR and LR": lambda: rate(len(rows), from_npy),
            },
            repeats,
        )
    print(f"  store / JPEG {m['store (uint8 memory map)'] / m['JPEG, Pillow']:30.1f}")
    print(f"  store / .npy {m['store (uint8 memory map)'] / m['float64 .npy, HR and LR']:30.1f}")
    print(f"  bytes per photo: store {store.images[0].nbytes:,}, .npy pair {sum(sizes) // len(rows):,}")


def sample_as_files(folder: Path, copies: int = 8) -> Path:
    """The sample's tiles as JPEG files, several of each: a number after the picture's end tells them apart."""
    folder.mkdir()
    store = open_store("sample")
    for row, photo in enumerate(store.images.transpose(0, 2, 3, 1)):
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "JPEG", quality=90)
        for copy in range(copies):
            (folder / f"{row:03d}-{copy}.jpg").write_bytes(buffer.getvalue() + b"%d" % copy)
    return folder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder of photos; by default the sample's tiles")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--most", type=int, default=4096, help="photos per measurement")
    parser.add_argument("--only", choices=("building", "supplying", "reading"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.data) if args.data else sample_as_files(Path(scratch, "photos"))
        if args.only in (None, "building"):
            building(folder, args.repeats, args.most)
        with contextlib.redirect_stdout(io.StringIO()):
            store = open_store(folder, Path(scratch, "runs"))
        if args.only in (None, "supplying"):
            supplying(store, args.repeats)
        if args.only in (None, "reading"):
            reading(folder, store, args.repeats, args.most // 4)


if __name__ == "__main__":
    main()
