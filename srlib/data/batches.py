"""Training batches: a pure function of seed and step, with LR made on the device."""

import mmap
import os
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from srlib.data.store import SIDE, Store
from srlib.images.degrade import pair

AHEAD = 4  # batches that the system is asked to read ahead of use when photos stay on disk


@dataclass(frozen=True)
class Draw:
    """What a batch is made of, before any pixel is touched. Arrays of one length, an entry per crop."""

    rows: np.ndarray  # of the store
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray  # mirror left to right


class Batches:
    """Random crops of one split and their LR.

    Photos are drawn without replacement, epoch after epoch; each crop lies on a multiple of the scale, so
    that its LR pixels are whole, and is mirrored left to right with probability 1/2. ``batch(step)``
    depends on nothing but the arguments given here and the step: not on what was asked before, on how
    photos are held, or on how many processes share the work.

    Args:
        store: where the photos are.
        split: train, val or test.
        batch_size: crops per step, over all ranks together.
        patch: side of the HR crop in pixels, a multiple of ``scale``, at most 176.
        kernel: how LR is made, see :func:`srlib.images.degrade.degrade`.
        scale: HR pixels per LR pixel and axis.
        seed: any whole number.
        device: where the batch is wanted.
        flip: mirror half of the crops.
        rank, world_size: this process gets the rows ``rank::world_size`` of the batch.
        hold: keep the split's photos on a GPU as uint8; by default where they take at most half of what is
            free there. Otherwise each batch is cut from the store, whose memory map the system is asked to
            read ahead of use: a thread of ours would take time from the training that shares its cores.

    Raises:
        ValueError: an argument out of its range, or a split without photos.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        batch_size: int,
        patch: int,
        kernel: str = "bicubic",
        scale: int = 4,
        seed: int = 0,
        device: torch.device | str = "cpu",
        flip: bool = True,
        *,
        rank: int = 0,
        world_size: int = 1,
        hold: bool | None = None,
    ) -> None:
        rows = store.rows(split)
        if not len(rows):
            raise ValueError(f"the split {split!r} has no photos: {store.describe()}")
        _check_patch(patch, scale)
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size must be a positive multiple of the {world_size} processes; got {batch_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in 0..{world_size - 1}; got {rank}")
        self.store, self.split, self.batch_size, self.patch = store, split, batch_size, patch
        self.kernel, self.scale, self.seed, self.flip = kernel, scale, seed, flip
        self.rank, self.world_size = rank, world_size
        self.device = torch.device(device)
        self._rows = rows
        self._orders: dict[int, np.ndarray] = {}
        self._photos: Tensor | None = None
        if self.device.type != "cpu":
            if hold is None:
                hold = len(rows) * store.images[0].nbytes <= _free_bytes(self.device) // 2
            self._photos = self._load() if hold else None

    def with_patch(self, patch: int) -> "Batches":
        """The same photos, held once, in crops of another size."""
        _check_patch(patch, self.scale)
        other = copy(self)
        other.patch = patch
        return other

    def draw(self, step: int) -> Draw:
        """The crops of a step, this rank's part."""
        if step < 0:
            raise ValueError(f"step must not be negative; got {step}")
        at = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epoch, place = np.divmod(at, len(self._rows))
        chosen = np.concatenate([self._order(e)[place[epoch == e]] for e in np.unique(epoch).tolist()])
        random = np.random.default_rng((1, self.seed % 2**63, step))
        places = (SIDE - self.patch) // self.scale + 1
        top, left = random.integers(places, size=(2, self.batch_size)) * self.scale
        flip = random.random(self.batch_size) < 0.5 if self.flip else np.zeros(self.batch_size, bool)
        mine = slice(self.rank, None, self.world_size)
        return Draw(self._rows[chosen][mine], top[mine], left[mine], flip[mine])

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The pair ``(lr, hr)`` of a step on the device, float32 in [0, 1]; LR is rounded to 8 bits.

        Shapes ``[b, 3, patch / scale, patch / scale]`` and ``[b, 3, patch, patch]``, with
        b = batch_size / world_size.
        """
        return pair(self.crops(step), self.kernel, self.scale, round_lr=True)

    def crops(self, step: int) -> Tensor:
        """The HR crops of a step on the device: uint8 ``[b, 3, patch, patch]``."""
        if self._photos is not None:
            return self._gather(self._photos, self.draw(step))
        self._announce(step + AHEAD)
        crops = self._cut(step)
        if self.device.type == "cuda":
            crops = crops.pin_memory()
        return crops.to(self.device, non_blocking=True)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from step 0 on, without end."""
        step = 0
        while True:
            yield self.batch(step)
            step += 1

    def _order(self, epoch: int) -> np.ndarray:
        """The order of the split's photos in an epoch."""
        if epoch not in self._orders:
            random = np.random.default_rng((0, self.seed % 2**63, epoch))
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) <= 1}
            self._orders[epoch] = random.permutation(len(self._rows))
        return self._orders[epoch]

    def _cut(self, step: int) -> Tensor:
        """Crops by plain slices: on a CPU an order of magnitude faster than indexing with arrays."""
        draw, patch, images = self.draw(step), self.patch, self.store.images
        out = np.empty((len(draw.rows), 3, patch, patch), np.uint8)
        for i, (row, y, x) in enumerate(zip(draw.rows.tolist(), draw.top.tolist(), draw.left.tolist())):
            out[i] = images[row, :, y : y + patch, x : x + patch]
        crops, mirrored = torch.from_numpy(out), torch.from_numpy(draw.flip)
        crops[mirrored] = crops[mirrored].flip(-1)  # five times as fast as a slice with a negative step
        return crops

    def _gather(self, photos: Tensor, draw: Draw) -> Tensor:
        """Crops by indexing on the device: a handful of kernels, whatever the batch."""
        local = np.searchsorted(self._rows, draw.rows)
        table = torch.from_numpy(np.stack([local, draw.top, draw.left, draw.flip.astype(np.int64)]))
        if self.device.type == "cuda":
            table = table.pin_memory()
        rows, top, left, flip = table.to(self.device, non_blocking=True)
        along = torch.arange(self.patch, device=self.device)
        y = top[:, None] + along
        x = left[:, None] + torch.where(flip[:, None] == 1, self.patch - 1 - along, along)
        channels = torch.arange(3, device=self.device)[None, :, None, None]
        return photos[rows[:, None, None, None], channels, y[:, None, :, None], x[:, None, None, :]]

    def _load(self) -> Tensor:
        """The split's photos on the device, without a second copy of them all in memory."""
        photos = torch.empty(len(self._rows), 3, SIDE, SIDE, dtype=torch.uint8, device=self.device)
        for start in range(0, len(self._rows), 1024):
            part = np.ascontiguousarray(self.store.images[self._rows[start : start + 1024]])
            photos[start : start + len(part)] = torch.from_numpy(part)
        return photos

    def _announce(self, step: int) -> None:
        """Let the system read the photos of a step that comes, while this one is computed. Once all have been
        read it has them in memory, unless they do not fit there."""
        images = self.store.images
        if not isinstance(images, np.memmap) or not hasattr(mmap, "MADV_WILLNEED"):
            return
        size = images.strides[0]
        if step * self.batch_size > len(self._rows) and len(self._rows) * size < _memory() // 2:
            return
        first = images.offset % mmap.ALLOCATIONGRANULARITY  # of the rows within the map
        for row in self.draw(step).rows.tolist():
            start = first + row * size
            page = start // mmap.PAGESIZE * mmap.PAGESIZE
            images._mmap.madvise(mmap.MADV_WILLNEED, page, start + size - page)


def _check_patch(patch: int, scale: int) -> None:
    if scale < 1 or not 0 < patch <= SIDE or patch % scale:
        raise ValueError(f"patch must be a multiple of the scale {scale}, at most {SIDE}; got {patch}")


def _free_bytes(device: torch.device) -> int:
    """Memory of a GPU that may be used."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return 8 << 30


@cache
def _memory() -> int:
    """Bytes of memory that this machine has; 0 where that is not known."""
    return os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE if "SC_PHYS_PAGES" in os.sysconf_names else 0
