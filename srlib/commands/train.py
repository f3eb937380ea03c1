"""``python -m srlib train``: one network from photos to ``model.pt``, alone or under ``torchrun``."""

import os
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import get_args, get_type_hints

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout

from srlib.data import open_store
from srlib.device import PRECISIONS, choose_device, choose_precision, out_of_memory
from srlib.errors import DataError, UsageError
from srlib.files import resolve
from srlib.train import checkpoints, ranks
from srlib.train.config import MODEL_OPTIONS, TrainConfig
from srlib.train.trainer import Trainer


def add_arguments(parser: ArgumentParser) -> None:
    """Every field of :class:`TrainConfig` and every option of a network, by its name, and a few more."""
    add, own = parser.add_argument, {"help": "of the network, instead of the model's own"}
    about = {entry.name: entry.metadata for entry in fields(TrainConfig) if entry.name != "options"}
    hints = get_type_hints(TrainConfig) | MODEL_OPTIONS
    for name, text in (about | dict.fromkeys(MODEL_OPTIONS, own)).items():
        kind = (get_args(hints[name]) or (hints[name],))[0]  # int of "int | None"
        how = {"action": BooleanOptionalAction} if kind is bool else {"type": kind, "choices": text.get("choices")}
        default = getattr(TrainConfig, name, None)
        help = text["help"] + (f" (default {default})" if default is not None else "")
        add(f"--{name.replace('_', '-')}", help=help, **how)
    add("--data", default="sample", help="sample, or a folder of photos")
    add("--out", required=True, metavar="DIR", help="folder for last.pt, model.pt and history.json")
    add("--start", metavar="FILE", help="start from the weights of this model.pt, of the same network")
    add("--resume", action="store_true", help="go on from OUT/last.pt")
    add("--save-every", type=float, default=15, metavar="SECONDS", help="between two last.pt (default 15)")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--precision", default="auto", choices=PRECISIONS)
    add("--compile", default="auto", choices=("auto", "on", "off"), help="auto: long trainings on CUDA")
    add("--runs", default="runs", metavar="DIR", help="where stores are kept")


def _start(file: str, config: TrainConfig) -> dict:
    """The weights of a checkpoint; UsageError where it holds another network than the config names."""
    network, other = checkpoints.load_model(Path(file))
    for name in ("model", "task", "scale", "options"):
        if (theirs := getattr(other, name)) != (ours := getattr(config, name)):
            raise UsageError(f"--start {file}: its {name} is {theirs!r}, here it is {ours!r}")
    return network.state_dict()


def main(args: Namespace) -> int:
    """Train; 0 when done. Under torchrun every process calls this and rank 0 writes."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    options = {name: None if given[name] == "none" else given[name] for name in MODEL_OPTIONS if name in given}
    changes = {entry.name: given[entry.name] for entry in fields(TrainConfig) if entry.name in given}
    if "minutes" in changes:
        changes.setdefault("steps", None)
    config = TrainConfig(**changes, options=options)
    init = _start(args.start, config) if args.start else None
    out = resolve(args.out)
    last, model = out / "last.pt", out / "model.pt"
    if args.resume and not last.exists():
        raise UsageError(f"{last}: nothing to resume; leave --resume out to start")
    for file in (model, last):
        if file.exists() and not args.resume:
            raise UsageError(f"{file} exists: choose another --out, or --resume to go on with {last.name}")
    lock = FileLock(out / ".lock")
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
        if os.environ.get("RANK", "0") == "0":  # which writes for all
            lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"--out {out}: another training is at work there") from None
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written or locked ({error.strerror})") from None
    device = ranks.start(choose_device(args.device))
    rank, world = ranks.rank_and_world()
    try:
        precision, reason = ranks.gather(choose_precision(device, args.precision))[0]  # one for all
        store = open_store(args.data, args.runs, config.crop)
        if len(set(ranks.gather(store.fingerprint))) > 1:
            raise UsageError(f"--data {args.data}: the processes find different photos there")
        long = (config.steps or 0) >= 2000 or (config.minutes or 0) >= 5  # compiling takes half a minute
        able = find_spec("triton") is not None and torch.__version__ >= "2.15"  # 2.11 fails on a tied head
        fast = args.compile == "on" or (args.compile == "auto" and device.type == "cuda" and able and long)
        trainer = Trainer(config, store, device=device, precision=precision, init=init, compile=fast)
        if rank == 0:
            print(store.describe())
            print(f"{config.model} {config.task} on {device.type}, {world} process(es), {reason}", flush=True)
        done = checkpoints.run_in(out, trainer, args.resume, args.save_every)
        if rank == 0:
            print(f"{done}\nwrote {model} and {out / 'history.json'}")
    except FloatingPointError as error:
        raise DataError(f"{error}; {last} holds the last good state" if last.exists() else str(error)) from None
    except RuntimeError as error:
        if out_of_memory(error):
            raise DataError("memory is full: choose a smaller --batch-size, --patch or network") from error
        if world == 1 or isinstance(error, DataError):
            raise
        stops = f"process {rank} of {world} stops ({str(error).splitlines()[0]})"
        todo = f"its message says why. What {last} holds is good: --resume goes on from there"
        raise DataError(f"{stops}: where another one has ended first, {todo}") from error
    finally:
        lock.release()
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0
