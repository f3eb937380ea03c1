"""Every kind of picture file, enlarged by the command: its mode, its depth, its EXIF, its colours."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from photo_files import command, files, network, noise, picture, saved, smooth
from PIL import ExifTags, Image, ImageCms, ImageOps

from srlib import models
from srlib.upscale import photo_files
from srlib.upscale import upscale as enlarged_by

upscale = pytest.fixture(command)


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
    pixels = smooth(40, 30)
    target = f"a_x4{'.png' if form == 'PNG' else Path(name).suffix}"
    for mode, _, out in (entry.partition(">") for entry in modes.split()):
        image = picture("RGB" if mode == "LAB" else mode, pixels)
        if mode == "LAB":
            profiles = map(ImageCms.createProfile, ("sRGB", "LAB"))
            image = ImageCms.profileToProfile(image, *profiles, outputMode=mode)
        image.save(name, None if "." in name else "PNG")
        assert upscale(name, "--force") == 0
        assert files() == {name, target}
        with Image.open(target) as enlarged:
            assert (enlarged.format, enlarged.mode, enlarged.size) == (form, out or mode, (160, 120))
            kind = "L" if enlarged.mode[0] in "LI" else "RGB"
            deep = enlarged.mode == "I;16"
            shown = np.asarray(enlarged) / 257 if deep else np.asarray(enlarged.convert(kind), float)
        if mode in ("1", "P", "LAB"):  # these are coarse, or have lost what lies outside of print
            continue
        wanted = np.asarray(Image.fromarray(pixels).convert(kind), float)
        error = np.abs(shown[2::4, 2::4] - wanted)[3:-3, 8:-3]  # where red, which may be alpha, is not low
        assert np.median(error) < 12, "an untrained network stays near bicubic"


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_deep_gray_keeps_its_levels(tmp_path, ending):
    levels, path = np.arange(30_000, 30_000 + 24 * 20, dtype=np.uint16).reshape(20, 24), tmp_path / f"a.{ending}"
    Image.fromarray(levels).save(path)
    photo_files.write(enlarged_by(photo_files.read(path).image, models.Interpolation(), device="cpu"), path, {})
    means = np.asarray(Image.open(path)).reshape(20, 4, 24, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(means[3:-3, 3:-3], levels[3:-3, 3:-3], atol=1)


def deep_png(channels: int) -> bytes:
    """A PNG of 16 bits per channel, 8 x 6, which Pillow can read but not write."""
    rows = b"".join(b"\0" + b"\x80\x40" * (8 * channels) for _ in range(6))
    header = struct.pack(">IIBBBBB", 8, 6, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND"]
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_deep_colour_is_read_in_8_bits_and_said_so(upscale, capsys):
    for channels, mode in ((2, "LA"), (3, "RGB"), (4, "RGBA")):
        Path(f"{mode}.png").write_bytes(deep_png(channels))
        assert upscale(f"{mode}.png") == 0
        assert "16 bits per channel, of which Pillow reads 8" in capsys.readouterr().out
        assert Image.open(f"{mode}_x4.png").mode == mode


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_a_transparent_colour_becomes_alpha(upscale, mode):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 200
    picture(mode, pixels).save("a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert upscale("a.png") == 0
    enlarged = Image.open("a_x4.png")
    assert enlarged.mode == {"L": "LA", "I;16": "LA"}.get(mode, "RGBA")
    assert enlarged.getchannel("A").crop((0, 0, 24, 64)).getextrema() == (0, 0)
    assert enlarged.getchannel("A").crop((40, 0, 64, 64)).getextrema() == (255, 255)


def test_what_a_format_cannot_hold_is_changed_and_said(upscale, capsys, monkeypatch):
    Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save("clear.png")
    Image.fromarray(np.full((8, 8), 0x8040, np.uint16)).save("deep.png")
    assert upscale("clear.png", "--output", "clear.jpg") == 0
    assert "JPEG holds no transparency: laid over white" in capsys.readouterr().out
    assert np.asarray(Image.open("clear.jpg")).min() > 200
    for name in ("deep.jpg", "deep.webp"):
        assert upscale("deep.png", "--output", name) == 0
        assert "holds no 16 bits: 8 are written" in capsys.readouterr().out
        assert abs(int(np.asarray(Image.open(name).convert("L"))[16, 16]) - 128) < 4
    monkeypatch.setitem(photo_files.LONGEST_SIDE, "WEBP", 47)
    saved("a.webp")
    assert upscale("a.webp") == 1
    assert "48x40 when enlarged, but WEBP ends at 47 pixels: choose PNG" in capsys.readouterr().err
    saved("a.png", exif=exif_with(1, note=bytes(70_000)))
    assert upscale("a.png", "--output", "b.jpg") == 0
    assert "its EXIF is too long for JPEG and is left out" in capsys.readouterr().out
    assert upscale("a.png") == 0
    inner = Image.open("a_x4.png").getexif().get_ifd(ExifTags.IFD.Exif)
    assert len(inner[ExifTags.Base.MakerNote]) == 70_000


def test_a_lossless_webp_stays_lossless(upscale):
    for name, lossless in (("a.webp", True), ("b.webp", False)):
        Image.fromarray(noise(12, 12, 3)).save(name, lossless=lossless)
        assert upscale(name) == 0
        assert (b"VP8L" in Path(name.replace(".", "_x4.")).read_bytes()) == lossless


def test_the_first_frame_counts_and_is_said(upscale, capsys):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (60, 120, 180)]
    for name in ("a.gif", "b.webp", "c.tif"):
        frames[0].save(name, save_all=True, append_images=frames[1:])
    assert upscale("a.gif", "b.webp", "c.tif") == 0
    assert capsys.readouterr().out.count("the first of its 3 frames or pages") == 3
    for enlarged in map(Image.open, ("a_x4.png", "b_x4.webp", "c_x4.tif")):
        assert getattr(enlarged, "n_frames", 1) == 1
        assert np.asarray(enlarged.convert("RGB"))[8:-8, 8:-8].mean() < 100


def exif_with(orientation: int, note: bytes = b"") -> bytes:
    exif, tags = Image.Exif(), ExifTags.Base
    exif.update({tags.Orientation: orientation, tags.Make: "Camera", tags.Copyright: "Somebody"})
    exif[ExifTags.IFD.Exif] = {tags.DateTimeOriginal: "2024:02:29 12:00:00", tags.ExifImageWidth: 24}
    exif[ExifTags.IFD.Exif] |= {tags.ExifImageHeight: 16, tags.MakerNote: note}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return exif.tobytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", [1, 2, 6])
def test_photos_are_turned_upright_and_keep_exif_and_profile(upscale, name, orientation):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + b"mine"
    Image.fromarray(smooth(24, 16)).save(name, exif=exif_with(orientation), icc_profile=profile)
    with Image.open(name) as image:
        upright = ImageOps.exif_transpose(image)
    assert upright.size == ((24, 16) if orientation < 5 else (16, 24))
    assert upscale(name, "--compare") == 0
    with Image.open(name.replace(".", "_x4.")) as enlarged:
        exif = enlarged.getexif()
        assert enlarged.size == (4 * upright.width, 4 * upright.height)
        shrunk = np.asarray(enlarged.resize(upright.size, Image.Resampling.BOX), float)
        assert np.abs(shrunk - np.asarray(upright, float)).mean() < 16
    assert exif.get(ExifTags.Base.Orientation, 1) == 1
    assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.Copyright]) == ("Camera", "Somebody")
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    assert inner[ExifTags.Base.DateTimeOriginal] == "2024:02:29 12:00:00"
    assert (inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight]) == enlarged.size
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    in_memory = enlarged_by(Image.open(name), network(), device="cpu")
    for made in (enlarged, Image.open("a_compare.png"), in_memory):
        assert made.info["icc_profile"] == profile


@pytest.mark.parametrize("name", ["b.jpg", "b.tif"])
def test_a_tiffs_storage_tags_do_not_pass_for_exif(upscale, name):
    Image.fromarray(smooth(24, 16)).save("a.tif", exif=exif_with(1), dpi=(300, 300))
    assert upscale("a.tif", "--output", name) == 0
    exif = Image.open(name).getexif()
    assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.XResolution]) == ("Camera", 300)
    if not name.endswith("tif"):
        assert max(tag for tag in exif if tag < 532) <= ExifTags.Base.HostComputer
        assert ExifTags.Base.StripOffsets not in exif


@pytest.mark.filterwarnings("error")
def test_broken_exif_does_not_spoil_a_photo(upscale, capsys, monkeypatch):
    saved("a.jpg", exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\xff\xff" + bytes(range(200)))
    saved("b.jpg", exif=b"Exif\0\0nonsense")
    saved("c.jpg", exif=exif_with(6))
    assert upscale("a.jpg", "b.jpg") == 0
    monkeypatch.setattr(Image.Exif, "tobytes", lambda self, offset=8: struct.pack("B", "no integer"))
    assert upscale("c.jpg") == 0
    assert "its EXIF is broken and is left out" in capsys.readouterr().out
    with Image.open("c_x4.jpg") as enlarged:
        assert enlarged.size == (40, 48), "turned all the same"


def press_profile() -> bytes:
    """A CMYK profile of an impossible press: white paper, and any ink gives one red (Lab 50, 60, 40)."""
    paper, ink = bytes([255, 128, 128]), bytes([128, 188, 168])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *[65536 if i % 4 == 0 else 0 for i in range(9)])
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * ramp + paper + 15 * ink + 3 * ramp
    table += bytes(-len(table) % 4)
    header = struct.pack(">I4sI4s4s4s12s4s", 144 + len(table), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ",
                         struct.pack(">6H", 2024, 1, 1, 0, 0, 0), b"acsp")  # fmt: skip
    header += bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    return header + bytes(128 - len(header)) + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_cmyk_goes_through_its_profile_to_srgb_or_takes_the_plain_formula(upscale, capsys):
    cyan = Image.new("CMYK", (12, 12), (255, 0, 0, 0))
    profiles = {"a.tif": press_profile(), "a.jpg": press_profile(), "b.tif": b"no profile at all", "c.tif": None}
    for name, profile in profiles.items():
        cyan.save(name, icc_profile=profile, quality=100)
        assert upscale(name) == 0
        enlarged = Image.open(name.replace(".", "_x4."))
        red, green, blue = enlarged.getpixel((20, 20))
        if name.startswith("a"):
            assert red > 150 > 110 > max(green, blue)
            written = ImageCms.ImageCmsProfile(io.BytesIO(enlarged.info["icc_profile"]))
            assert ImageCms.getProfileName(written).startswith("sRGB")
        else:
            assert "icc_profile" not in enlarged.info
            assert red < 100 < blue
    out = capsys.readouterr().out
    assert out.count("CMYK, turned into sRGB through its profile") == 2
    assert "CMYK without a profile, turned into RGB by the plain formula" in out
    assert "CMYK with a broken profile" in out
