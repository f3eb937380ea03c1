"""Training batches: a pure function of seed and step, with LR made on the device."""

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from srlib.data.store import SIDE, Store
from srlib.errors import UsageError
from srlib.images.tasks import pair


@dataclass(eq=False)
class Batches:
    """Random crops of one split and their LR. UsageError for an argument out of its range.

    Photos are drawn without replacement, epoch after epoch; each crop lies on a multiple of the scale, so that its
    LR pixels are whole, and is mirrored with probability 1/2. A batch depends on the arguments and the step alone,
    not on how photos are held or how many ranks there are; "real" LR also draws from PyTorch's generator."""

    store: Store
    split: str
    batch_size: int  # crops per step, over all ranks together
    patch: int  # side of the HR crop in pixels, a multiple of the scale, at most 176
    kernel: str = "bicubic"  # how LR is made, see srlib.images.degrade.degrade
    scale: int = 4
    seed: int = 0
    device: torch.device | str = "cpu"
    _: KW_ONLY
    rank: int = 0  # this process gets the crops rank::world_size of the batch
    world_size: int = 1
    hold: bool | None = None  # cut from Store.photos; by default on a GPU with room for them

    def __post_init__(self) -> None:
        self.device, patch, scale = torch.device(self.device), self.patch, self.scale
        if not len(self.store.rows(self.split)):
            raise UsageError(f"the split {self.split!r} has no photos: {self.store.describe()}")
        if scale < 1 or not 0 < patch <= SIDE or patch % scale:
            raise UsageError(f"patch must be a multiple of the scale {scale}, at most {SIDE}; got {patch}")
        size, ranks = self.batch_size, self.world_size
        if size < 1 or size % ranks:
            raise UsageError(f"batch_size must be a positive multiple of the {ranks} processes; got {size}")
        if self.hold is None:
            self.hold = self.device.type != "cpu" and self.store.fits(self.split, self.device)

    def draw(self, step: int) -> list[np.ndarray]:
        """The crops of a step, this rank's part: rows of the store, top, left, and which are mirrored."""
        rows, seed, size = self.store.rows(self.split), self.seed % 2**63, self.batch_size
        places = [divmod(at, len(rows)) for at in range(step * size, (step + 1) * size)]
        chosen = rows[[_order(seed, epoch, len(rows))[place] for epoch, place in places]]
        random = np.random.default_rng((1, seed, step))
        top, left = random.integers((SIDE - self.patch) // self.scale + 1, size=(2, size)) * self.scale
        return [part[self.rank :: self.world_size] for part in (chosen, top, left, random.random(size) < 0.5)]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """LR ``[b, 3, patch / scale, patch / scale]`` and HR ``[b, 3, patch, patch]`` of a step on the device:
        float32 in [0, 1], LR rounded to 8 bits; b = batch_size / world_size."""
        return pair(self.crops(step), self.kernel, self.scale)

    def crops(self, step: int) -> Tensor:
        """The HR crops of a step on the device: uint8 ``[b, 3, patch, patch]``."""
        (rows, top, left, flip), side = self.draw(step), self.patch
        mirrored = self._moved(np.flatnonzero(flip))
        if self.hold:  # a handful of kernels, whatever the batch, and no waiting for them
            of_split = np.searchsorted(self.store.rows(self.split), rows)
            row, y, x = self._moved(np.stack([of_split, top, left]))
            photos = self.store.photos(self.split, self.device)
            if side == SIDE:
                crops = photos.index_select(0, row)  # moves more than a byte at a time
            else:
                crops = photos.unfold(2, side, 1).unfold(3, side, 1)[row, :, y, x]
        else:
            windows = sliding_window_view(self.store.images, (side, side), (2, 3))
            crops = self._moved(windows[rows, :, top, left])
        crops[mirrored] = crops[mirrored].flip(-1)
        return crops

    def _moved(self, array: np.ndarray) -> Tensor:
        x = torch.from_numpy(array)
        if torch.device(self.device).type == "cuda":
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)  # on MPS a copy that is not waited for may read memory that is free again


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, photos: int) -> np.ndarray:
    return np.random.default_rng((0, seed, epoch)).permutation(photos)
