"""``python -m srlib train``: one network from photos to ``model.pt``, alone or under ``torchrun``."""

import argparse
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

import torch
import torch.distributed as dist

from srlib.data import open_store
from srlib.device import PRECISIONS, choose_device, choose_precision
from srlib.errors import DataError, UsageError
from srlib.files import atomic, resolve
from srlib.train import ranks
from srlib.train.callbacks import Bar, Save
from srlib.train.checkpoints import load_last, write_model
from srlib.train.config import MODEL_OPTIONS, TrainConfig
from srlib.train.losses import LOSSES
from srlib.train.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every field of :class:`TrainConfig` and every option of a network, by its name, and a few more."""
    hints = get_type_hints(TrainConfig)
    for entry in fields(TrainConfig):
        if entry.name != "options":
            choices = tuple(LOSSES) if entry.name == "loss" else entry.metadata.get("choices")
            note = "" if entry.default is None else f" (default {entry.default})"
            _add(parser, entry.name, hints[entry.name], entry.metadata["help"] + note, choices)
    for name, hint in MODEL_OPTIONS.items():
        _add(parser, name, hint, "of the network, instead of the model's own")
    add = parser.add_argument
    add("--data", default="sample", help="sample, or a folder of photos")
    add("--out", required=True, metavar="DIR", help="folder for last.pt, model.pt and history.json")
    add("--resume", action="store_true", help="go on from OUT/last.pt")
    add("--save-every", type=float, default=15, metavar="SECONDS", help="between two last.pt (default 15)")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--precision", default="auto", choices=PRECISIONS)
    add(
        "--compile",
        default="auto",
        choices=("auto", "on", "off"),
        help="torch.compile; auto: long trainings on CUDA",
    )
    add("--runs", default="runs", metavar="DIR", help="where stores are kept")


def _add(
    parser: argparse.ArgumentParser, name: str, hint: object, help: str, choices: tuple | None = None
) -> None:
    kind = next(k for k in get_args(hint) or (hint,) if k is not type(None))
    option = f"--{name.replace('_', '-')}"
    if kind is bool:
        parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=help)
    else:
        parser.add_argument(option, type=kind, choices=choices, help=help)


def main(args: argparse.Namespace) -> int:
    """Train; 0 when done. Under torchrun every process calls this and rank 0 writes."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    options = {n: None if v == "none" else v for n, v in given.items() if n in MODEL_OPTIONS}
    changes = {entry.name: given[entry.name] for entry in fields(TrainConfig) if entry.name in given}
    if "minutes" in changes and "steps" not in changes:
        changes["steps"] = None
    config = TrainConfig(**changes, options=options)
    out = resolve(args.out)
    last, model = out / "last.pt", out / "model.pt"
    if args.resume and not last.exists():
        raise UsageError(f"{last}: nothing to resume; leave --resume out to start")
    for file in (model, last):
        if file.exists() and not args.resume:
            raise UsageError(f"{file} exists: choose another --out, or --resume to go on with {last.name}")
    _require_writable(out)
    device = ranks.start(choose_device(args.device))
    rank, world = ranks.rank_and_world()
    try:
        precision, reason = choose_precision(device, args.precision) if rank == 0 else (torch.float32, "")
        precision, reason = ranks.gather((precision, reason))[
            0
        ]  # a measurement, so the first process takes it for all
        store = open_store(args.data, resolve(args.runs), config.crop)
        long = (config.steps or 0) >= 2000 or (config.minutes or 0) >= 5
        pays = device.type == "cuda" and find_spec("triton") is not None and long  # compiling takes half a minute
        trainer = Trainer(
            config, store, device=device, precision=precision, callbacks=[Save(last, args.save_every), Bar()],
            compile=args.compile == "on" or (args.compile == "auto" and pays),
        )  # fmt: skip
        if rank == 0:
            print(store.describe())
            print(f"{config.model} {config.task} on {device.type}, {world} process(es), {reason}", flush=True)
        if args.resume:
            trainer.load_state_dict(load_last(last, config, device))
        trainer.run()
        if rank == 0:
            write_model(out, trainer)
            row = trainer.history[-1]
            score = f", validation {row['val_psnr']:.2f} dB" if "val_psnr" in row else ""
            seen = row["step"] * config.batch_size
            print(f"{row['step']:,} steps, {seen:,} crops in {row['seconds']:.0f} s{score}")
            print(f"wrote {model} and {out / 'history.json'}")
    except FloatingPointError as error:
        raise DataError(f"{error}; {last} holds the last good state" if last.exists() else str(error)) from None
    except RuntimeError as error:
        if world == 1 or isinstance(error, DataError):
            raise
        raise DataError(
            f"process {rank} of {world} stops ({str(error).splitlines()[0]}): where another one has ended first, "
            f"its message says why. What {last} holds is good: --resume goes on from there"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def _require_writable(folder: Path) -> None:
    probe = folder / "probe"
    try:
        with atomic(probe) as aside:
            aside.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot be written ({error.strerror})") from None
