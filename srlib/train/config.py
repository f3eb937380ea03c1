"""What shapes a training: one frozen dataclass, checked where it is made, and the learning rate that follows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_type_hints

from srlib.data.store import CROPS, SIDE
from srlib.errors import UsageError
from srlib.images import degrade, tasks
from srlib.models import MODELS, bodies, networks, upscaler
from srlib.train.losses import LEAST_SIDE, LOSSES

# What `options` may hold: the arguments of srlib.models.upscaler that a task does not decide; and their limits.
_BY_TASK = ("in_channels", "out_channels", "scale", "return")
MODEL_OPTIONS = {name: hint for name, hint in get_type_hints(upscaler).items() if name not in _BY_TASK}
_LIMITS: dict[str, dict[str, Any]] = {
    "body": {"choices": bodies.BODIES}, "head": {"choices": bodies.HEADS}, "width": {"low": 2},
    "skip": {"choices": degrade.INTERPOLATIONS}, "init": {"choices": networks.INITIALISATIONS},
    "depth": {"low": 0}, "dropout": {"low": 0, "below": 1}, "leak": {"low": 0, "below": 1},
}  # fmt: skip


def _field(default: Any, help: str, **limits: Any) -> Any:
    """A field with the help of its option and its limits: ``choices``, ``low``, ``above``, ``high``, ``below``."""
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that shapes a training; each field is an option of ``srlib train``. ``options`` go to
    :func:`srlib.models.build`. ``loss`` is a key of ``losses.LOSSES``, or the name of a callable that is given to
    the trainer. UsageError names a field of a wrong type or out of its range."""

    model: str = _field("residual", "which network", choices=tuple(MODELS))
    task: str = _field("rgb-rgb", "what it sees and makes", choices=tuple(tasks.TASKS))
    options: dict = field(default_factory=dict, metadata={"help": "changes to the network"})
    steps: int | None = _field(600, "length in steps", low=1)
    minutes: float | None = _field(None, "length in minutes of training, instead of steps", above=0)
    batch_size: int = _field(16, "crops per step, over all processes", low=1)
    patch: int = _field(88, "side of an HR crop in pixels, a multiple of the scale", low=1, high=SIDE)
    late_patch: int = _field(0, "side of the crops late in the training, 0 for no change", low=0, high=SIDE)
    late_share: float = _field(0.25, "share of the training that is late", low=0, high=1)
    optimiser: str = _field("adam", "adam, or muon for kernels and Adam for biases", choices=("adam", "muon"))
    learning_rate: float = _field(2e-3, "rate at the start, after the warm-up", above=0)
    final_learning_rate: float = _field(1e-5, "rate at the end", above=0)
    weight_decay: float = _field(0.0, "share of the kernels, times the rate, that each step takes away", low=0)
    schedule: str = _field("cosine", "how the rate falls", choices=("cosine", "exponential", "constant"))
    warmup: int = _field(20, "steps of linear rise at the start", low=0)
    loss: str = _field("mse", f"what is minimised: {', '.join(LOSSES)}")
    ema: float = _field(0.99, "decay of the running average of the weights, 0 for none", low=0, below=1)
    clip: float = _field(1.0, "largest norm of the gradient, 0 for none", low=0)
    kernel: str = _field("bicubic", "how LR is made", choices=tasks.DEGRADATIONS)
    crop: str = _field("center", "how photos are cut", choices=CROPS)
    scale: int = _field(4, "HR pixels per LR pixel and axis", low=1)
    seed: int = _field(0, "seed of start weights, crops and dropout", low=0, high=2**63 - 1)
    validate_every: int = _field(100, "steps between two rows of the history", low=1)
    validate_photos: int = _field(16, "validation photos that each row scores", low=1)

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check(entry.name, getattr(self, entry.name), entry.type, entry.metadata)
        for name, value in self.options.items():
            if name not in MODEL_OPTIONS:
                raise UsageError(f"options: a network has no {name!r}: choose from {', '.join(MODEL_OPTIONS)}")
            _check(name, value, MODEL_OPTIONS[name], _LIMITS.get(name, {}))
        if (self.steps is None) == (self.minutes is None):
            raise UsageError(f"give steps or minutes, one of them: got {self.steps} and {self.minutes}")
        if SIDE % self.scale:
            raise UsageError(f"scale (--scale): photos have {SIDE} pixels a side, no multiple of {self.scale}")
        for name, option in (("patch", "--patch"), ("late_patch", "--late-patch")):
            if (side := getattr(self, name)) % self.scale:
                raise UsageError(f"{name} ({option}): need a multiple of the scale {self.scale}, got {side}")
            if 0 < side < (least := LEAST_SIDE.get(self.loss, 1)):
                raise UsageError(f"{name} ({option}): the loss {self.loss} needs at least {least}, got {side}")


def _check(name: str, value: Any, hint: Any, limits: Mapping[str, Any]) -> None:
    """Refuse a value of another type than ``hint``, or outside ``limits``."""
    kinds, choices = get_args(hint) or (hint,), limits.get("choices")
    low, above = (limits.get(bound, -math.inf) for bound in ("low", "above"))
    high, below = (limits.get(bound, math.inf) for bound in ("high", "below"))
    fits = type(value) in kinds or (float in kinds and type(value) is int)
    if fits and type(value) in (int, float):
        fits = low <= value <= high and above < value < below  # so it is finite, too
    if not fits or (choices and value not in (None, *choices)):  # None has passed the check of types
        words = {int: "a whole number", float: "a number", bool: "true or false", dict: "a dict", str: "a text"}
        bounds = (("at least", low), ("above", above), ("at most", high), ("below", below))
        need = words[kinds[0]] + ",".join(f" {word} {limit:g}" for word, limit in bounds if math.isfinite(limit))
        need = f"one of {', '.join(choices)}" if choices else need
        raise UsageError(f"{name} (--{name.replace('_', '-')}): need {need}, got {value!r}")


def learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    """The rate at a step; ``progress`` runs from 0 to 1 over the training."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    start, end = config.learning_rate, config.final_learning_rate
    if config.schedule == "constant":
        return rise * start
    if config.schedule == "exponential":
        return rise * start * (end / start) ** progress
    return rise * (end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress)))
