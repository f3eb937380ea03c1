"""Checkpoints: tensors and plain values, written aside and renamed, read without unpickling any code."""

import os
from pathlib import Path

import torch
from torch import Tensor

from srlib.errors import UsageError

FORMAT = "srlib-1"


def save(path: Path, content: dict) -> None:
    """Write aside, then rename: a crash leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(content, aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def load(path: Path, device: torch.device | str = "cpu") -> dict:
    """Read a checkpoint without unpickling any code.

    Raises:
        UsageError: the file is missing, damaged, or no checkpoint of ours.
    """
    if not Path(path).is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UsageError(f"{path}: not a checkpoint of srlib ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{path}: not a checkpoint of srlib (no format mark)")
    return content


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of the generators that Dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """The inverse of :func:`random_state`."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def require_same(saved: dict, wanted: dict, path: Path) -> None:
    """Refuse to go on with the checkpoint of another config, listing the differences.

    Raises:
        UsageError: any value differs.
    """
    lines = [f"  {k}: {saved.get(k)!r} there, {v!r} here" for k, v in wanted.items() if saved.get(k) != v]
    if lines:
        raise UsageError(f"{path} belongs to another training:\n" + "\n".join(lines))
