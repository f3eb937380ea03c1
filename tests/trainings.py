"""A training of seconds, for the tests of the loop, of several processes and of GPUs, and whether there is one."""

import pytest
import torch

from srlib.device import choose_device
from srlib.train.callbacks import Callback
from srlib.train.config import TrainConfig

SMALL = TrainConfig(
    options={"width": 8, "depth": 1}, ema=0.9, steps=12, batch_size=4, patch=32, validate_every=3,
    validate_photos=2, warmup=2,
)  # fmt: skip
CARD = choose_device("auto")
on_card = [pytest.mark.gpu, pytest.mark.skipif(CARD.type == "cpu", reason="needs CUDA or MPS")]
on_cuda = pytest.mark.skipif(CARD.type != "cuda", reason="needs CUDA")
DROPOUT = {"model": "subpixel-bn-dropout", "options": {"width": 8, "dropout": 0.3}}


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).cpu()


class Stop(Callback):
    """Ends a training by an error after a row."""

    def __init__(self, step: int) -> None:
        self.step = step

    def at_log(self, trainer, row):
        if row["step"] == self.step:
            raise InterruptedError
