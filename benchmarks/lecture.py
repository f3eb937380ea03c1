"""The lecture's whole training, 162,770 faces x 40 epochs at batch 256: how fast, and what does it reach?

    python benchmarks/lecture.py rates --data ~/celeba [--seconds 5] [--profile]
    python benchmarks/lecture.py train --data ~/celeba [--targets gray rgb plain] [--faces 6510800] [--out FILE]

``rates`` times the lecture's network (Gray to Gray, whole faces, everything included from the uint8 photos on) in
each precision, plain and compiled, and says what share of the machine's own arithmetic and memory bandwidth that
is; both ceilings are measured beside it. ``--profile`` adds the kernels that take the time.

``train`` trains it as the lecture did (its crop, its LR, no skip, orthogonal start, Adam from 1e-2 to 1e-3) for
each reading of the lecture's target, and scores all validation faces along the way. The targets: ``gray``, each
gray picture stretched to its own full range; ``rgb``, each photo stretched over its three channels together, then
made gray; ``plain``, not stretched. Where there are fewer faces than 162,770, they are shown more often.
"""

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from training import synchronise

from srlib.data import open_store
from srlib.device import choose_device, choose_precision, exact_float32
from srlib.files import resolve, write_json
from srlib.images.tasks import as_task, pair
from srlib.measure import metrics
from srlib.models import Interpolation, build, count_multiply_adds
from srlib.train.callbacks import Bar, Callback, Measure
from srlib.train.config import TrainConfig
from srlib.train.trainer import Trainer

FACES = 162_770 * 40
TARGETS = ("gray", "rgb", "plain")
LECTURE = TrainConfig(
    model="subpixel", task="gray-gray", crop="lecture", kernel="lecture", patch=176, batch_size=256,
    schedule="exponential", learning_rate=1e-2, final_learning_rate=1e-3, warmup=0, ema=0.0, clip=0.0,
    steps=round(FACES / 256), validate_every=250,
)  # fmt: skip


def stretched(x: Tensor) -> Tensor:
    """Each picture's smallest value to 0 and its largest to 1, over its channels together."""
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-6)


def task_pair(lr: Tensor, hr: Tensor, target: str) -> tuple[Tensor, Tensor]:
    """Gray input, which is never stretched, and gray target under one reading of the lecture's code."""
    lr, gray = as_task(lr, stretched(hr) if target == "rgb" else hr, "gray-gray")
    return lr, stretched(gray) if target == "gray" else gray


