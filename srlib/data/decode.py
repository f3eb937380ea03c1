"""One photo's bytes to one uint8 ``[3, 176, 176]`` RGB square, or the reason why not.

What is read as what:

* EXIF orientation is applied; embedded colour profiles are not.
* Transparency is laid over white, as on a page.
* CMYK becomes RGB by Pillow; gray becomes three equal channels; 16 bits are scaled to 8.
* Of an animation the first frame counts.
* The bytes decide what a file is, not its name.
* Nothing above 89 megapixels is decoded: its header is enough to refuse it.
"""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torchvision.io  # noqa: F401 - registers torch.ops.image
from PIL import Image, ImageOps, UnidentifiedImageError

from srlib.data.store import SIDE

MAX_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb
ALIGNED = (178, 218)  # width and height of CelebA's aligned photos
MEMORY = 400 << 20  # bytes that all photos being decoded may take together
BYTES_PER_PIXEL = 8  # RGB, and a second copy while modes are converted
ORIENTATION = 0x0112  # the EXIF tag
# The photo is mirrored or turned after it has been cut, where it is small.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPhoto(Exception):
    """The bytes are no photo that can be read; the message says why."""


class SmallPhoto(Exception):
    """A sound photo without a square of 176 pixels in it."""


class _Allowance:
    """Lets threads in as long as the sum of what they ask for stays below a limit; one always gets in."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.change = limit, 0, threading.Condition()

    @contextmanager
    def __call__(self, amount: int) -> Iterator[None]:
        with self.change:
            self.change.wait_for(lambda: not self.used or self.used + amount <= self.limit)
            self.used += amount
        try:
            yield
        finally:
            with self.change:
                self.used -= amount
                self.change.notify_all()


_allowance = _Allowance(MEMORY)


def square(data: bytes) -> np.ndarray:
    """Any photo: its middle square, shrunk to 176 x 176 by antialiased bicubic (Pillow).

    Large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, never below 352 pixels for the shorter side:
    several times faster, and the resize that follows has more than two pixels for each that it makes.

    Raises:
        BadPhoto: the bytes cannot be read. SmallPhoto: the shorter side is below 176.
    """
    with opened(data) as image:
        width, height = image.size
        if min(width, height) < SIDE:
            raise SmallPhoto(f"{width}x{height}, the shorter side is below {SIDE}")
        image.draft(image.mode, (2 * SIDE, 2 * SIDE))
        with _allowance(image.width * image.height * BYTES_PER_PIXEL):
            image.load()
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            middle = _to_rgb(image.crop((left, top, left + side, top + side)))
        if side != SIDE:
            middle = middle.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        turn = TURNS.get(image.getexif().get(ORIENTATION))  # after load, when a TIFF has turned itself
        middle = middle if turn is None else middle.transpose(turn)
    return np.asarray(middle).transpose(2, 0, 1)


def center(data: bytes) -> np.ndarray:
    """An aligned CelebA photo: 176 x 176 from its middle, no resampling. Raises BadPhoto."""
    left, top = (ALIGNED[0] - SIDE) // 2, (ALIGNED[1] - SIDE) // 2
    return _aligned(data)[:, top : top + SIDE, left : left + SIDE]


def lecture(data: bytes) -> np.ndarray:
    """An aligned CelebA photo as the lecture cut it: the middle 178 rows, resized to 176 x 176 by plain
    bilinear interpolation, without antialiasing. Raises BadPhoto."""
    top = (ALIGNED[1] - ALIGNED[0]) // 2
    pixels = _aligned(data)[:, top : top + ALIGNED[0]].astype(np.float32, order="C")
    # Centres of pixels lie at half-integers, so result i lies at i + (2 i + 1) / 176: after pixel i, and
    # from the middle on after pixel i + 1. Pixel 88 and the last one begin no result. (PyTorch's interpolate
    # would do the same, but it starts threads of its own in each of ours.)
    half = SIDE // 2
    share = (2 * np.arange(SIDE, dtype=np.float32) + 1) / SIDE
    share = np.insert(share - (share >= 1), half, 0)
    step = np.diff(pixels, axis=1)
    step *= share[:, None]
    step += pixels[:, :-1]
    pixels = np.concatenate([step[:, :half], step[:, half + 1 :]], axis=1)
    step = np.diff(pixels, axis=2)
    step *= share
    step += pixels[:, :, :-1]
    step += 0.5
    return np.concatenate([step[:, :, :half], step[:, :, half + 1 :]], axis=2).astype(np.uint8)


# (source, crop): how a photo becomes its square
RULES: dict[tuple[str, str], Callable[[bytes], np.ndarray]] = {
    ("celeba", "center"): center,
    ("celeba", "lecture"): lecture,
    ("folder", "center"): square,
}


def _aligned(data: bytes) -> np.ndarray:
    """An aligned CelebA photo whole, uint8 ``[3, 218, 178]``.

    torchvision decodes a plain JPEG to the same pixels as Pillow in half the time (0.19 against 0.40 ms);
    whatever it does not take goes to Pillow, which has the last word on what is wrong.
    """
    if data[:2] == b"\xff\xd8" and data.find(b"Exif\0\0", 0, 4096) < 0:
        try:
            pixels = torch.ops.image.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0, False)
            if pixels.shape == (3, ALIGNED[1], ALIGNED[0]):
                return pixels.numpy()
        except RuntimeError:
            pass
    with opened(data) as image:
        if image.width * image.height <= 4 * ALIGNED[0] * ALIGNED[1]:  # else it cannot turn out right
            image.load()
            image = ImageOps.exif_transpose(image)
        if image.size != ALIGNED:
            raise BadPhoto(
                f"{image.width}x{image.height}, but CelebA's aligned photos are {ALIGNED[0]}x{ALIGNED[1]}"
            )
        return np.asarray(_to_rgb(image)).transpose(2, 0, 1)


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The photo with its header read; whatever goes wrong in the block, reading pixels included, is a
    BadPhoto: on broken files Pillow raises errors of nearly every type."""
    if not data:
        raise BadPhoto("empty file")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadPhoto(
                    f"{image.width}x{image.height}, above the limit of {MAX_PIXELS // 10**6} megapixels"
                )
            yield image
    except (BadPhoto, SmallPhoto):
        raise
    except UnidentifiedImageError:
        heic = data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
        raise BadPhoto("HEIC, which Pillow cannot read: save it as JPEG" if heic else "not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPhoto(f"above the limit of {MAX_PIXELS // 10**6} megapixels") from None
    except Exception as error:
        raise BadPhoto(f"broken: {str(error) or type(error).__name__}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8bit(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_8bit(pixels: np.ndarray, mode: str) -> np.ndarray:
    """Gray of more than 8 bits. Of 32 bits and floats the range is a convention of whoever wrote them:
    only 0..65535 and 0..1, the usual ones, are taken."""
    top = 1.0 if mode == "F" else 65535
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= top):
        raise BadPhoto(f"mode {mode} with values {pixels.min():g} to {pixels.max():g}, not 0 to {top:g}")
    return (pixels.astype(np.float64) * (255 / top)).round().astype(np.uint8)
