"""Every kind of picture file through ``upscale``: modes, depths, transparency, EXIF, profiles, frames."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from photo_files import exif_with, files, network, noise, picture, saved, smooth
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import putchunk

from srlib import models
from srlib.data import decode
from srlib.upscale import photo_files
from srlib.upscale import upscale as enlarged_by


def assert_alike(enlarged, picture):
    """That an untrained network, which stays near bicubic, shows in each region what the picture shows."""
    ours, theirs = (decode.to_rgb(x).resize((8, 6), Image.Resampling.BOX) for x in (enlarged, picture))
    assert np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).mean() < 5


@pytest.mark.parametrize(
    ("name", "modes", "form"),
    [
        ("a.JPEG", "RGB L CMYK>RGB", "JPEG"),
        ("a.png", "RGB RGBA L LA P>RGB 1>L I;16", "PNG"),
        ("a.webp", "RGB RGBA", "WEBP"),
        ("a.tif", "RGB L LA I;16 F>I;16 CMYK>RGB LAB>RGB", "TIFF"),
        ("a.tiff", "RGBA", "TIFF"),
        ("a.gif", "P>RGB", "PNG"),
        ("a.bmp", "RGB", "PNG"),
        ("a", "RGB", "PNG"),
    ],
)
def test_every_format_and_mode(upscale, name, modes, form):
    target = f"a_x4{'.png' if form == 'PNG' else Path(name).suffix}"
    for mode, _, out in (entry.partition(">") for entry in modes.split()):
        image = picture(mode, smooth(40, 30))
        image.save(name, None if "." in name else "PNG")
        upscale(name, "--force")
        assert files() == {name, target}
        with Image.open(target) as enlarged:
            assert (enlarged.format, enlarged.mode, enlarged.size) == (form, out or mode, (160, 120))
            assert_alike(enlarged, image)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_deep_gray_keeps_its_levels(tmp_path, ending):
    levels, path = np.arange(30_000, 30_000 + 24 * 20, dtype=np.uint16).reshape(20, 24), tmp_path / f"a.{ending}"
    Image.fromarray(levels).save(path)
    photo_files.write(enlarged_by(photo_files.read(path).image, models.Interpolation(), device="cpu"), path, {})
    means = np.asarray(Image.open(path)).reshape(20, 4, 24, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(means[3:-3, 3:-3], levels[3:-3, 3:-3], atol=1)


def test_deep_colour_is_read_in_8_bits_and_said_so(upscale):
    """Of PNGs that Pillow can read but not write."""
    for mode, kind in (("LA", 4), ("RGB", 2), ("RGBA", 6)):
        with open(f"{mode}.png", "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            putchunk(file, b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, kind, 0, 0, 0))
            putchunk(file, b"IDAT", zlib.compress(6 * (b"\0" + 8 * len(mode) * b"\x80\x40")))
            putchunk(file, b"IEND")
        assert "16 bits per channel, of which Pillow reads 8" in upscale(f"{mode}.png")
        assert Image.open(f"{mode}_x4.png").mode == mode


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_a_transparent_colour_becomes_alpha(upscale, mode):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 200
    picture(mode, pixels).save("a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    upscale("a.png")
    enlarged = Image.open("a_x4.png")
    assert enlarged.mode == {"L": "LA", "I;16": "LA"}.get(mode, "RGBA")
    assert enlarged.getchannel("A").crop((0, 0, 24, 64)).getextrema() == (0, 0)
    assert enlarged.getchannel("A").crop((40, 0, 64, 64)).getextrema() == (255, 255)


def test_what_a_format_cannot_hold_is_changed_and_said(upscale, monkeypatch):
    Image.new("RGBA", (8, 8)).save("clear.png")
    Image.fromarray(np.full((8, 8), 0x8040, np.uint16)).save("deep.png")
    white, eight = "holds no transparency: laid over white", "holds no 16 bits: 8 are written"
    for kind, target, note, level in (("clear", "a.jpg", white, 255), ("deep", "b.jpg", eight, 128),
                                      ("deep", "b.webp", eight, 128)):  # fmt: skip
        assert note in upscale(f"{kind}.png", "--output", target)
        assert abs(Image.open(target).convert("L").getpixel((16, 16)) - level) < 4
    monkeypatch.setitem(photo_files.LONGEST_SIDE, "WEBP", 47)
    saved("a.webp")
    assert "48x40 when enlarged, but WEBP ends at 47 pixels" in upscale("a.webp", status=1)
    saved("a.png", exif=exif_with(1, note=bytes(70_000)))
    assert "its EXIF is too long for JPEG and is left out" in upscale("a.png", "--output", "c.jpg")
    upscale("a.png")
    inner = Image.open("a_x4.png").getexif().get_ifd(ExifTags.IFD.Exif)
    assert len(inner[ExifTags.Base.MakerNote]) == 70_000


def test_a_lossless_webp_stays_lossless(upscale):
    for name, lossless in (("a.webp", True), ("b.webp", False)):
        Image.fromarray(noise(12, 12, 3)).save(name, lossless=lossless)
        upscale(name)
        assert (b"VP8L" in Path(name.replace(".", "_x4.")).read_bytes()) == lossless


def test_the_first_frame_counts_and_is_said(upscale):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (60, 120, 180)]
    for name in ("a.gif", "b.webp", "c.tif"):
        frames[0].save(name, save_all=True, append_images=frames[1:])
    assert upscale("a.gif", "b.webp", "c.tif").count("the first of its 3 frames or pages") == 3
    for enlarged in map(Image.open, ("a_x4.png", "b_x4.webp", "c_x4.tif")):
        assert np.asarray(enlarged.convert("RGB"))[8:-8, 8:-8].mean() < 100


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", [1, 2, 6])
def test_photos_are_turned_upright_and_keep_exif_and_profile(upscale, name, orientation):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + b"mine"
    saved(name, size=(24, 16), exif=exif_with(orientation), icc_profile=profile)
    with Image.open(name) as image:
        upright = ImageOps.exif_transpose(image)
    upscale(name, "--compare")
    with Image.open(name.replace(".", "_x4.")) as enlarged:
        exif, tags = enlarged.getexif(), ExifTags.Base
        assert enlarged.size == (4 * upright.width, 4 * upright.height)
        assert_alike(enlarged, upright)
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    assert (exif.get(tags.Orientation, 1), exif[tags.Make]) == (1, "Camera")
    assert inner[tags.DateTimeOriginal] == "2024:02:29 12:00:00"
    assert (inner[tags.ExifImageWidth], inner[tags.ExifImageHeight]) == enlarged.size
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    in_memory = enlarged_by(Image.open(name), network(), device="cpu")
    for made in (enlarged, Image.open("a_compare.png"), in_memory):
        assert made.info["icc_profile"] == profile


def test_a_tiffs_storage_tags_do_not_pass_for_exif(upscale):
    saved("a.tif", exif=exif_with(1), dpi=(300, 300))
    for name in ("b.tif", "b.jpg"):
        upscale("a.tif", "--output", name)
        exif = Image.open(name).getexif()
        assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.XResolution]) == ("Camera", 300)
    assert max(tag for tag in exif if tag < 532) <= ExifTags.Base.HostComputer


@pytest.mark.filterwarnings("error")
def test_broken_exif_does_not_spoil_a_photo(upscale, monkeypatch):
    saved("a.jpg", exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\xff\xff" + bytes(range(200)))
    saved("b.jpg", exif=b"Exif\0\0nonsense")
    saved("c.jpg", exif=exif_with(6))
    upscale("a.jpg", "b.jpg")
    monkeypatch.setattr(Image.Exif, "tobytes", lambda self, offset=8: struct.pack("B", "no integer"))
    assert "its EXIF is broken and is left out" in upscale("c.jpg")
    with Image.open("c_x4.jpg") as enlarged:
        assert enlarged.size == (40, 48), "turned all the same"


def press_profile() -> bytes:
    """A CMYK profile of an impossible press: white paper, and any ink gives one red (Lab 50, 60, 40)."""
    ramp, paper, ink = bytes(range(256)), bytes([255, 128, 128]), bytes([128, 188, 168])
    table = b"mft1\0\0\0\0\4\3\2\0" + bytes(36) + 4 * ramp + paper + 15 * ink + 3 * ramp
    header = struct.pack(">I4xI12s12x4s88x", 144 + len(table), 0x02400000, b"prtrCMYKLab ", b"acsp")
    return header + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_cmyk_goes_through_its_profile_to_srgb_or_takes_the_plain_formula(upscale):
    for profile, note in ((press_profile(), "through its"), (b"none", "with a broken"), (None, "without a")):
        Image.new("CMYK", (12, 12), (255, 0, 0, 0)).save("a.tif", icc_profile=profile)  # cyan
        assert f"{note} profile" in upscale("a.tif", "--force")
        enlarged = Image.open("a_x4.tif")
        red, green, blue = enlarged.getpixel((20, 20))
        if profile == press_profile():
            assert red > 150 > 110 > max(green, blue)
            written = ImageCms.ImageCmsProfile(io.BytesIO(enlarged.info["icc_profile"]))
            assert ImageCms.getProfileName(written).startswith("sRGB")
        else:
            assert "icc_profile" not in enlarged.info
            assert red < 100 < blue
