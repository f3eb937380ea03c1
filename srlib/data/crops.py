"""A photo to the squares of 176 x 176 pixels that stand for it in the store, uint8 ``[3, 176, 176]`` RGB."""

from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image

from srlib.data.decode import ORIENTATION, SmallPhoto, aligned, read
from srlib.data.store import SIDE
from srlib.errors import UsageError

CROPS_OF = {"celeba": ("center", "lecture"), "folder": ("center", "tiles")}
FLAT = 2.0  # levels of :func:`detail` below which a tile, of sky or wall, has nothing to teach


def check_crop(crop: str, kind: str) -> None:
    """Raise UsageError for a crop that is not for this kind of photos."""
    if crop not in CROPS_OF[kind]:
        whose = "CelebA" if kind == "celeba" else "photos other than CelebA's"
        raise UsageError(f"the crop {crop!r} is not for {whose}: choose {' or '.join(CROPS_OF[kind])}")


def cut(data: bytes, kind: str, crop: str) -> dict[str, np.ndarray]:
    """The squares of a photo, each under what is put behind its name. Raises BadPhoto or SmallPhoto."""
    if kind == "celeba":
        face = aligned(data)
        return {"": lecture(face) if crop == "lecture" else face[:, 21 : 21 + SIDE, 1 : 1 + SIDE]}  # of 218 x 178
    image = read(data, 2 * SIDE if crop == "center" else 0)
    if (side := min(image.size)) < SIDE:
        raise SmallPhoto(f"{image.width}x{image.height}, the shorter side is below {SIDE}")
    if crop == "tiles":
        return {f"/{name}": tile for name, tile in tiles(image, _scales(image.size)).items()}
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = image.crop((left, top, left + side, top + side))
    return {"": np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).transpose(2, 0, 1)}


def planned(file: str | Path) -> list[str]:
    """The names that :func:`cut` will give to tiles, by the photo's header alone; none where that is broken."""
    with suppress(Exception), Image.open(file) as image:  # nearly every type; told when the photo is decoded
        exif = Image.Image.getexif(image)  # PNG's own method decodes all pixels
        turned = exif.get(ORIENTATION, 1) > 4 and image.format != "TIFF"  # which says its turned size already
        size = image.size[::-1] if turned else image.size
        return [f"/{name}" for scale in _scales(size) for name, _, _ in _grid(size, scale, SIDE)]
    return []


def lecture(face: np.ndarray) -> np.ndarray:
    """The middle 178 rows of an aligned photo, by plain bilinear interpolation (not antialiased) to 176 x 176."""
    pixels = face[:, 20:198].astype(np.float32)
    # Centres of pixels lie at half-integers, so result i lies at i + (2 i + 1) / 176: after pixel i, and from the
    # middle on after pixel i + 1. (PyTorch's interpolate does the same, with threads of its own in each of ours.)
    share = (2 * np.arange(SIDE, dtype=np.float32) + 1) / SIDE
    share = np.insert(share - (share >= 1), SIDE // 2, 0)  # pixel 88 begins no result
    for _ in ("rows", "columns"):
        pixels = pixels.swapaxes(1, 2)
        pixels = np.delete(pixels[..., :-1] + share * np.diff(pixels), SIDE // 2, axis=2)
    return (pixels + 0.5).astype(np.uint8)


def tiles(image: Image.Image, scales: Sequence[float], stride: int = SIDE) -> dict[str, np.ndarray]:
    """Tiles that cover a photo evenly at each scale (antialiased bicubic, Pillow); names like s0.50/y000x176."""
    found = {}
    for scale in scales:
        small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        pixels = np.asarray(small)
        for name, y, x in _grid(image.size, scale, stride):
            found[name] = pixels[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1)
    return found


def detail(tile: np.ndarray) -> float:
    """What shrinking by 4 takes from a tile: RMS in levels about the means of 4 x 4 pixels."""
    blocks = tile.reshape(3, SIDE // 4, 4, SIDE // 4, 4)
    return float(blocks.var(axis=(2, 4), dtype=np.float32).mean()) ** 0.5


def _scales(size: tuple[int, int]) -> list[float]:
    """A half, where photos are sharp, and a quarter, which shows more of the scene, if a tile fits in, or else the
    full size; all three of a photo of at most half a megapixel, which has been shrunk already."""
    fitting = [scale for scale in (0.5, 0.25, 1.0) if round(min(size) * scale) >= SIDE]
    return fitting if size[0] * size[1] <= 500_000 else fitting[:-1] or fitting


def _grid(size: tuple[int, int], scale: float, stride: int) -> list[tuple[str, int, int]]:
    """Name, top and left of all tiles of a photo of that size at a scale."""
    left, top = (_starts(round(side * scale), stride) for side in size)
    return [(f"s{scale:.2f}/y{y:03d}x{x:03d}", y, x) for y in top for x in left]


def _starts(length: int, stride: int) -> list[int]:
    """Even starts of tiles that reach both ends, a stride apart at most, but for a few pixels where it is SIDE."""
    rest = length - SIDE
    steps = ceil(rest / stride) if stride < SIDE else round(rest / stride)
    return [round(i * rest / steps) for i in range(steps + 1)] if steps else [rest // 2]
