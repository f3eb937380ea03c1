"""Picture files, made upright, in their own colours, written all or not at all. EXIF and the colour profile stay,
transparency and gray of 16 bits too, XMP and IPTC do not. A palette becomes RGB, CMYK and Lab become sRGB."""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from srlib.data.decode import ORIENTATION, TURNS, BadPhoto, deep_gray, opened, to_rgb
from srlib.files import atomic

FORMATS = dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG")  # what is written, by the ending of the name
FORMATS |= {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
# JPEG's colour keeps its edges; PNG's level 4 is twice as fast as 6; through libtiff Pillow loses parts of EXIF.
ENCODING = {"quality": 95, "subsampling": 0, "compress_level": 4, "compression": "raw"}  # each takes what it knows
LONGEST_SIDE, LONGEST_EXIF = {"JPEG": 65_500, "WEBP": 16_383}, 65_533  # pixels that encoders take; bytes in JPEG
# EXIF's tags up to 532 say how TIFF stores pixels, but for a few, such as camera, resolution and artist. The
# others here are XMP, IPTC, Photoshop's, the colour profile and layers.
STALE = {*range(533), 700, 33723, 34377, 34675, 37724} - {*range(269, 273), 282, 283, 285, 296, 305, 306, 315, 316}


@dataclass
class Picture:
    """A photo to enlarge, of mode L, LA, RGB, RGBA or I;16; arguments of Pillow's ``save``; what was changed."""

    image: Image.Image
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> Picture:
    """A picture file of any format that Pillow knows. Raises OSError, or BadPhoto with what is wrong with it."""
    data = path.read_bytes()
    # Pillow warns of damaged EXIF, which can be done without, and of size, which has its own check.
    with warnings.catch_warnings(action="ignore"), opened(data) as image:
        frames, stored = getattr(image, "n_frames", 1), [str(tile[-1]) for tile in getattr(image, "tile", ())]
        picture = from_image(image)
        if frames > 1:
            picture.notes.append(f"the first of its {frames} frames or pages")
        if not image.mode.startswith("I") and any(";16" in form for form in stored):
            picture.notes.append("16 bits per channel, of which Pillow reads 8")
        if image.mode == "RGBA" and any(form.startswith("LA;") for form in stored):
            picture.image = picture.image.convert("LA")  # gray of 16 bits with alpha, which Pillow spreads
        picture.options["lossless"] = image.format == "WEBP" and b"VP8L" in data
        return picture


def from_image(image: Image.Image) -> Picture:
    """A Pillow image of any mode, made ready. Raises BadPhoto for 32-bit values outside the usual range."""
    picture = Picture(image)
    image.load()
    try:
        exif, kept = image.getexif(), Image.Exif()  # after load, when a TIFF has turned itself
        if (turn := TURNS.get(exif.get(ORIENTATION, 1))) is not None:
            picture.image = image.transpose(turn)
        kept.load(exif.tobytes())
        for tag in STALE.intersection(kept):
            del kept[tag]
        picture.options["exif"] = kept
    except Exception:  # cameras write broken EXIF, and Pillow then raises errors of many types
        picture.notes.append("its EXIF is broken and is left out")
    if profile := image.info.get("icc_profile"):
        picture.options["icc_profile"] = profile
    if image.mode.startswith(("I", "F")):  # to gray of 16 bits
        pixels = deep_gray(np.asarray(picture.image), image.mode, 65535)
        picture.image = Image.fromarray(pixels)
        if image.mode == "F":
            picture.notes.append("floats become 16 bits")
        if "transparency" in image.info:
            picture.notes.append("16-bit gray with transparency becomes 8 bits, the most that Pillow writes of it")
            alpha = Image.fromarray(np.uint8(255) * (pixels != image.info["transparency"]))
            picture.image = Image.merge("LA", (to_rgb(picture.image).convert("L"), alpha))
    elif image.mode in ("CMYK", "LAB"):
        _to_srgb(picture)
    else:
        base = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        picture.image = picture.image.convert(base + "A" * image.has_transparency_data)
    return picture


def _to_srgb(picture: Picture) -> None:
    """CMYK or Lab to sRGB as printers do it: relative colorimetric, with black point compensation."""
    image, lab, profile = picture.image, picture.image.mode == "LAB", picture.options.pop("icc_profile", b"")
    source, srgb = ImageCms.createProfile("LAB") if lab else io.BytesIO(profile), ImageCms.createProfile("sRGB")
    how = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        picture.image = ImageCms.buildTransform(source, srgb, image.mode, "RGB", *how).apply(image)
        picture.options["icc_profile"] = picture.image.info["icc_profile"]
        picture.notes.append("Lab, turned into sRGB" if lab else "CMYK, turned into sRGB through its profile")
    except ImageCms.PyCMSError:
        picture.image, why = image.convert("RGB"), "with a broken profile" if profile else "without a profile"
        picture.notes.append(f"CMYK {why}, turned into RGB by the plain formula")


def suit(picture: Picture, target: Path, size: tuple[int, int]) -> None:
    """Make it what the format of ``target`` can hold once it has ``size``, width and height, noting what changes.
    Raises BadPhoto where the format has no room for so many pixels."""
    form, image, options = FORMATS[target.suffix.lower()], picture.image, picture.options
    if max(size) > (limit := LONGEST_SIDE.get(form, max(size))):
        raise BadPhoto(f"{size[0]}x{size[1]} when enlarged, but {form} ends at {limit:,} pixels: choose PNG")
    if image.mode in {"JPEG": ("LA", "RGBA", "I;16"), "WEBP": ("I;16",)}.get(form, ()):
        lacks = "16 bits: 8 are written" if image.mode == "I;16" else "transparency: laid over white"
        picture.notes.append(f"{form} holds no {lacks}")
        picture.image = to_rgb(image).convert("RGB" if image.mode == "RGBA" else "L")
    if exif := options.pop("exif", None):
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        tags = ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight
        inner.update((tag, side) for tag, side in zip(tags, size) if tag in inner)
        options["exif"] = exif.tobytes()
        if form == "JPEG" and len(options["exif"]) > LONGEST_EXIF:
            picture.notes.append("its EXIF is too long for JPEG and is left out")
            del options["exif"]


def write(image: Image.Image, target: Path, options: dict[str, Any]) -> None:
    """Write all or nothing, in the format of the name's ending. Raises OSError; BadPhoto: an encoder refuses."""
    form = FORMATS[target.suffix.lower()]
    with atomic(target) as aside:
        try:
            image.save(aside, form, **ENCODING, **options)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # Pillow's encoders raise errors of many types
            raise BadPhoto(f"cannot be written as {form}: {error}") from None
