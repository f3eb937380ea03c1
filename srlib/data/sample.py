"""The bundled sample: eight photos that come inside installed packages, cut into 176 x 176 tiles."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from srlib.data import decode, store
from srlib.errors import UsageError


class Photo(NamedTuple):
    """A photo of the sample, whose tiles all go to one split."""

    name: str
    split: str
    distribution: str  # as pip calls it
    file: str  # below site-packages
    credit: str
    licence: str

    def read(self) -> Image.Image:
        """The photo whole, as RGB. Raises UsageError where its package is not installed."""
        spec = find_spec(self.file.partition("/")[0])  # finds the package without importing it
        if not spec or not (path := Path(spec.origin or "").parent.parent / self.file).is_file():
            todo = f"pip install --force-reinstall {self.distribution}, or point DATA at a folder of photos"
            raise UsageError(f"{self.name} comes inside {self.distribution}, which is not installed whole: {todo}")
        return Image.open(path).convert("RGB")


# As the packages state it: skimage.data's docstrings, the README of sklearn's photos (whose links lead the flower
# to vultilion), matplotlib's JPEG. Found at flickr.com/photos/danielbuechele/6061409035, /vultilion/6056698931 and
# /spacexphotos/16511594820, flic.kr/p/r9qvLn (astronaut), commons.wikimedia.org/wiki/File:Grace_Hopper.jpg.
PHOTOS = (
    Photo("chelsea", "train", "scikit-image", "skimage/data/chelsea.png", "Stefan van der Walt", "CC0"),
    Photo("china", "train", "scikit-learn", "sklearn/datasets/images/china.jpg", "danielbuechele", "CC BY 2.0"),
    Photo("flower", "train", "scikit-learn", "sklearn/datasets/images/flower.jpg", "vultilion", "CC BY 2.0"),
    Photo("ihc", "train", "scikit-image", "skimage/data/ihc.png",
          "Center for Microscopy and Molecular Imaging", "no known restrictions"),
    Photo("grace_hopper", "val", "matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
          "James S. Davis, United States Navy", "public domain"),
    Photo("rocket", "val", "scikit-image", "skimage/data/rocket.jpg", "SpaceX", "public domain"),
    Photo("astronaut", "test", "scikit-image", "skimage/data/astronaut.png", "NASA", "public domain"),
    Photo("coffee", "test", "scikit-image", "skimage/data/coffee.png",
          "Rachel Michetti, courtesy of Pikolo Espresso Bar", "CC0"),
)  # fmt: skip


def open_sample() -> store.Store:
    """The store of the bundled sample, cut anew each time, in about 0.1 s: a file would be slower to check."""
    cut: dict[tuple[str, str], np.ndarray] = {}
    for photo in PHOTOS:
        # At a stride of 176 three tiles cover 512 pixels: what is scored is all but distinct.
        scales, stride = ((1.0, 0.8, 0.6), store.SIDE // 2) if photo.split == "train" else ((1.0,), store.SIDE)
        for name, tile in decode.tiles(photo.read(), scales, stride).items():
            cut[photo.split, photo.name + name] = tile
    images = np.ascontiguousarray(np.stack(list(cut.values())))
    digest = hashlib.blake2b(images.data, digest_size=16)
    digest.update(repr(list(cut)).encode())
    split = {name: np.flatnonzero([of == name for of, _ in cut]) for name in store.SPLITS}
    return store.Store(images, [name for _, name in cut], split, "sample", "tiles", digest.hexdigest())
