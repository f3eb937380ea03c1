"""Picture files as a photographer means them: turned upright, in their own colours, written all or not at all.

What becomes of what:

* EXIF orientation is applied and its tag removed; the rest of EXIF and the colour profile stay, so the numbers
  in the pixels keep their meaning. XMP, IPTC and text chunks are not carried over.
* Gray stays gray, 16-bit gray stays 16-bit where the format holds it, a palette becomes RGB, transparency stays.
* CMYK and Lab become sRGB, through the embedded profile where there is one: the networks know RGB only.
* Of 16 bits per channel in colour Pillow reads 8. Of several frames or pages the first counts.
"""

import io
import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageDraw, ImageFont
from torch.nn.functional import avg_pool2d

from srlib.data.decode import ORIENTATION, TURNS, BadPhoto, opened
from srlib.images.degrade import upsample

# What is written, by the ending of the name.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels, limits of the formats or of their encoders
LONGEST_EXIF = 65_533  # bytes, in JPEG
# JPEG keeps colour at full resolution, since that is where sharp edges are lost. TIFF is left uncompressed:
# through libtiff Pillow loses the inner directories of EXIF.
ENCODING: dict[str, dict] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {"compress_level": 4},  # twice as fast as Pillow's 6, for 6 % more bytes
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "raw"},
}
# Up to this number EXIF's first directory, TIFF's own, says how pixels are stored, except for these, which speak
# of the photo: name, description, camera, resolution, page, software, date, artist, computer.
LAST_STORAGE_TAG = 532
ABOUT_THE_PHOTO = {269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316}
BLOCKS = {700, 33_723, 34_377, 34_675, 37_724}  # XMP, IPTC, Photoshop's, the colour profile, layers
EXIF_IFD, EXIF_WIDTH, EXIF_HEIGHT = 0x8769, 0xA002, 0xA003


