"""``python -m srlib train``: one network from photos to ``model.pt``, alone or under ``torchrun``."""

import argparse
import datetime
import os
import re
from pathlib import Path

import torch
import torch.distributed as dist

from srlib.train.config import OPTIMISERS, SCHEDULES, TrainConfig
from srlib.data import CROPS, open_store
from srlib.images.degrade import KERNELS
from srlib.errors import DataError, UsageError
from srlib.train.experiments import write_result
from srlib.device import choose_device, choose_precision, resolve_runs
from srlib.models import MODELS, TASKS
from srlib.train.trainer import fit

# How gloo and NCCL say that a process at the other end is gone.
LOST_PEER = re.compile(r"(?i)connection (closed|reset) by peer|broken pipe|remote process exited")
PRECISIONS = {"auto": None, "bfloat16": torch.bfloat16, "float32": torch.float32}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``train``; what is not given is as in :class:`srlib.train.trainer.TrainConfig`."""
    default = TrainConfig()
    add = parser.add_argument
    add("--data", default="sample", help="sample, or a folder of photos")
    add("--task", default=default.task, choices=TASKS)
    add("--model", default=default.model, choices=MODELS)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help=f"length in steps (default {default.steps})")
    length.add_argument("--minutes", type=float, help="length in minutes of training")
    add("--batch-size", type=int, default=default.batch_size, help="crops per step, over all processes")
    add("--patch", type=int, default=default.patch, help="side of an HR crop in pixels, at most 176")
    add("--late-patch", type=int, default=default.late_patch, help="side in the last quarter of the training")
    add("--crop", default=default.crop, choices=CROPS, help="how faces of CelebA are cut")
    add("--kernel", default=default.kernel, choices=KERNELS, help="how LR is made")
    add("--optimiser", default=default.optimiser, choices=OPTIMISERS)
    add("--learning-rate", type=float, default=default.learning_rate)
    add("--final-learning-rate", type=float, default=default.final_learning_rate)
    add("--schedule", default=default.schedule, choices=SCHEDULES)
    add("--loss", default=default.loss)
    add("--ema", type=float, default=default.ema, help="decay of the averaged weights, 0 for none")
    add("--validate-every", type=int, default=default.validate_every, metavar="STEPS")
    add("--seed", type=int, default=default.seed)
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--precision", default="auto", choices=PRECISIONS)
    add("--runs", default="runs", help="where stores are kept")
    add("--out", required=True, help="folder for last.pt, model.pt and history.json")
    add("--resume", action="store_true", help="go on from OUT/last.pt")


def main(args: argparse.Namespace) -> int:
    """Train; 0 when done. Under torchrun every process calls this and rank 0 writes."""
    steps = TrainConfig.steps if args.steps is None and args.minutes is None else args.steps
    config = TrainConfig(
        model=args.model, task=args.task, steps=steps, minutes=args.minutes, batch_size=args.batch_size,
        patch=args.patch, late_patch=args.late_patch, crop=args.crop, kernel=args.kernel,
        optimiser=args.optimiser, learning_rate=args.learning_rate, final_learning_rate=args.final_learning_rate,
        schedule=args.schedule, loss=args.loss, ema=args.ema, validate_every=args.validate_every,
        seed=args.seed,
    )  # fmt: skip
    out = Path(args.out)
    if (out / "model.pt").exists() and not args.resume:
        raise UsageError(f"{out / 'model.pt'} exists: choose another --out, or --resume to go on or to keep it")
    if (out / "last.pt").exists() and not args.resume:
        raise UsageError(f"{out / 'last.pt'} exists: add --resume to go on with it, or choose another --out")
    if args.resume and not (out / "last.pt").exists():
        raise UsageError(f"{out / 'last.pt'}: nothing to resume; leave --resume out to start")
    device = choose_device(args.device)
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if world > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=10))
    precision, reason = PRECISIONS[args.precision], f"{args.precision} as asked"
    if precision is None:  # a measurement, so the first process takes it for all
        chosen = [*choose_precision(device)] if rank == 0 else [None, None]
        if world > 1:
            dist.broadcast_object_list(chosen, 0)
        precision, reason = chosen
    try:
        store = open_store(args.data, resolve_runs(args.runs), args.crop)
        if rank == 0:
            print(store.describe())
            print(f"{config.model} {config.task} on {device.type}, {world} process(es), {reason}", flush=True)
        result = fit(config, store, device=device, precision=precision, out=out, resume=args.resume)
        if rank == 0:
            write_result(out, result, config)
            row = result.history[-1]
            score = f", validation {row['val_psnr']:.2f} dB" if "val_psnr" in row else ""
            seen = row["step"] * config.batch_size
            print(f"{row['step']:,} steps, {seen:,} crops in {row['seconds']:.0f} s{score}")
            print(f"wrote {out / 'model.pt'} and {out / 'history.json'}")
    except RuntimeError as error:
        lost = LOST_PEER.search(str(error))
        if world == 1 or not lost:
            raise
        raise DataError(
            f"process {rank} of {world} stops, since another one has ended ({lost.group()}); "
            f"what {out / 'last.pt'} holds is good: --resume goes on from there"
        ) from None
    finally:
        if world > 1 and dist.is_initialized():
            dist.destroy_process_group()
    return 0
