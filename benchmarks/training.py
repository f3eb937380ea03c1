"""How fast is the training loop? Against an ordinary loop, against the bare step, and against the machine.

    python benchmarks/training.py [--data FOLDER] [--repeats 5] [--seconds 4]

One run measures, on the same photos and the lecture's network (RGB to RGB, batch 16 faces or 64 crops of 88):

(a) an ordinary loop: a Dataset that decodes with Pillow, crops and shrinks with Pillow's bicubic; a DataLoader
    with 0 or 2 workers, whichever is faster; float32; Adam;
(b) ours end to end: ``Trainer.run`` with everything that it does;
(c) the bare step: forward, loss, backward and Adam in the trainer's precision on one batch that is already there;
(d) the machine: matrix products of 1024 x 1024 in float32 and bfloat16.

The parts are interleaved and repeated; each figure is the median. Ratios are from one run: b/a is what a reader
gains, b/c what the loop costs, c/d the share of the processor's arithmetic that the bare step reaches.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from srlib.data import Batches, open_store
from srlib.device import choose_device, choose_precision
from srlib.files import resolve
from srlib.images.tasks import pair
from srlib.models import build, count_multiply_adds
from srlib.train.callbacks import Callback
from srlib.train.config import TrainConfig
from srlib.train.losses import mse_loss
from srlib.train.trainer import Trainer

SIDE, SCALE = 176, 4


class Photos(Dataset):
    """The data set of an ordinary tutorial: open, crop, shrink, to tensor."""

    def __init__(self, files: list[Path], patch: int) -> None:
        self.files, self.patch = files, patch

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self.files[index]) as image:
            image = image.convert("RGB")
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        if self.patch < SIDE:
            left += int(torch.randint(0, SIDE - self.patch + 1, ()))
            top += int(torch.randint(0, SIDE - self.patch + 1, ()))
        hr = image.crop((left, top, left + self.patch, top + self.patch))
        lr = hr.resize((self.patch // SCALE, self.patch // SCALE), Image.Resampling.BICUBIC)
        return self.to_tensor(lr), self.to_tensor(hr)

    @staticmethod
    def to_tensor(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def ordinary_loop(files: list[Path], patch: int, batch: int, workers: int, seconds: float, device) -> float:
    """Crops per second of loop (a), its first batch not counted."""
    model = build("subpixel").to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_function = torch.nn.MSELoss()
    loader = DataLoader(
        Photos(files, patch),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    seen, start = 0, None
    while True:
        for lr, hr in loader:
            lr, hr = lr.to(device, non_blocking=True), hr.to(device, non_blocking=True)
            optimiser.zero_grad()
            loss = loss_function(model(lr), hr)
            loss.backward()
            optimiser.step()
            synchronise(device)
            if start is None:
                start = time.perf_counter()
            else:
                seen += len(lr)
                if time.perf_counter() - start > seconds:
                    return seen / (time.perf_counter() - start)


def ours(config: TrainConfig, store, device: torch.device) -> float:
    """Crops per second of a training, everything included but the steps up to its first row (warming up)."""
    marks: dict[int, float] = {}

    class Clock(Callback):
        def at_log(self, trainer, row):
            marks[row["step"]] = time.perf_counter()

    Trainer(config, store, device=device, callbacks=[Clock()]).run()
    first, last = min(marks), max(marks)
    return (last - first) * config.batch_size / (marks[last] - marks[first])


def bare_step(config: TrainConfig, store, seconds: float, device: torch.device, dtype: torch.dtype) -> float:
    """Crops per second of forward, loss, backward and Adam on one batch."""
    model = build("subpixel").to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    crops = Batches(store, "train", config.batch_size, config.patch, device=device).crops(0)
    lr, hr = pair(crops, "bicubic", SCALE)
    lr = lr.contiguous(memory_format=torch.channels_last)
    steps, start = -5, 0.0
    while True:
        if steps == 0:
            synchronise(device)
            start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = model(lr)
        mse_loss(output.float(), hr).backward()
        optimiser.step()
        synchronise(device)
        steps += 1
        if steps > 0 and time.perf_counter() - start > seconds:
            return steps * config.batch_size / (time.perf_counter() - start)


def matrix_rate(dtype: torch.dtype, seconds: float, device: torch.device) -> float:
    """GFLOP/s of matrix products."""
    size = 1024 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device).to(dtype)
    a @ a
    synchronise(device)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        a @ a
        synchronise(device)
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - start) / 1e9


def synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def photo_files(data: str, store, folder: Path) -> list[Path]:
    """The files that the ordinary loop decodes: the reader's own, or the sample's tiles as JPEG."""
    if data != "sample":
        names = [store.names[i] for i in store.rows("train")]
        files = [next(Path(data).rglob(Path(name).name)) for name in names[:4096]]
        return [f for f in files if min(Image.open(f).size) >= SIDE]
    files = []
    for i, photo in enumerate(store.tensor("train").permute(0, 2, 3, 1).numpy()):
        files.append(folder / f"{i:04d}.jpg")
        Image.fromarray(photo).save(files[-1], quality=95)
    return files


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each part and repeat")
    args = parser.parse_args()
    device = choose_device(args.device)
    dtype, reason = choose_precision(device)
    store = open_store(args.data, resolve("runs"))
    print(f"{store.describe()}\n{device.type}, {torch.get_num_threads()} threads, {reason}")
    with tempfile.TemporaryDirectory() as folder:
        files = photo_files(args.data, store, Path(folder))
        for patch, batch in ((SIDE, 16), (88, 64)):
            measure(patch, batch, files, store, device, dtype, args)


def measure(patch: int, batch: int, files: list[Path], store, device, dtype, args) -> None:
    """One table: whole faces, or crops."""
    config = TrainConfig(model="subpixel", batch_size=batch, patch=patch, steps=1000, validate_every=100)
    multiply_adds = count_multiply_adds(build("subpixel"), (1, 3, patch // SCALE, patch // SCALE))
    gflop = 3 * 2 * multiply_adds / 1e9  # forward, gradient of the input, gradient of the weights
    trial = max(bare_step(config, store, 1.0, device, dtype), 1)
    # long enough for --seconds, in whole intervals of validation
    config = replace(config, steps=100 * max(2, round(args.seconds * trial / batch / 100)))
    parts = {
        "a, 0 workers": lambda: ordinary_loop(files, patch, batch, 0, args.seconds, device),
        "a, 2 workers": lambda: ordinary_loop(files, patch, batch, 2, args.seconds, device),
        "b, trainer": lambda: ours(config, store, device),
        "c, bare step": lambda: bare_step(config, store, args.seconds, device, dtype),
        "c, float32": lambda: bare_step(config, store, args.seconds, device, torch.float32),
        "d, float32": lambda: matrix_rate(torch.float32, args.seconds / 4, device),
        "d, bfloat16": lambda: matrix_rate(torch.bfloat16, args.seconds / 4, device),
    }
    values: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(args.repeats):
        for name, part in parts.items():
            values[name].append(part())
    print(f"\nwhole faces of {patch}" if patch == SIDE else f"\ncrops of {patch}", f"batch {batch}", sep=", ")
    for name, row in values.items():
        unit = "GFLOP/s" if name.startswith("d") else "crops/s"
        print(f"  {name:14} {statistics.median(row):10.1f} {unit}   (from {min(row):.1f} to {max(row):.1f})")
    m = {name: statistics.median(row) for name, row in values.items()}
    a = max(m["a, 0 workers"], m["a, 2 workers"])
    d = m["d, bfloat16"] if dtype == torch.bfloat16 else m["d, float32"]
    reached = m["c, bare step"] * gflop
    b = m["b, trainer"]
    print(f"  b/a {b / a:.2f}   b/c {b / m['c, bare step']:.3f}   c/d {reached / d:.3f} "
          f"({reached:.0f} of {d:.0f} GFLOP/s)   c in this precision / float32 "
          f"{m['c, bare step'] / m['c, float32']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