@dataclass
class Picture:
    """A photo that is ready to be enlarged.

    Attributes:
        image: upright, of mode L, LA, RGB, RGBA or I;16.
        profile: the ICC profile of its pixels. exif: without orientation and without what describes storage.
        lossless: it came from a WebP that was coded without loss.
        notes: what had to be changed, in words.
    """

    image: Image.Image
    profile: bytes | None = None
    exif: Image.Exif | None = None
    lossless: bool = False
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> Picture:
    """A picture file of any format that Pillow knows.

    Raises:
        BadPhoto: no picture, broken, or above 89 megapixels; the message says which.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    notes = []
    # Pillow warns of damaged EXIF, which can be done without, and of size, which has its own check.
    with warnings.catch_warnings(action="ignore"), opened(data) as image:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            notes.append(f"the first of its {frames} frames or pages")
        tiles = image.tile  # how the pixels are stored; loading empties the list
        if not image.mode.startswith("I") and any(";16" in str(tile[-1]) for tile in tiles):
            notes.append("16 bits per channel, of which Pillow reads 8")
        picture = from_image(image, notes)
        if image.mode == "RGBA" and any(str(tile[-1]).startswith("LA;") for tile in tiles):
            picture.image = picture.image.convert("LA")  # gray of 16 bits with alpha, which Pillow spreads
        picture.lossless = image.format == "WEBP" and b"VP8L" in data
        return picture


def from_image(image: Image.Image, notes: list[str] | None = None) -> Picture:
    """A Pillow image of any mode, turned upright and brought to one of the five modes of :class:`Picture`.

    Raises:
        BadPhoto: 32 bits per pixel with values outside the usual range.
    """
    notes = [] if notes is None else notes
    turn = about = None
    image.load()
    try:
        exif = image.getexif()  # after load, when a TIFF has turned itself
        turn = TURNS.get(exif.get(ORIENTATION))
        about = _about(exif)
    except Exception:  # cameras write broken EXIF, and Pillow then raises errors of many types
        notes.append("its EXIF is broken and is left out")
    upright = image if turn is None else image.transpose(turn)
    plain, profile = _plain(upright, notes)
    return Picture(plain, profile, about, notes=notes)


def _about(exif: Image.Exif) -> Image.Exif | None:
    """What EXIF says of the photo, without what TIFF says of the storage of its pixels; None if nothing."""
    kept = Image.Exif()
    kept.load(exif.tobytes())
    for tag in list(kept):
        if tag in BLOCKS or (tag <= LAST_STORAGE_TAG and tag not in ABOUT_THE_PHOTO):
            del kept[tag]
    return kept or None


def _plain(image: Image.Image, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """The image in one of the five modes, and the profile that now holds for it."""
    profile = image.info.get("icc_profile")
    transparent = image.has_transparency_data
    if image.mode.startswith(("I", "F")):
        return _deep_gray(image, notes), profile
    if image.mode in ("CMYK", "LAB"):
        return _to_srgb(image, profile, notes)
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("LA" if transparent else "L"), profile
    return image.convert("RGBA" if transparent else "RGB"), profile


def _deep_gray(image: Image.Image, notes: list[str]) -> Image.Image:
    """Gray of 16 bits, of 32 bits in 0..65535, or of floats in 0..1, as I;16."""
    pixels = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= top):
        raise BadPhoto(f"mode {image.mode} with values {pixels.min():g} to {pixels.max():g}, not 0 to {top:g}")
    if image.mode == "F":
        notes.append("floats become 16 bits")
        pixels = (pixels * 65535).round()
    deep = Image.fromarray(pixels.astype(np.uint16))
    if (level := image.info.get("transparency")) is None:
        return deep
    notes.append("16-bit gray with transparency becomes 8 bits, the most that Pillow writes of it")
    return Image.merge("LA", (_to_8bit(deep), Image.fromarray(np.uint8(255) * (pixels != level))))


def _to_8bit(deep: Image.Image) -> Image.Image:
    """I;16 to L, rounded: 65535 = 255 * 257."""
    return Image.fromarray(((np.asarray(deep).astype(np.uint32) + 128) // 257).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """CMYK or Lab to sRGB as printers do it: relative colorimetric, with black point compensation."""
    name = "CMYK" if image.mode == "CMYK" else "Lab"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif profile is None:
            raise ImageCms.PyCMSError("without a profile")
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        rgb = ImageCms.profileToProfile(
            image, source, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError) as error:
        if image.mode == "LAB":
            raise BadPhoto(f"Lab, which cannot be turned into RGB ({error})") from None
        why = "without a profile" if profile is None else "with a broken profile"
        notes.append(f"CMYK {why}, turned into RGB by the plain formula")
        return image.convert("RGB"), None
    notes.append(f"{name}, turned into sRGB" + (" through its profile" if name == "CMYK" else ""))
    return rgb, srgb.tobytes()


def suit(picture: Picture, target: Path, scale: int) -> Picture:
    """The picture as the format of ``target`` can hold it once it is ``scale`` times as large, noted if changed.

    Raises:
        BadPhoto: the format has no room for so many pixels.
    """
    form, image = FORMATS[target.suffix.lower()], picture.image
    width, height = (scale * side for side in image.size)
    if max(width, height) > (limit := LONGEST_SIDE.get(form, width + height)):
        raise BadPhoto(f"{width}x{height} when enlarged, but {form} ends at {limit:,} pixels: choose PNG")
    notes = list(picture.notes)
    if form == "JPEG" and image.mode in ("LA", "RGBA"):
        notes.append("JPEG holds no transparency: laid over white")
        image = _over_white(image)
    if form in ("JPEG", "WEBP") and image.mode == "I;16":
        notes.append(f"{form} holds no 16 bits: 8 are written")
        image = _to_8bit(image)
    exif = picture.exif
    if form == "JPEG" and exif and len(exif.tobytes()) > LONGEST_EXIF:
        notes.append("its EXIF is too long for JPEG and is left out")
        exif = None
    return replace(picture, image=image, exif=exif, notes=notes)


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("L" if image.mode == "LA" else "RGB")


def write(image: Image.Image, target: Path, like: Picture) -> None:
    """Write aside, then rename: ``target`` is the old file or the new one, never half of one.

    The ending of ``target``, a key of ``FORMATS``, decides the format; profile and EXIF are those of ``like``.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
        BadPhoto: the format's encoder refuses the picture.
    """
    form = FORMATS[target.suffix.lower()]
    options = dict(ENCODING[form])
    if like.profile:
        options["icc_profile"] = like.profile
    if like.exif:
        inner = like.exif.get_ifd(EXIF_IFD)
        for tag, side in ((EXIF_WIDTH, image.width), (EXIF_HEIGHT, image.height)):
            if tag in inner:
                inner[tag] = side
        options["exif"] = like.exif.tobytes()
    if form == "WEBP" and like.lossless:
        options["lossless"] = True
    aside = target.with_name(f".upscale-{os.getpid()}{target.suffix}")  # short: names have a limit
    try:
        image.save(aside, form, **options)
        os.replace(aside, target)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # Pillow's encoders raise errors of many types
        raise BadPhoto(f"cannot be written as {form}: {error}") from None
    finally:
        aside.unlink(missing_ok=True)


# ---------------------------------------------------------------- one crop, three ways

WINDOW = 64  # side of the crop in pixels of the photo
PANEL = 512  # about the side at which it is shown
GAP, STRIP = 8, 30


def side_by_side(photo: Image.Image, enlarged: Image.Image, label: str) -> Image.Image:
    """The most detailed window of a photo, enlarged by nearest, by bicubic and by a network, as one picture.

    Each is shown at the same whole-number zoom with square pixels, under its name. Transparency is laid over
    white. The modes are those of :class:`Picture`; ``enlarged`` is ``photo``, a whole number of times as large.
    """
    photo, scale = _shown(photo), enlarged.width // photo.width
    left, top, right, bottom = box = _detailed_window(photo)
    size = (scale * (right - left), scale * (bottom - top))
    zoom = max(1, PANEL // max(size))
    panels = {
        "nearest": photo.resize(size, Image.Resampling.NEAREST, box),
        "bicubic": _bicubic(photo, box, scale),
        label: _shown(enlarged.crop([scale * edge for edge in box])),
    }
    width, height = zoom * size[0], zoom * size[1]
    sheet = Image.new("RGB", (3 * width + 4 * GAP, height + STRIP + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for place, (name, panel) in enumerate(panels.items()):
        x = GAP + place * (width + GAP)
        draw.text((x, STRIP / 2), name, "black", font, anchor="lm")
        sheet.paste(panel.resize((width, height), Image.Resampling.NEAREST), (x, STRIP))
    return sheet


def _shown(image: Image.Image) -> Image.Image:
    """As a screen shows it: 8 bits, RGB, over white."""
    if image.mode == "I;16":
        image = _to_8bit(image)
    return (_over_white(image) if image.mode in ("LA", "RGBA") else image).convert("RGB")


def _bicubic(photo: Image.Image, box: tuple[int, int, int, int], scale: int) -> Image.Image:
    """A box of an RGB image enlarged as ``degrade`` does; Pillow would clip between the two passes."""
    left, top, right, bottom = box
    above, before = max(0, top - 2), max(0, left - 2)  # bicubic sees two pixels
    pixels = np.asarray(photo)[above : bottom + 2, before : right + 2]
    large = upsample(torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1), scale)
    rows = slice(scale * (top - above), scale * (bottom - above))
    columns = slice(scale * (left - before), scale * (right - before))
    return Image.fromarray(large[:, rows, columns].clamp(0, 255).round().byte().permute(1, 2, 0).numpy())


def _detailed_window(photo: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the window with the largest mean squared gradient."""
    gray = torch.from_numpy(np.array(photo.convert("L"), np.float32))
    height, width = min(WINDOW, photo.height), min(WINDOW, photo.width)
    energy = torch.zeros_like(gray)
    energy[1:] += (gray[1:] - gray[:-1]).square()
    energy[:, 1:] += (gray[:, 1:] - gray[:, :-1]).square()
    means = avg_pool2d(energy[None], (height, width), stride=WINDOW // 4)[0]
    row, column = divmod(int(means.argmax()), means.shape[1])
    left, top = column * WINDOW // 4, row * WINDOW // 4
    return left, top, left + width, top + height
