"""The store: every photo decoded once into uint8 ``[N, 3, 176, 176]`` RGB, with its name and its split."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

SIDE = 176
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Store:
    """Photos of one shape, whatever their source.

    Attributes:
        images: uint8 ``[N, 3, 176, 176]``, RGB; in memory or a read-only memory map.
        names: N names: paths relative to the folder, or names of tiles.
        split: train, val and test, each with the rows that belong to it.
        source: "sample", "celeba" or "folder".
        crop: how the square was taken: "tiles", "center" or "lecture".
        fingerprint: hash of what the photos are, their splits and the crop; the same on every machine.
        published: for CelebA, the size of each split as published; else empty.
        skipped: photos that are not in the store, name to reason.
    """

    images: np.ndarray
    names: list[str]
    split: Mapping[str, np.ndarray]
    source: str
    crop: str
    fingerprint: str
    published: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def counts(self) -> dict[str, int]:
        """How many photos each split has."""
        return {name: len(self.split[name]) for name in SPLITS}

    def rows(self, split: str) -> np.ndarray:
        """The rows of one split, in the order of the store.

        Raises:
            ValueError: unknown split.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")
        return self.split[split]

    def tensor(self, split: str, limit: int | None = None) -> Tensor:
        """The first ``limit`` photos of a split (all of them by default), copied: uint8 ``[n, 3, 176, 176]``."""
        return torch.from_numpy(np.ascontiguousarray(self.images[self.rows(split)[:limit]]))

    def describe(self) -> str:
        """One line: the source, the crop and how many photos each split has."""
        parts = []
        for name, count in self.counts().items():
            of = f" of {self.published[name]:,}" if self.published else ""
            parts.append(f"{name} {count:,}{of}")
        noun = "tiles" if self.source == "sample" else "photos"
        text = f"{self.source}, {len(self):,} {noun} of {SIDE}x{SIDE} ({self.crop}): {', '.join(parts)}"
        return text + (f"; {len(self.skipped):,} skipped" if self.skipped else "")
