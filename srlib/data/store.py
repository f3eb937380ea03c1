"""The store: photos decoded once, uint8 ``[N, 3, 176, 176]`` RGB, with names and splits; batches for training."""

import json
import warnings
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srlib.device import free_bytes
from srlib.errors import UsageError, known
from srlib.images.tasks import pair

SIDE = 176
SPLITS = ("train", "val", "test")
CROPS = ("center", "lecture", "tiles")
IMAGES, RECORD = "images.npy", "store.json"


@dataclass(frozen=True)
class Store:
    """Photos of one shape, whatever their source."""

    images: np.ndarray  # uint8 [N, 3, 176, 176], RGB; in memory or a read-only memory map
    names: list[str]  # of the rows: a path relative to the folder, and which tile
    split: dict[str, np.ndarray]  # the rows of train, val and test, ascending; unusable ones are in none
    source: str  # "sample", "celeba" or "folder"
    crop: str  # one of CROPS
    fingerprint: str  # hash of what the photos are, their splits and the crop; the same on every machine
    published: dict[str, int] = field(default_factory=dict)  # CelebA's: photos per split in its partition file
    bad: dict[str, str] = field(default_factory=dict)  # photos that cannot be read, with the reason
    skipped: dict[str, str] = field(default_factory=dict)  # sound ones left out: too small, double, flat
    _held: dict[tuple, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return sum(self.counts().values())

    def counts(self) -> dict[str, int]:
        """How many photos (or tiles) each split has."""
        return {name: len(self.split[name]) for name in SPLITS}

    def rows(self, split: str) -> np.ndarray:
        """The rows of one split, ascending. Raises UsageError for an unknown one."""
        known("split", split, SPLITS)
        return self.split[split]

    def tensor(self, split: str, limit: int | None = None) -> Tensor:
        """The first photos of a split, by default all, copied: uint8 ``[n, 3, 176, 176]``."""
        return torch.from_numpy(self.images[self.rows(split)[:limit]])

    def photos(self, split: str, device: torch.device | str = "cpu") -> Tensor:
        """All photos of a split on a device, uint8 ``[n, 3, 176, 176]``: made once and shared, so only read it. On
        the CPU it is the store's own memory, unless rows without a use lie among those of the split."""
        rows, device = self.rows(split), torch.empty(0, device=device).device  # "cuda" is "cuda:0"
        if (split, device) not in self._held:
            if device.type == "cpu" and len(rows) and rows[-1] - rows[0] == len(rows) - 1:
                with warnings.catch_warnings(action="ignore"):  # PyTorch has no read-only tensors
                    photos = torch.from_numpy(self.images[rows[0] : rows[-1] + 1])
            else:
                photos = torch.empty(len(rows), 3, SIDE, SIDE, dtype=torch.uint8, device=device)
                for at in range(0, len(rows), 1024):
                    photos[at : at + 1024].copy_(torch.from_numpy(self.images[rows[at : at + 1024]]))
            self._held[split, device] = photos
        return self._held[split, device]

    def describe(self) -> str:
        """One line: the source, the crop and how many photos each split has."""
        of = {name: f" of {count:,}" for name, count in self.published.items()}
        parts = ", ".join(f"{name} {count:,}{of.get(name, '')}" for name, count in self.counts().items())
        parts += f"; {len(self.bad):,} unreadable" * bool(self.bad)
        parts += f"; {len(self.skipped):,} too small, double or flat" * bool(self.skipped)
        noun = "tiles" if self.crop == "tiles" else "photos"
        return f"{self.source}, {len(self):,} {noun} of {SIDE}x{SIDE} ({self.crop}): {parts}"


def load(folder: Path) -> Store | None:
    """A store from its folder, memory-mapped; None where there is none, or not a whole one."""
    try:
        images, record = np.load(folder / IMAGES, mmap_mode="r"), json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError, EOFError):
        return None
    codes = np.array(record["split"])
    record["split"] = {name: np.flatnonzero(codes == code) for code, name in enumerate(SPLITS)}
    return Store(images, **{name: value for name, value in record.items() if name != "folder"})


@dataclass(eq=False)
class Batches:
    """Random crops of one split and their LR. Photos are drawn without replacement, epoch after epoch; crops lie
    on multiples of the scale, so that LR pixels are whole, and are mirrored with probability 1/2. A batch depends
    on the arguments and the step alone, not on how photos are held or how many processes share the work;
    ``kernel="real"`` also draws from PyTorch's generator. UsageError for an argument out of its range."""

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
        if self.hold is None and self.device.type != "cpu":
            there = any((self.split, self.device.type) == (name, at.type) for name, at in self.store._held)
            self.hold = there or len(self.store.rows(self.split)) * 3 * SIDE**2 <= free_bytes(self.device) // 2

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
        """LR ``[b, 3, patch / scale, patch / scale]`` and HR ``[b, 3, patch, patch]`` of a step, by ``pair``."""
        return pair(self.crops(step), self.kernel, self.scale)

    def crops(self, step: int) -> Tensor:
        """The HR crops of a step on the device: uint8 ``[b, 3, patch, patch]``, b = batch_size / world_size."""
        draw, side = self.draw(step), self.patch
        if not self.hold:
            images = np.asarray(self.store.images)  # slices of a memory map's own type take twice as long
            crops = torch.empty(len(draw[0]), 3, side, side, dtype=torch.uint8)
            for crop, row, y, x, flip in zip(crops.numpy(), *(part.tolist() for part in draw)):
                photo = images[row, :, y : y + side, x : x + side]  # far faster than indexing with arrays
                crop[:] = photo[..., ::-1] if flip else photo
            return self._moved(crops)
        # Indexing on the device takes a handful of kernels, whatever the batch, and waits for none of them.
        photos = self.store.photos(self.split, self.device)
        draw[0] = np.searchsorted(self.store.rows(self.split), draw[0])  # rows of the split
        rows, top, left, flip = self._moved(torch.from_numpy(np.stack(draw)))
        if side == SIDE:
            whole = photos.index_select(0, rows)  # moves more than a byte at a time
            return torch.where(flip[:, None, None, None] == 1, whole.flip(-1), whole)
        along, channels = (torch.arange(n, device=self.device) for n in (side, 3))
        y = top[:, None] + along
        x = left[:, None] + torch.where(flip[:, None] == 1, side - 1 - along, along)
        return photos[rows[:, None, None, None], channels[:, None, None], y[:, None, :, None], x[:, None, None, :]]

    def _moved(self, x: Tensor) -> Tensor:
        cuda = torch.device(self.device).type == "cuda"  # on MPS, unless waited for, a copy may read freed memory
        return (x.pin_memory() if cuda else x).to(self.device, non_blocking=cuda)


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, photos: int) -> np.ndarray:
    return np.random.default_rng((0, seed, epoch)).permutation(photos)
