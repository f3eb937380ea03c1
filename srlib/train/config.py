"""What shapes a training, in one frozen dataclass, and the learning rate that follows from it."""

import math
from dataclasses import dataclass, field

from srlib.errors import UsageError

SCHEDULES = ("cosine", "exponential", "constant")
OPTIMISERS = ("adam", "muon")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that shapes a training. ``options`` go to :func:`srlib.models.build`.

    Attributes:
        steps: length in steps, or None where ``minutes`` gives the length in time.
        batch_size: crops per step over all processes. patch: side of an HR crop in pixels.
        late_patch: side of the crops in the last ``late_share`` of the training, where 0 means no change. Small
            crops are many and cheap, but much of them lies at a border that whole photos do not have.
        optimiser: ``adam``, or ``muon`` for the kernels (and Adam for biases), see :mod:`srlib.train.optimisers`.
        schedule: from ``learning_rate`` to ``final_learning_rate`` by a cosine or exponentially (the
            lecture's 1e-2 to 1e-3), after ``warmup`` steps of linear rise; or constant.
        ema: decay of the running average of the weights, which is what ``fit`` returns; 0 for none.
        clip: largest norm of the gradient; 0 for none.
        loss: a key of ``srlib.train.losses.LOSSES``, or the name of a callable that is given to ``fit``.
        crop: how faces of CelebA were cut when the store was made; recorded, not applied here.
    """

    model: str = "residual"
    task: str = "rgb-rgb"
    options: dict = field(default_factory=dict)
    steps: int | None = 600
    minutes: float | None = None
    batch_size: int = 16
    patch: int = 88
    late_patch: int = 0
    late_share: float = 0.25
    optimiser: str = "adam"
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    schedule: str = "cosine"
    warmup: int = 20
    loss: str = "mse"
    ema: float = 0.99
    clip: float = 1.0
    kernel: str = "bicubic"
    crop: str = "center"
    scale: int = 4
    seed: int = 0
    validate_every: int = 100

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError(f"give steps or minutes, not both: got {self.steps} and {self.minutes}")
        length = self.steps if self.minutes is None else self.minutes
        if length <= 0:
            raise UsageError(f"steps and minutes must be positive, got {length}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"unknown schedule {self.schedule!r}: choose from {', '.join(SCHEDULES)}")
        if self.optimiser not in OPTIMISERS:
            raise UsageError(f"unknown optimiser {self.optimiser!r}: choose from {', '.join(OPTIMISERS)}")
        if self.learning_rate <= 0 or self.final_learning_rate <= 0:
            raise UsageError("learning rates must be positive")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must lie in [0, 1), got {self.ema}")


def learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    """The rate at a step; ``progress`` runs from 0 to 1 over the training."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    start, end = config.learning_rate, config.final_learning_rate
    if config.schedule == "constant":
        return rise * start
    if config.schedule == "exponential":
        return rise * start * (end / start) ** progress
    return rise * (end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress)))
