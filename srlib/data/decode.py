"""The bytes of a photo (not its name) to the squares that stand for it in the store, or the reason why not. EXIF
orientation is applied, colour profiles are not; transparency is laid over white, 16 bits are scaled to 8."""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose as Turn

from srlib.data.store import SIDE

MAX_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb: its header is enough to refuse it
LARGE = 16_000_000  # pixels from which photos wait for each other: each takes up to 8 bytes per pixel
ALIGNED = (178, 218)  # width and height of CelebA's aligned photos
ORIENTATION = 0x0112  # the EXIF tag; what its values from 2 on ask for
TURNS = dict(enumerate((Turn.FLIP_LEFT_RIGHT, Turn.ROTATE_180, Turn.FLIP_TOP_BOTTOM, Turn.TRANSPOSE,
                        Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90), start=2))  # fmt: skip
CROPS_OF = {"celeba": ("center", "lecture"), "folder": ("center", "tiles")}
_one_large = threading.Lock()


class BadPhoto(Exception):
    """The bytes are no photo that can be read; the message says why."""


class SmallPhoto(BadPhoto):
    """A sound photo without a square of 176 pixels in it."""


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The photo, not decoded yet. All errors in the block become BadPhoto: Pillow raises nearly every type."""
    limit = f"above the limit of {MAX_PIXELS // 10**6} megapixels"
    try:
        with Image.open(io.BytesIO(data)) as image:
            if (pixels := image.width * image.height) > MAX_PIXELS:
                raise BadPhoto(f"{image.width}x{image.height}, {limit}")
            with _one_large if pixels > LARGE else nullcontext():
                yield image
    except (BadPhoto, MemoryError):
        raise
    except UnidentifiedImageError:
        heic = data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
        reason = "HEIC, which Pillow cannot read: save it as JPEG" if heic else "not an image"
        raise BadPhoto(reason if data else "empty file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPhoto(limit) from None
    except Exception as error:
        raise BadPhoto(f"broken: {str(error) or type(error).__name__}") from None


def cut(data: bytes, kind: str, crop: str) -> dict[str, np.ndarray]:
    """The squares of a photo, uint8 ``[3, 176, 176]`` RGB, each under what is put behind its name: by a crop
    of ``CROPS_OF[kind]``. Raises BadPhoto or SmallPhoto."""
    if kind == "celeba":
        return {"": _face(data, crop)}
    image = _read(data, 2 * SIDE if crop == "center" else 0)
    if (side := min(image.size)) < SIDE:
        raise SmallPhoto(f"{image.width}x{image.height}, the shorter side is below {SIDE}")
    if crop == "tiles":
        return tiles(image, _scales(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = image.crop((left, top, left + side, top + side))
    return {"": np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).transpose(2, 0, 1)}


def planned(file: str | Path) -> list[str]:
    """The names that :func:`cut` will give to tiles, by the photo's header alone; none where that is broken."""
    with suppress(Exception), Image.open(file) as image:  # nearly every type; told when the photo is decoded
        exif = Image.Image.getexif(image)  # PNG's own method decodes all pixels
        turned = exif.get(ORIENTATION, 1) > 4 and image.format != "TIFF"  # which says its turned size already
        size = image.size[::-1] if turned else image.size
        return [name for scale in _scales(size) for name, _, _ in _grid(size, scale, SIDE)]
    return []


def tiles(image: Image.Image, scales: Sequence[float], stride: int = SIDE) -> dict[str, np.ndarray]:
    """Tiles that cover a photo evenly at each scale (antialiased bicubic, Pillow); names like /s0.50/y000x176."""
    found = {}
    for scale in scales:
        size = round(image.width * scale), round(image.height * scale)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        for name, y, x in _grid(image.size, scale, stride):
            found[name] = pixels[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1)
    return found


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(deep_gray(np.asarray(image), image.mode, 255))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def deep_gray(pixels: np.ndarray, mode: str, most: int) -> np.ndarray:
    """Gray of 16 or 32 bits, or floats, as 0..most. Raises BadPhoto outside 0..65535, and 0..1 for floats."""
    top = 1.0 if mode == "F" else 65535
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= top):
        raise BadPhoto(f"mode {mode} with values {pixels.min():g} to {pixels.max():g}, not 0 to {top:g}")
    return (pixels.astype(np.float64) * (most / top)).round().astype(np.min_scalar_type(most))


def _read(data: bytes, least: int = 0) -> Image.Image:
    """A photo upright and in RGB, or BadPhoto; with ``least`` a JPEG is read smaller, to no side below it."""
    with opened(data) as image:
        if least:
            image.draft(image.mode, (least, least))
        image.load()
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))  # after load, when a TIFF has turned itself
        return to_rgb(image) if turn is None else to_rgb(image).transpose(turn)


def _face(data: bytes, crop: str) -> np.ndarray:
    """The square of one of CelebA's aligned photos, its middle, or for "lecture" its middle 178 rows by plain
    bilinear interpolation (not antialiased). Raises BadPhoto, also for any other size."""
    import torchvision.io  # noqa: F401 - registers torch.ops.image; here, since it takes longer than torch itself

    face = np.empty(0)
    # torchvision decodes a plain JPEG to Pillow's pixels in half the time; what it refuses, Pillow explains.
    if data[:2] == b"\xff\xd8" and data.find(b"Exif\0\0", 0, 4096) < 0:
        with suppress(RuntimeError):
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            face = torch.ops.image.decode_jpeg(buffer, 0, False).numpy()
    if face.shape != (3, *ALIGNED[::-1]):
        image = _read(data)
        if image.size != ALIGNED:
            raise BadPhoto("{}x{}, but CelebA's aligned photos are {}x{}".format(*image.size, *ALIGNED))
        face = np.asarray(image).transpose(2, 0, 1)
    if crop == "center":
        return face[:, 21 : 21 + SIDE, 1 : 1 + SIDE]
    # Result i lies at i + (2 i + 1) / 176: after pixel i, or from the middle on i + 1. PyTorch would add threads.
    share = (2 * np.arange(SIDE, dtype=np.float32) + 1) / SIDE
    share = np.insert(share - (share >= 1), SIDE // 2, 0)  # pixel 88 begins no result
    face = face[:, 20:198].astype(np.float32)
    for _ in ("rows", "columns"):
        face = face.swapaxes(1, 2)
        face = np.delete(face[..., :-1] + share * np.diff(face), SIDE // 2, axis=2)
    return (face + 0.5).astype(np.uint8)


def _scales(size: tuple[int, int]) -> list[float]:
    """A half, where photos are sharp, and a quarter, which shows more of the scene, if a tile fits in, or else the
    full size; all three of a photo of at most half a megapixel, which has been shrunk already."""
    fitting = [scale for scale in (0.5, 0.25, 1.0) if round(min(size) * scale) >= SIDE]
    return fitting if size[0] * size[1] <= 500_000 else fitting[:-1] or fitting


def _grid(size: tuple[int, int], scale: float, stride: int) -> list[tuple[str, int, int]]:
    """Name, top and left of tiles at a scale: evenly from end to end, a stride apart at most (if SIDE, about)."""
    starts = []
    for rest in (round(side * scale) - SIDE for side in size):
        steps = -(-rest // stride) if stride < SIDE else round(rest / stride)
        starts.append([round(i * rest / steps) for i in range(steps + 1)] if steps else [rest // 2])
    return [(f"/s{scale:.2f}/y{y:03d}x{x:03d}", y, x) for y in starts[1] for x in starts[0]]
