"""Trained models are shared, never silently: one folder per experiment, named by a hash of what shapes it."""

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from srlib.data import Store
from srlib.train import checkpoints
from srlib.train.callbacks import Bar, Callback, Measure, Save
from srlib.train.config import TrainConfig
from srlib.train.losses import Loss
from srlib.train.trainer import Trainer

# Raise this by hand when a change of the code changes what a training gives; tests/test_experiments.py says when.
# Networks of an earlier recipe are then trained again; an edited docstring discards nothing.
RECIPE = 1


@dataclass
class Trained:
    """A trained network in eval mode, its history, and the key under which ``runs/`` keeps it."""

    model: nn.Module
    history: list[dict]
    key: str
    reused: bool


def experiment_key(config: TrainConfig, store: Store, precision: torch.dtype, init: dict | None = None,
                   *functions: Callable | None) -> str:  # fmt: skip
    """A hash of config (its seed included), data, precision, start weights, recipe and the caller's functions."""
    told = [identity(function) for function in functions if function is not None]
    parts = [asdict(config), store.fingerprint, str(precision), RECIPE, told]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, value in (init or {}).items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return f"{config.model}-{config.task}-{digest.hexdigest()[:12]}"


def identity(value: Any, within: tuple = ()) -> Any:
    """What a callable does, as text: a function's source, with the numbers, texts, tensors and functions that it
    encloses or has as defaults; of any other object its ``repr``, which has to name its settings."""
    if isinstance(value, Tensor):
        return hashlib.sha256(repr((value.dtype, value.shape, value.tolist())).encode()).hexdigest()
    value = value.__func__ if inspect.ismethod(value) else value
    if not inspect.isfunction(value):
        return value if isinstance(value, int | float | str) else repr(value)
    if value in within:  # it calls itself
        return value.__qualname__
    told = [*enumerate(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
    told += inspect.getclosurevars(value).nonlocals.items()
    kinds = int | float | str | Tensor | FunctionType  # a list, say, may change as the function runs
    parts = [(name, identity(of, (*within, value))) for name, of in told if isinstance(of, kinds)]
    return inspect.getsource(value) + str(parts)


def train_once(config: TrainConfig, store: Store, runs: Path, *, device: torch.device, precision: torch.dtype,
               fresh: float = 0.0, init: dict | None = None, loss: Loss | None = None,
               measure: Callable[[nn.Module], dict[str, Any]] | None = None, say: Callable[[str], None] = print,
               save_seconds: float = 15.0) -> Trained:  # fmt: skip
    """Train, or load the same training from ``runs/experiments``; ``say`` gets one line that tells which.

    ``measure`` maps the averaged network to numbers that join every row of the history. An interrupted training
    goes on where it was. What was trained before ``fresh`` (seconds since 1970; infinity: ever) is trained anew.
    """
    key = experiment_key(config, store, precision, init, loss, measure)
    folder, label = runs / "experiments" / key, f"{config.model} {config.task}, seed {config.seed}"
    there = {file.name for file in folder.glob("*.pt") if file.stat().st_mtime >= fresh}
    if "model.pt" in there:
        model, _ = checkpoints.load_model(folder / "model.pt", device)
        history = json.loads((folder / "history.json").read_text())
        say(f"{label}: loaded from runs/experiments/{key}, trained before in {history[-1]['seconds']:.0f} s")
        return Trained(model, history, key, True)
    callbacks: list[Callback] = [Measure(measure)] if measure else []
    callbacks += [Save(folder / "last.pt", save_seconds), Bar()]
    trainer = Trainer(config, store, device=device, precision=precision, init=init, loss=loss, callbacks=callbacks)
    done = checkpoints.run_in(folder, trainer, resume="last.pt" in there)
    (folder / "last.pt").unlink(missing_ok=True)
    say(f"{label}: {'went on with and ' if 'last.pt' in there else ''}trained {done}")
    return Trained(trainer.average.model, trainer.history, key, False)
