"""Checkpoints: tensors and plain values, written whole or not at all, read without unpickling any code."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from srlib.errors import UsageError
from srlib.files import atomic, write_json
from srlib.models import build
from srlib.train.config import TrainConfig

if TYPE_CHECKING:
    from srlib.train.trainer import Trainer

FORMAT = "srlib-1"


def save(path: Path, content: dict) -> None:
    """Write a checkpoint."""
    with atomic(path) as aside:
        torch.save({"format": FORMAT, **content}, aside)


def load(path: Path) -> dict:
    """Read a checkpoint, to the CPU; UsageError where it is missing, damaged, holds code, or is none of ours."""
    if not Path(path).is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of many types; PyTorch's words may recommend to run the file's code: not passed on
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        why = "it is damaged, comes from elsewhere, or holds pickled code, which srlib never runs"
        raise UsageError(f"{path}: not a checkpoint of srlib: {why}; make it anew by python -m srlib train")
    return content


def take_up(path: Path, trainer: "Trainer") -> None:
    """Go on with an interrupted training; UsageError for another config, with the differences, or version."""
    state, here = load(path), asdict(trainer.config)
    there = state["config"]
    if lines := [f"  {k}: {there.get(k)!r} there, {v!r} here" for k, v in here.items() if there.get(k) != v]:
        raise UsageError(f"{path} belongs to another training:\n" + "\n".join(lines))
    try:
        trainer.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError):
        raise UsageError(f"{path}: a training of another version, which cannot go on: begin it anew") from None


def run_in(folder: Path, trainer: "Trainer", resume: bool) -> str:
    """Train to the end, from ``last.pt`` to ``resume``; write ``history.json``, ``model.pt``. What was done."""
    if resume:
        take_up(folder / "last.pt", trainer)
    trainer.run()
    if trainer.rank == 0:
        write_json(folder / "history.json", trainer.history)
        model = {"config": asdict(trainer.config), "average": trainer.average.model.state_dict()}
        save(folder / "model.pt", model)
    row = trainer.history[-1]
    score = f", validation {row['val_psnr']:.2f} dB" if "val_psnr" in row else ""
    return f"{row['step']:,} steps in {row['seconds']:.0f} s{score}"


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, TrainConfig]:
    """The averaged network of a ``model.pt`` in eval mode, and the config that it was trained by; UsageError where
    it is none, or of a network that this version does not know."""
    content = load(path)
    try:
        known = {entry.name for entry in fields(TrainConfig)} & content["config"].keys()
        config = TrainConfig(**{name: content["config"][name] for name in known})
        model = build(config.model, config.task, config.scale, **config.options)
        model.load_state_dict(content["average"])
    except (KeyError, ValueError, RuntimeError) as error:
        why = f"a network of another version ({str(error).splitlines()[0]})"
        raise UsageError(f"{path}: {why}: make it anew by python -m srlib train") from None
    return model.to(device).eval(), config
