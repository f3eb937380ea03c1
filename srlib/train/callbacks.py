"""What happens around a training step, a small class each; before the first: whether a batch fits into memory."""

from collections.abc import Callable
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm.auto import tqdm

from srlib.device import out_of_memory
from srlib.errors import UsageError
from srlib.images.tasks import task_pair
from srlib.measure.evaluation import mean_psnr
from srlib.train import ranks

if TYPE_CHECKING:
    from srlib.train.trainer import Trainer


class Callback:
    """Two moments of a training; a subclass takes those that it needs. Every rank calls them all."""

    def after_step(self, trainer: "Trainer") -> None:
        """After each step; to read a tensor here would make a GPU wait."""

    def at_log(self, trainer: "Trainer", row: dict) -> None:
        """At each row of the history, in the order of the callbacks; what is put into ``row`` is kept."""


class StopIfNotFinite(Callback):
    """Comes early, so that no weights are scored or saved after a loss or a gradient that is not finite."""

    def at_log(self, trainer: "Trainer", row: dict) -> None:
        finite = torch.stack([torch.stack(pair) for pair in trainer.recent]).isfinite()
        if not finite.all():
            first = int((~finite).any(dim=1).nonzero()[0])
            what, config = "gradient" if finite[first, 0] else "loss", trainer.config
            at = f"step {trainer.step - len(finite) + 1 + first} (learning rate {config.learning_rate:g})"
            todo = f"try a tenth of it, a longer warm-up, or gradient clipping (clip = {config.clip:g})"
            raise FloatingPointError(f"the {what} is not finite at {at}: {todo}")


class Validate(Callback):
    """``val_psnr``: what the averaged network scores on the first validation photos, where there are any."""

    def at_log(self, trainer: "Trainer", row: dict) -> None:
        c, photos = trainer.config, trainer.early.store.tensor("val", trainer.config.validate_photos)
        how = {"kernel": c.kernel, "scale": c.scale, "device": trainer.device}
        if trainer.rank == 0 and len(photos):
            row["val_psnr"] = mean_psnr(trainer.average.model, photos, c.task, **how)


class Measure(Callback):
    """The numbers that a function finds in the averaged network, in every row."""

    def __init__(self, function: Callable[[nn.Module], dict[str, Any]]) -> None:
        self.function = function

    def at_log(self, trainer: "Trainer", row: dict) -> None:
        row.update(self.function(trainer.average.model))


class Bar(Callback):
    """Moves a progress bar, and puts the last loss, the last score and the rate beside it."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def after_step(self, trainer: "Trainer") -> None:
        self.bar.update()

    def at_log(self, trainer: "Trainer", row: dict) -> None:
        speed = row["step"] * trainer.config.batch_size / max(row["seconds"], 1e-9)
        self.bar.set_postfix_str(f"loss {row['loss']:.5f}, {row.get('val_psnr', 0):.2f} dB, {speed:.0f} crops/s")


def stop_if_too_large(trainer: "Trainer") -> None:
    """Try the largest batch to come, on copies. UsageError on all ranks if one lacks room, with what fits."""
    config, trial = trainer.config, copy(trainer)
    largest = max(trainer.early, trainer.late, key=lambda batches: batches.patch)
    crops = largest.crops(0)  # photos that a GPU holds take their room first
    trial.network, trial.loss = deepcopy((trainer.model, trainer.loss))
    size = len(crops)
    while size:
        try:
            trial.forward_and_loss(*task_pair(crops[:size], config.task, config.kernel, config.scale)).backward()
            break
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        size //= 2  # only here, after the handler, is the memory of what failed free again
    size = min(ranks.gather(size))
    if size < len(crops):
        advice = f"one of {size * trainer.world} does" if size else "choose a smaller patch or network"
        batch = f"batch_size (--batch-size): {config.batch_size} crops of {largest.patch} pixels"
        raise UsageError(f"{batch} do not fit into the memory of {trainer.device}: {advice}")
