"""The bytes of a photo to RGB pixels, or the reason why not. The bytes decide what a file is, not its name. EXIF
orientation is applied, colour profiles are not. Transparency is laid over white, 16 bits are scaled to 8."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose as Turn

MAX_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb: its header is enough to refuse it
LARGE = 16_000_000  # pixels from which photos wait for each other: each takes up to 8 bytes per pixel
ALIGNED = (178, 218)  # width and height of CelebA's aligned photos
ORIENTATION = 0x0112  # the EXIF tag; what its values from 2 on ask for
TURNS = dict(enumerate((Turn.FLIP_LEFT_RIGHT, Turn.ROTATE_180, Turn.FLIP_TOP_BOTTOM, Turn.TRANSPOSE,
                        Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90), start=2))  # fmt: skip
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


def read(data: bytes, least: int = 0) -> Image.Image:
    """A photo upright and in RGB, or BadPhoto; with ``least`` a JPEG is read smaller, to no side below it."""
    with opened(data) as image:
        if least:
            image.draft(image.mode, (least, least))
        image.load()
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))  # after load, when a TIFF has turned itself
        return to_rgb(image) if turn is None else to_rgb(image).transpose(turn)


def aligned(data: bytes) -> np.ndarray:
    """One of CelebA's aligned photos, uint8 ``[3, 218, 178]``. Raises BadPhoto, also for any other size."""
    import torchvision.io  # noqa: F401 - registers torch.ops.image; here, since it takes longer than torch itself

    # torchvision decodes a plain JPEG to Pillow's pixels in half the time; what it refuses, Pillow explains.
    if data[:2] == b"\xff\xd8" and data.find(b"Exif\0\0", 0, 4096) < 0:
        with suppress(RuntimeError):
            pixels = torch.ops.image.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0, False)
            if pixels.shape == (3, ALIGNED[1], ALIGNED[0]):
                return pixels.numpy()
    image = read(data)
    if image.size != ALIGNED:
        raise BadPhoto("{}x{}, but CelebA's aligned photos are {}x{}".format(*image.size, *ALIGNED))
    return np.asarray(image).transpose(2, 0, 1)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(deep_gray(np.asarray(image), image.mode, 255))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def deep_gray(pixels: np.ndarray, mode: str, most: int) -> np.ndarray:
    """Gray of 16 or 32 bits, or floats, as 0..most. Raises BadPhoto outside 0..65535, and 0..1 for floats."""
    top = 1.0 if mode == "F" else 65535
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= top):
        raise BadPhoto(f"mode {mode} with values {pixels.min():g} to {pixels.max():g}, not 0 to {top:g}")
    return (pixels.astype(np.float64) * (most / top)).round().astype(np.min_scalar_type(most))