def machine(device: torch.device) -> str:
    """In a line; without ``course.doctor``, whose packages a GPU machine may lack."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type}"
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


# ---------------------------------------------------------------- what it reaches


@torch.no_grad()
def scores(network: nn.Module | None, photos: Tensor, device: torch.device) -> dict[str, float]:
    """For each target the mean squared error and three averages in dB, over all photos. A network of None is the
    perfect photo: what the stretch alone leaves."""
    errors: dict[str, list[Tensor]] = {target: [] for target in TARGETS}
    found: dict[str, float] = {}
    with exact_float32():
        for chunk in photos.split(256):
            lr, gray = task_pair(*pair(chunk.to(device), "lecture", 4), "plain")
            output = gray if network is None else network(lr).float().clamp(0, 1)
            for target in TARGETS:
                hr = task_pair(*pair(chunk.to(device), "lecture", 4), target)[1]
                errors[target].append(metrics.mse(output, hr, crop_border=0, channels="as-is").cpu())
    for target, parts in errors.items():
        error = torch.cat(parts).clamp_min(1e-10)  # at most 100 dB
        batches = torch.stack([part.mean() for part in error.split(256)])
        found[f"{target}.mse"] = float(error.mean())
        found[f"{target}.median_mse"] = float(error.median())
        found[f"{target}.psnr_of_mean_mse"] = float(metrics.to_decibel(error.mean()))
        found[f"{target}.psnr_of_batches"] = float(metrics.to_decibel(batches).mean())
        found[f"{target}.psnr_mean"] = float(metrics.to_decibel(error).mean())
    return found


class Write(Callback):
    """The file, renewed with each row; its rows are the history of the training."""

    def __init__(self, file: Path | None, content: dict) -> None:
        self.file, self.content = file, content

    def at_log(self, trainer: Trainer, row: dict) -> None:
        row["faces"] = row["step"] * trainer.config.batch_size
        if self.file:
            write_json(self.file, self.content)


def train(args: argparse.Namespace) -> None:
    """Each target in turn; rows are written as they come."""
    device = choose_device(args.device)
    precision, reason = choose_precision(device, args.precision)
    store = open_store(args.data, resolve(args.runs), "lecture")
    photos = store.tensor("val")
    steps = round(args.faces / LECTURE.batch_size)
    config = replace(LECTURE, steps=steps, seed=args.seed, validate_every=max(1, steps // 25))
    words = ["--data", "FOLDER", "--targets", *args.targets, "--faces", str(args.faces), "--seed", str(args.seed)]
    content = {
        "command": " ".join(["python benchmarks/lecture.py train", *words]), "machine": machine(device),
        "precision": reason, "faces": args.faces, "different_faces": store.counts()["train"],
        "validation_faces": len(photos), "seed": args.seed, "floor": scores(None, photos, device),
        "bicubic": scores(Interpolation(), photos, device), "trained": {},
    }  # fmt: skip
    for target in args.targets:
        bar = tqdm(total=steps, unit="step", desc=target, leave=False)
        callbacks = [Measure(partial(scores, photos=photos, device=device)), Write(args.out, content), Bar(bar)]
        trainer = Trainer(config, store, device=device, precision=precision, callbacks=callbacks)
        trainer.examples = lambda crops, target=target: task_pair(*pair(crops, "lecture", 4), target)
        content["trained"][target] = trainer.history
        with bar:
            last = trainer.run().history[-1]
        own = [last[f"{target}.{name}"] for name in ("mse", "psnr_of_mean_mse", "psnr_of_batches", "psnr_mean")]
        print(f"{target:6} {last['faces']:,} faces, {last['seconds']:.0f} s: MSE {own[0]:.6f}, in dB {own[1]:.2f} "
              f"of the mean, {own[2]:.2f} mean of batches, {own[3]:.2f} mean of photos; "
              f"not stretched {last['plain.psnr_mean']:.2f}", flush=True)  # fmt: skip


# ---------------------------------------------------------------- how fast


def per_second(work: Callable, device: torch.device, seconds: float) -> float:
    """Calls per second, after three that warm up; the clock is read every tenth call."""
    for _ in range(3):
        work()
    synchronise(device)
    start, calls = time.perf_counter(), 0
    while True:
        for _ in range(10):
            work()
        synchronise(device)
        calls += 10
        if (passed := time.perf_counter() - start) > seconds:
            return calls / passed


def ceilings(device: torch.device, seconds: float) -> tuple[float, dict[torch.dtype, float]]:
    """Bytes per second of a copy, read and written; floating-point operations per second of a matrix product."""
    large = device.type == "cuda"
    side, room = (8192, 2**31) if large else (1024, 2**27)
    source = torch.rand(room // 4, device=device)
    target = torch.empty_like(source)
    bandwidth = per_second(lambda: target.copy_(source), device, seconds) * 2 * room
    products = {}
    with exact_float32():
        for dtype in (torch.float32, torch.bfloat16):
            a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
            products[dtype] = per_second(lambda a=a, b=b: a @ b, device, seconds) * 2 * side**3
    return bandwidth, products


def least_bytes(batch: int, size: int) -> int:
    """What a step has to move at the least: the uint8 photos; the target twice; each layer's output of ``size``
    bytes a number written once, read three times (next layer, its ReLU's and its weights' gradient), and its
    gradient written and read twice."""
    numbers = 44 * 44 * (64 + 64 + 32 + 16)
    return batch * (176 * 176 * (3 + 2 * 4) + numbers * size * 7)


def rates(args: argparse.Namespace) -> None:
    """A table: precision, plain or compiled, faces per second, the whole training, shares."""
    device = choose_device(args.device)
    store = open_store(args.data, resolve(args.runs), "lecture")
    bandwidth, products = ceilings(device, args.seconds / 4)
    print(machine(device))
    print(f"copy {bandwidth / 1e12:.2f} TB/s; matrix product float32 {products[torch.float32] / 1e12:.1f}, "
          f"bfloat16 {products[torch.bfloat16] / 1e12:.1f} TFLOP/s")  # fmt: skip
    operations = 6 * count_multiply_adds(build("subpixel", "gray-gray"), (1, 1, 44, 44)) * args.batch
    for dtype in (torch.float32, torch.bfloat16):
        for compiled in (False, True):
            config = replace(LECTURE, batch_size=args.batch)
            trainer = Trainer(config, store, device=device, precision=dtype, compile=compiled)

            def step(trainer: Trainer = trainer) -> None:
                trainer.train_step(*trainer.batch())
                trainer.step += 1

            with exact_float32():
                per = per_second(step, device, args.seconds)
                arithmetic = per * operations / products[dtype]
                memory = per * least_bytes(args.batch, 2 if dtype == torch.bfloat16 else 4) / bandwidth
                name = f"{str(dtype)[6:]}, {'compiled' if compiled else 'plain'}"
                print(f"  {name:20} {per * args.batch:10,.0f} faces/s, {1e3 / per:6.2f} ms a step, "
                      f"{FACES:,} in {FACES / args.batch / per:5.0f} s; {arithmetic:5.1%} of the arithmetic, "
                      f"at least {memory:5.1%} of the bandwidth", flush=True)  # fmt: skip
                if args.profile:
                    profile(step, device)


def profile(step: Callable, device: torch.device, steps: int = 10) -> None:
    """Kernels by time, and how much of the time the device is busy."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    synchronise(device)
    with torch.profiler.profile(activities=activities) as found:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronise(device)
        passed = time.perf_counter() - start
    cuda, kernels = device.type == "cuda", []
    for event in found.key_averages():
        if not cuda or event.device_type.name == "CUDA":
            kernels.append((event.self_device_time_total if cuda else event.self_cpu_time_total, event))
    busy = sum(microseconds for microseconds, _ in kernels)
    print(f"    {steps} steps under the profiler {1e3 * passed:.1f} ms, kernels {busy / 1e3:.1f} ms")
    for microseconds, event in sorted(kernels, key=lambda kernel: -kernel[0])[:14]:
        print(f"    {microseconds / steps / 1e3:7.3f} ms {event.count / steps:5.1f} x  {event.key[:100]}")


def main() -> None:
    """Time or train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("rates", "train"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each rate")
    parser.add_argument("--batch", type=int, default=256, help="of the rates")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--faces", type=int, default=FACES)
    parser.add_argument("--out", type=Path, help="JSON, written as rows come")
    args = parser.parse_args()
    (rates if args.what == "rates" else train)(args)


if __name__ == "__main__":
    main()
