"""Training batches: a pure function of seed and step, with LR made on the device."""

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from srlib.data.store import SIDE, Store
from srlib.errors import UsageError
from srlib.images.tasks import pair


@dataclass(eq=False)
class Batches:
    """Random crops of one split and their LR.

    Photos are drawn without replacement, epoch after epoch; each crop lies on a multiple of the scale, so that its
    LR pixels are whole, and is mirrored with probability 1/2. A batch depends on the arguments and the step alone,
    not on how photos are held or how many processes share the work; ``kernel="real"`` also draws from PyTorch's
    generator. UsageError for an argument out of its range.
    """

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
        rows, seed = self.store.rows(self.split), self.seed % 2**63
        epoch, place = np.divmod(np.arange(step * self.batch_size, (step + 1) * self.batch_size), len(rows))
        chosen = [_order(seed, e, len(rows))[place[epoch == e]] for e in np.unique(epoch).tolist()]
        random = np.random.default_rng((1, seed, step))
        top, left = random.integers((SIDE - self.patch) // self.scale + 1, size=(2, self.batch_size)) * self.scale
        flip = random.random(self.batch_size) < 0.5
        return [part[self.rank :: self.world_size] for part in (rows[np.concatenate(chosen)], top, left, flip)]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """LR ``[b, 3, patch / scale, patch / scale]`` and HR ``[b, 3, patch, patch]`` of a step on the device.

        b = batch_size / world_size; float32 in [0, 1], LR rounded to 8 bits."""
        return pair(self.crops(step), self.kernel, self.scale)

    def crops(self, step: int) -> Tensor:
        """The HR crops of a step on the device: uint8 ``[b, 3, patch, patch]``."""
        draw, side = self.draw(step), self.patch
        if self.hold:
            return self._gather(*draw)
        images = np.asarray(self.store.images)  # slices of a memory map's own type take twice as long
        crops = torch.empty(len(draw[0]), 3, side, side, dtype=torch.uint8)
        for crop, row, y, x, flip in zip(crops.numpy(), *(part.tolist() for part in draw)):
            photo = images[row, :, y : y + side, x : x + side]  # far faster than indexing with arrays
            crop[:] = photo[..., ::-1] if flip else photo
        return self._moved(crops)

    def _gather(self, of_store: np.ndarray, *places: np.ndarray) -> Tensor:
        """Crops by indexing on the device: a handful of kernels, whatever the batch, and no waiting for them."""
        photos = self.store.photos(self.split, self.device)
        of_split = np.searchsorted(self.store.rows(self.split), of_store)
        rows, top, left, flip = self._moved(torch.from_numpy(np.stack([of_split, *places])))
        if self.patch == SIDE:
            whole = photos.index_select(0, rows)  # moves more than a byte at a time
            return torch.where(flip[:, None, None, None] == 1, whole.flip(-1), whole)
        along, channels = (torch.arange(n, device=self.device) for n in (self.patch, 3))
        y = top[:, None] + along
        x = left[:, None] + torch.where(flip[:, None] == 1, self.patch - 1 - along, along)
        return photos[rows[:, None, None, None], channels[:, None, None], y[:, None, :, None], x[:, None, None, :]]

    def _moved(self, x: Tensor) -> Tensor:
        if torch.device(self.device).type == "cuda":
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)  # on MPS a copy that is not waited for may read memory that is free again


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, photos: int) -> np.ndarray:
    """The order of a split's photos in an epoch."""
    return np.random.default_rng((0, seed, epoch)).permutation(photos)
