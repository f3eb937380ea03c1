"""Where photos come from, and how they reach the device.

``open_store`` turns any source (the bundled sample, CelebA in any layout, any folder) into a ``Store``;
``Batches`` draws training pairs from it.
"""

from pathlib import Path

from srlib.data.batches import Batches
from srlib.data.store import SIDE, SPLITS, Store

__all__ = ["SIDE", "SPLITS", "Batches", "Store", "open_store"]

CROPS = ("center", "lecture")


def open_store(data: str, runs: str | Path = "runs", crop: str = "center") -> Store:
    """The store of ``data``, built first where it does not exist yet.

    Args:
        data: "sample", or a folder of photos.
        runs: where stores are kept, in ``RUNS/stores/``.
        crop: "center" or "lecture", see :mod:`srlib.data.sources`. The sample is always cut into tiles.

    Raises:
        UsageError: no such folder, no photos in it, an unknown crop.
    """
    from srlib.data.sample import open_sample

    if data == "sample":
        return open_sample()
    raise NotImplementedError
