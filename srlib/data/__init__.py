"""Photos of any source as a ``Store`` (``open_store``), and training pairs drawn from it (``Batches``)."""

from srlib.data.build import open_store
from srlib.data.store import CROPS, SIDE, SPLITS, Batches, Store
