"""What trainings leave: checkpoints, whole and without code, and experiments, found by what shapes them."""

import hashlib
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from srlib.data import Store
from srlib.errors import DataError, UsageError
from srlib.files import atomic, write_json
from srlib.models import build
from srlib.train import ranks
from srlib.train.callbacks import Bar, Callback, Measure
from srlib.train.config import TrainConfig
from srlib.train.losses import Loss
from srlib.train.trainer import Trainer

FORMAT = "srlib-1"
RECIPE = 1  # raised by hand when the code changes what a training gives; tests/test_experiments.py says when


def save(path: Path, content: dict) -> None:
    """Write a checkpoint of tensors and plain values, whole or not at all. DataError: there is no room for it."""
    try:
        with atomic(path) as aside:
            torch.save({"format": FORMAT, **content}, aside)
    except RuntimeError as error:  # PyTorch's, in its own words
        raise DataError(f"{path} cannot be written: is the disk full? ({str(error).splitlines()[0]})") from error


def load(path: Path) -> dict:
    """Read a checkpoint, to the CPU; UsageError where it is missing, damaged, holds code, or is none of ours."""
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of many types; PyTorch's words may recommend to run the file's code: not passed on
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        why = "it is damaged, comes from elsewhere, or holds pickled code, which srlib never runs"
        raise UsageError(f"{path}: not a checkpoint of srlib: {why}; make it anew by python -m srlib train")
    return content


class Save(Callback):
    """``last.pt``, from which a training goes on: at rows ``seconds`` apart by rank 0's clock, and at the last."""

    def __init__(self, file: Path, seconds: float = 15.0) -> None:
        self.file, self.seconds, self.saved = file, seconds, perf_counter()

    def at_log(self, trainer: Trainer, row: dict) -> None:
        if ranks.gather(perf_counter() - self.saved)[0] >= self.seconds or trainer.share >= 1:
            state, self.saved = trainer.state_dict(), perf_counter()
            if trainer.rank == 0:
                save(self.file, state)


def take_up(path: Path, trainer: Trainer) -> None:
    """Go on with an interrupted training; UsageError for another config or photos, or of another version."""
    state, here = load(path), asdict(trainer.config) | {"photos": trainer.early.store.fingerprint}
    there = state["config"] | {"photos": state.get("photos", here["photos"])}
    if lines := [f"  {k}: {there.get(k)!r} there, {v!r} here" for k, v in here.items() if there.get(k) != v]:
        raise UsageError(f"{path} belongs to another training:\n" + "\n".join(lines))
    try:
        trainer.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError):
        raise UsageError(f"{path}: a training of another version, which cannot go on: begin it anew") from None


def run_in(out: Path, trainer: Trainer, resume: bool, save_seconds: float = 15.0) -> str:
    """Train to the end, from ``last.pt`` to ``resume``; write ``history.json``, ``model.pt``. What was done."""
    if resume:
        take_up(out / "last.pt", trainer)
    c, how = trainer.config, {"unit": "step", "leave": False, "disable": trainer.rank > 0}
    with tqdm(total=c.steps, initial=trainer.step, desc=f"{c.model} {c.task}", **how) as bar:
        trainer.callbacks += [Save(out / "last.pt", save_seconds), Bar(bar)]
        row = trainer.run().history[-1]
    if trainer.rank == 0:
        write_json(out / "history.json", trainer.history)
        save(out / "model.pt", {"config": asdict(trainer.config), "average": trainer.average.model.state_dict()})
    score = f", validation {row['val_psnr']:.2f} dB" if "val_psnr" in row else ""
    return f"{row['step']:,} steps in {row['seconds']:.0f} s{score}"


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, TrainConfig]:
    """The averaged network of a ``model.pt`` in eval mode, and its config. UsageError: none, or not known here."""
    content = load(path)
    try:
        config = TrainConfig(**{k: v for k, v in content["config"].items() if k in TrainConfig.__annotations__})
        model = build(config.model, config.task, config.scale, **config.options)
        model.load_state_dict(content["average"])
    except (KeyError, ValueError, RuntimeError) as error:
        why = f"a network of another version ({str(error).splitlines()[0]})"
        raise UsageError(f"{path}: {why}: make it anew by python -m srlib train") from None
    return model.to(device).eval(), config


class Trained(NamedTuple):
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
    """Train, or load the same training from ``runs/experiments``; ``say`` gets one line that tells which. Numbers
    that ``measure`` finds in the averaged network join every row of the history. An interrupted training goes on
    where it was. What is older than ``fresh`` (seconds since 1970; infinity: all) is trained anew."""
    key = experiment_key(config, store, precision, init, loss, measure)
    folder, label = runs / "experiments" / key, f"{config.model} {config.task}, seed {config.seed}"
    there = {file.name for file in folder.glob("*.pt") if file.stat().st_mtime >= fresh}
    if "model.pt" in there:
        model, _ = load_model(folder / "model.pt", device)
        history = json.loads((folder / "history.json").read_text())
        say(f"{label}: loaded from runs/experiments/{key}, trained before in {history[-1]['seconds']:.0f} s")
        return Trained(model, history, key, True)
    callbacks = [Measure(measure)] if measure else []
    trainer = Trainer(config, store, device=device, precision=precision, init=init, loss=loss, callbacks=callbacks)
    done = run_in(folder, trainer, "last.pt" in there, save_seconds)
    (folder / "last.pt").unlink(missing_ok=True)
    say(f"{label}: {'went on with and ' if 'last.pt' in there else ''}trained {done}")
    return Trained(trainer.average.model, trainer.history, key, False)
