"""The store: every photo decoded once into uint8 ``[N, 3, 176, 176]`` RGB, with its name and its split."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srlib.device import free_bytes
from srlib.errors import known

SIDE = 176
SPLITS = ("train", "val", "test")
CROPS = ("center", "lecture", "tiles")
IMAGES, RECORD = "images.npy", "store.json"


@dataclass(frozen=True)
class Store:
    """Photos of one shape, whatever their source."""

    images: np.ndarray  # uint8 [N, 3, 176, 176], RGB; in memory or a read-only memory map
    names: list[str]  # of the rows: a path relative to the folder, and which tile
    split: Mapping[str, np.ndarray]  # the rows of train, val and test, ascending; unusable ones are in none
    source: str  # "sample", "celeba" or "folder"
    crop: str  # one of CROPS
    fingerprint: str  # hash of what the photos are, their splits and the crop; the same on every machine
    published: Mapping[str, int] = field(default_factory=dict)  # CelebA's: photos per split in its partition file
    bad: Mapping[str, str] = field(default_factory=dict)  # photos that cannot be read, with the reason
    skipped: Mapping[str, str] = field(default_factory=dict)  # sound ones left out: too small, double, flat
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

    def fits(self, split: str, device: torch.device) -> bool:
        """Whether :meth:`photos` are there already, as on the CPU always, or take at most half of what is free."""
        there = device.type == "cpu" or any((split, device.type) == (name, at.type) for name, at in self._held)
        return there or len(self.rows(split)) * 3 * SIDE**2 <= free_bytes(device) // 2

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
    except (OSError, ValueError):
        return None
    codes = np.array(record.pop("split"))
    split = {name: np.flatnonzero(codes == code) for code, name in enumerate(SPLITS)}
    return Store(images, split=split, **{name: value for name, value in record.items() if name != "folder"})
