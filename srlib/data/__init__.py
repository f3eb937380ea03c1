"""Where photos come from, and how they reach the device.

``open_store`` turns any source (the bundled sample, CelebA in any layout, any folder) into a ``Store``;
``Batches`` draws training pairs from it.
"""

from srlib.data.batches import Batches
from srlib.data.opening import open_store
from srlib.data.store import CROPS, SIDE, SPLITS, Store

__all__ = ["CROPS", "SIDE", "SPLITS", "Batches", "Store", "open_store"]
