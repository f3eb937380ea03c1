"""Trained models are shared, never silently: one folder per experiment, named by a hash of what shapes it."""

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from srlib.train import checkpoints, trainer as training
from srlib.data import Store
from srlib.train.losses import Loss
from srlib.train.trainer import TrainConfig

# Of the rest, how photos become a store is in the store's fingerprint already.
SOURCES = (
    "color.py", "config.py", "degrade.py", "losses.py", "metrics.py", "optimisers.py", "training.py",
    "data/batches.py", "models/*.py",
)  # fmt: skip
Measure = Callable[[nn.Module], dict[str, float]]


@dataclass
class Trained:
    """A trained network in eval mode, its history, and the key under which ``runs/`` keeps it."""

    model: nn.Module
    history: list[dict]
    key: str
    reused: bool


def _sources() -> str:
    """The code that a trained network depends on; a changed line anywhere in it makes new keys."""
    files = [file for pattern in SOURCES for file in Path(__file__).parent.glob(pattern)]
    return hashlib.sha256(b"".join(f.read_bytes() for f in sorted(files))).hexdigest()


def experiment_key(
    config: TrainConfig,
    store: Store,
    precision: torch.dtype,
    init: dict | None = None,
    loss: Loss | None = None,
    measure: Measure | None = None,
) -> str:
    """A hash of the config (its seed included), the data, the precision, the start and the code."""
    parts = {
        "config": asdict(config),
        "data": store.fingerprint,
        "precision": str(precision),
        "sources": _sources(),
        "loss": inspect.getsource(loss if inspect.isroutine(loss) else type(loss)) if loss else None,
    }
    if measure is not None:
        parts["measure"] = inspect.getsource(measure)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, value in (init or {}).items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return f"{config.model}-{config.task}-{digest.hexdigest()[:12]}"


def train_once(
    config: TrainConfig,
    store: Store,
    runs: Path,
    *,
    device: torch.device,
    precision: torch.dtype,
    fresh: float = 0.0,
    init: dict | None = None,
    loss: Loss | None = None,
    measure: Measure | None = None,
    on_log: Callable[[int, nn.Module, dict], None] | None = None,
    say: Callable[[str], None] = print,
) -> Trained:
    """Train, or load the same training from ``runs/experiments``; ``say`` gets one line that tells which.

    ``measure`` maps the averaged network to numbers that join every row of the history and are kept with it
    (its source is part of the key). An interrupted training goes on where it was. With ``on_log`` the
    training always runs, since what the callback saw is not kept. What was
    trained before ``fresh`` (seconds since 1970; infinity: ever) is trained again from the start.
    """
    key = experiment_key(config, store, precision, init, loss, measure)
    folder = runs / "experiments" / key
    done = folder / "model.pt"
    label = f"{config.model} {config.task}, seed {config.seed}"
    if _made_since(done, fresh) and on_log is None:
        model, _ = training.load_model(done, device)
        history = json.loads((folder / "history.json").read_text())
        say(f"{label}: loaded from runs/experiments/{key}, trained before in {history[-1]['seconds']:.0f} s")
        return Trained(model, history, key, True)

    def log(step: int, model: nn.Module, row: dict) -> None:
        if measure is not None:
            row.update(measure(model))
        if on_log is not None:
            on_log(step, model, row)

    resume = on_log is None and _made_since(folder / "last.pt", fresh)
    result = training.fit(
        config, store, device=device, precision=precision, out=folder, resume=resume, init=init, loss=loss,
        on_log=log,
    )  # fmt: skip
    write_result(folder, result, config)
    (folder / "last.pt").unlink(missing_ok=True)
    row = result.history[-1]
    went_on = "went on with and " if resume else ""
    score = f", validation {row['val_psnr']:.2f} dB" if "val_psnr" in row else ""
    say(f"{label}: {went_on}trained {row['step']} steps in {row['seconds']:.0f} s{score}")
    return Trained(result.model, result.history, key, False)


def _made_since(file: Path, moment: float) -> bool:
    return file.exists() and file.stat().st_mtime >= moment


def write_result(folder: Path, result: training.Fit, config: TrainConfig) -> None:
    """``history.json`` and ``model.pt`` (averaged weights), each written aside and renamed, the model last."""
    history = folder / "history.json"
    aside = history.with_name(".history.json")
    aside.write_text(json.dumps(result.history, indent=1))
    aside.replace(history)
    checkpoints.save(
        folder / "model.pt",
        {"format": checkpoints.FORMAT, "config": asdict(config), "average": result.model.state_dict()},
    )
