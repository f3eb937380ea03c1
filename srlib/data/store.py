"""The store: every photo decoded once into uint8 ``[N, 3, 176, 176]`` RGB, with its name and its split."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIDE = 176
SPLITS = ("train", "val", "test")
CROPS = ("center", "lecture")
IMAGES, RECORD = "images.npy", "store.json"


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
        published: for CelebA, how many photos of each split its partition file lists; else empty.
        bad: photos that could not be read, name to reason.
        skipped: sound photos that are not in the store, name to reason: too small, or there already.
    """

    images: np.ndarray
    names: list[str]
    split: Mapping[str, np.ndarray]
    source: str
    crop: str
    fingerprint: str
    published: Mapping[str, int] = field(default_factory=dict)
    bad: Mapping[str, str] = field(default_factory=dict)
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
        """The first ``limit`` photos of a split (by default all), copied: uint8 ``[n, 3, 176, 176]``."""
        return torch.from_numpy(np.ascontiguousarray(self.images[self.rows(split)[:limit]]))

    def describe(self) -> str:
        """One line: the source, the crop and how many photos each split has."""
        parts = []
        for name, count in self.counts().items():
            of = f" of {self.published[name]:,}" if self.published else ""
            parts.append(f"{name} {count:,}{of}")
        noun = "tiles" if self.source == "sample" else "photos"
        text = f"{self.source}, {len(self):,} {noun} of {SIDE}x{SIDE} ({self.crop}): {', '.join(parts)}"
        left_out = [f"{len(self.bad):,} unreadable"] * bool(self.bad)
        left_out += [f"{len(self.skipped):,} too small or double"] * bool(self.skipped)
        return "; ".join([text, *left_out])


def load(folder: Path) -> Store | None:
    """A store from its folder, memory-mapped; None where there is none, or not a whole one."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        images = np.load(folder / IMAGES, mmap_mode="r")
    except (OSError, ValueError):
        return None
    if images.dtype != np.uint8 or images.shape != (len(record["names"]), 3, SIDE, SIDE):
        return None
    splits = np.array(record["split"])
    return Store(
        images=images,
        names=record["names"],
        split={name: np.flatnonzero(splits == code) for code, name in enumerate(SPLITS)},
        source=record["source"],
        crop=record["crop"],
        fingerprint=record["fingerprint"],
        published=record["published"],
        bad=record["bad"],
        skipped=record["skipped"],
    )
