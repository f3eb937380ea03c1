"""Does a batch fit into a GPU's memory? Asked before training, so that all ranks stop together and by name."""

from collections.abc import Callable
from copy import copy, deepcopy
from typing import TYPE_CHECKING

import torch

from srlib.errors import UsageError
from srlib.images.tasks import TASKS
from srlib.train import ranks

if TYPE_CHECKING:
    from srlib.train.trainer import Trainer


def fits(attempt: Callable[[int], object], size: int) -> bool:
    """Whether an attempt stays within memory. Its activations are freed when this returns; a search inside the
    handler would keep them alive through the traceback, and name too small a batch."""
    try:
        attempt(size)
    except torch.OutOfMemoryError:
        return False
    return True


def require_fits(trainer: "Trainer") -> None:
    """Try a forward and backward pass of the largest batch to come, on copies of network and loss; UsageError on
    every rank if one of them has no room, with a size that fits."""
    config, trial = trainer.config, copy(trainer)
    trial.network, trial.loss = deepcopy((trainer.model, trainer.loss))
    side, (channels, out) = max(config.patch, config.late_patch), TASKS[config.task]

    def attempt(size: int) -> None:
        lr = torch.zeros(size, channels, side // config.scale, side // config.scale, device=trainer.device)
        trial.forward_and_loss(lr, torch.zeros(size, out, side, side, device=trainer.device)).backward()

    size = share = config.batch_size // trainer.world
    while size and not fits(attempt, size):
        size //= 2
    size = ranks.smallest(size, trainer.device)
    if size < share:
        advice = f"one of {size * trainer.world} does" if size else "choose a smaller patch or network"
        batch = f"batch_size (--batch-size): {config.batch_size} crops of {side} pixels"
        raise UsageError(f"{batch} do not fit into the memory of {trainer.device}: {advice}")
