"""Training batches: a pure function of seed and step, with LR made on the device."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srlib.data.store import SIDE, Store
from srlib.degrade import pair

AHEAD = 4  # batches read ahead of use when photos stay on disk


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
        kernel: how LR is made, see :func:`srlib.degrade.degrade`.
        scale: HR pixels per LR pixel and axis.
        seed: any whole number.
        device: where the batch is wanted.
        flip: mirror half of the crops.
        rank, world_size: this process gets the rows ``rank::world_size`` of the batch.
        hold: keep the split's photos on the device as uint8; otherwise they are read from the store by a
            thread, ahead of use. By default they are held on a GPU where they take at most half of what is
            free there, and on a CPU where the store is in memory anyway.

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
        if scale < 1 or not 0 < patch <= SIDE or patch % scale:
            raise ValueError(f"patch must be a multiple of the scale {scale}, at most {SIDE}; got {patch}")
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
        self._ahead: dict[int, Future[np.ndarray]] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._photos: Tensor | None = None
        if hold is None and self.device.type == "cpu":
            hold = not isinstance(store.images, np.memmap)
        elif hold is None:
            hold = len(rows) * store.images[0].nbytes <= _free_bytes(self.device) // 2
        if hold and self.device.type != "cpu":
            self._photos = self._load()
        elif not hold:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")

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
        pixels = self._cut(step) if self._reader is None else self._read_ahead(step)
        crops = torch.from_numpy(pixels)
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

    def _cut(self, step: int) -> np.ndarray:
        """Crops by plain slices: on a CPU an order of magnitude faster than indexing with arrays."""
        draw, patch, images = self.draw(step), self.patch, self.store.images
        out = np.empty((len(draw.rows), 3, patch, patch), np.uint8)
        entries = zip(draw.rows.tolist(), draw.top.tolist(), draw.left.tolist(), draw.flip.tolist())
        for i, (row, y, x, flip) in enumerate(entries):
            crop = images[row, :, y : y + patch, x : x + patch]
            out[i] = crop[..., ::-1] if flip else crop
        return out

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

    def _read_ahead(self, step: int) -> np.ndarray:
        """The crops of a step from the reading thread, which then goes on with the steps that follow."""
        wanted = range(step, step + AHEAD + 1)
        for other in self._ahead.keys() - set(wanted):  # left from before a jump to another step
            self._ahead.pop(other).cancel()
        for soon in wanted:
            if soon not in self._ahead:
                self._ahead[soon] = self._reader.submit(self._cut, soon)
        return self._ahead.pop(step).result()


def _free_bytes(device: torch.device) -> int:
    """Memory of a GPU that may be used."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return 8 << 30
