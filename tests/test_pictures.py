"""Every kind of picture file, enlarged by the command: its mode, its depth, its EXIF, its colours."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_files import command, files, network, noise, saved, smooth
from PIL import ExifTags, Image, ImageCms

import srlib
from srlib import models
from srlib.upscale import photo_files as pictures
from srlib.data import decode
from srlib.data.decode import BadPhoto
from srlib.upscale.enlarge import Enlarger

CPU = torch.device("cpu")


@pytest.fixture
def upscale(tmp_path, monkeypatch):
    return command(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "mode", "out", "form"),
    [
        ("a.jpg", "RGB", "RGB", "JPEG"),
        ("a.JPEG", "L", "L", "JPEG"),
        ("a.jpg", "CMYK", "RGB", "JPEG"),
        ("a.png", "RGB", "RGB", "PNG"),
        ("a.png", "RGBA", "RGBA", "PNG"),
        ("a.png", "L", "L", "PNG"),
        ("a.png", "LA", "LA", "PNG"),
        ("a.png", "P", "RGB", "PNG"),
        ("a.png", "1", "L", "PNG"),
        ("a.png", "I;16", "I;16", "PNG"),
        ("a.webp", "RGB", "RGB", "WEBP"),
        ("a.webp", "RGBA", "RGBA", "WEBP"),
        ("a.tif", "RGB", "RGB", "TIFF"),
        ("a.tiff", "RGBA", "RGBA", "TIFF"),
        ("a.tif", "L", "L", "TIFF"),
        ("a.tif", "LA", "LA", "TIFF"),
        ("a.tif", "I;16", "I;16", "TIFF"),
        ("a.tif", "F", "I;16", "TIFF"),
        ("a.tif", "CMYK", "RGB", "TIFF"),
        ("a.tif", "LAB", "RGB", "TIFF"),
        ("a.gif", "P", "RGB", "PNG"),
        ("a.bmp", "RGB", "RGB", "PNG"),
        ("a", "RGB", "RGB", "PNG"),
    ],
)
def test_every_format_and_mode(upscale, name, mode, out, form):
    pixels = smooth(40, 30)
    image = Image.fromarray(pixels)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(pixels[..., 0]))
    elif mode == "LA":
        image = Image.merge("LA", (image.convert("L"), Image.fromarray(pixels[..., 0])))
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.float32) / 255)
    elif mode == "LAB":
        image = ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    else:
        image = image.convert(mode)
    image.save(name, {"WEBP": "WEBP", "TIFF": "TIFF", "JPEG": "JPEG"}.get(form, None if "." in name else "PNG"))
    assert upscale(name) == 0
    (written,) = files() - {name}
    assert written == f"a_x4{Path(name).suffix if form != 'PNG' else '.png'}"
    with Image.open(written) as enlarged:
        assert (enlarged.format, enlarged.mode, enlarged.size) == (form, out, (160, 120))
        if mode in ("1", "P", "LAB"):  # these are coarse, or have lost what lies outside of print
            return
        if out == "I;16":
            shown = np.asarray(enlarged) / 257
        else:
            shown = np.asarray(enlarged.convert("L" if out[0] == "L" else "RGB"), float)
    wanted = np.asarray(Image.fromarray(pixels).convert("L" if out[0] in "LI" else "RGB"), float)
    middle = shown[2::4, 2::4][3:-3, 3:-3]
    visible = wanted[3:-3, 3:-3, 0] > 40 if wanted.ndim == 3 else np.ones(middle.shape, bool)
    error = np.abs(middle - wanted[3:-3, 3:-3])[visible]
    assert np.median(error) < 12, "an untrained network stays near bicubic"


def test_deep_gray_keeps_its_levels(upscale):
    levels = np.arange(30_000, 30_000 + 24 * 20, dtype=np.uint16).reshape(20, 24)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(name)
    # bicubic alone, so that what goes in is what comes out
    for name in ("a.png", "a.tif"):
        picture = pictures.read(Path(name))
        enlarged = Enlarger(models.Interpolation(), device=CPU).image(picture.image)
        pictures.write(enlarged, Path(f"out_{name}"), picture)
        with Image.open(f"out_{name}") as again:
            assert again.mode == "I;16"
            np.testing.assert_array_equal(np.asarray(again), np.asarray(enlarged))
        means = np.asarray(enlarged).reshape(20, 4, 24, 4).mean(axis=(1, 3))
        np.testing.assert_allclose(means[3:-3, 3:-3], levels[3:-3, 3:-3], atol=1)


def deep_png(channels: int) -> bytes:
    """A PNG of 16 bits per channel, 8 x 6, which Pillow can read but not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + b"\x80\x40" * (8 * channels) for _ in range(6))
    header = struct.pack(">IIBBBBB", 8, 6, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("channels", "mode"), [(2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_deep_colour_is_read_in_8_bits_and_said_so(upscale, capsys, channels, mode):
    Path("a.png").write_bytes(deep_png(channels))
    assert upscale("a.png") == 0
    assert "16 bits per channel, of which Pillow reads 8" in capsys.readouterr().out
    with Image.open("a_x4.png") as enlarged:
        assert enlarged.mode == mode


def test_32_bits_outside_the_usual_range_are_refused(upscale, capsys):
    Image.fromarray(np.full((6, 8), 3.5, np.float32)).save("a.tif")
    assert upscale("a.tif") == 1
    assert "a.tif: mode F with values 3.5 to 3.5, not 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_a_transparent_colour_becomes_alpha(upscale, mode):
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:, 8:] = 200
    image = {"P": lambda: Image.fromarray(pixels).convert("P"), "L": lambda: Image.fromarray(pixels),
             "RGB": lambda: Image.fromarray(np.stack([pixels] * 3, axis=-1)),
             "I;16": lambda: Image.fromarray(pixels.astype(np.uint16) * 257)}[mode]()  # fmt: skip
    image.save("a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert upscale("a.png") == 0
    with Image.open("a_x4.png") as enlarged:
        assert enlarged.mode == {"L": "LA", "I;16": "LA"}.get(mode, "RGBA")
        alpha = np.asarray(enlarged)[..., -1]
    assert (alpha[:, :24] == 0).all()
    assert (alpha[:, 40:] == 255).all()


def test_jpeg_lays_transparency_over_white(upscale, capsys):
    Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save("a.png")
    assert upscale("a.png", "--output", "b.jpg") == 0
    assert "laid over white" in capsys.readouterr().out
    with Image.open("b.jpg") as enlarged:
        assert enlarged.mode == "RGB"
        assert np.asarray(enlarged).min() > 200


def test_jpeg_and_webp_take_8_of_16_bits(upscale, capsys):
    Image.fromarray(np.full((8, 8), 0x8040, np.uint16)).save("a.png")
    assert upscale("a.png", "--output", "b.jpg") == 0
    assert upscale("a.png", "--output", "b.webp") == 0
    assert capsys.readouterr().out.count("holds no 16 bits: 8 are written") == 2


def test_a_lossless_webp_stays_lossless(upscale):
    for name, lossless in (("a.webp", True), ("b.webp", False)):
        Image.fromarray(noise(12, 12, 3)).save(name, lossless=lossless)
        assert upscale(name) == 0
        assert (b"VP8L" in Path(name.replace(".", "_x4.")).read_bytes()) == lossless


def test_formats_have_a_longest_side(upscale, capsys, monkeypatch):
    monkeypatch.setitem(pictures.LONGEST_SIDE, "WEBP", 47)
    saved("a.webp")
    assert upscale("a.webp") == 1
    assert "48x40 when enlarged, but WEBP ends at 47 pixels: choose PNG" in capsys.readouterr().err
    assert upscale("a.webp", "--output", "a.png") == 0


def test_the_first_frame_counts_and_is_said(upscale, capsys):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (60, 120, 180)]
    for name in ("a.gif", "b.webp", "c.tif"):
        frames[0].save(name, save_all=True, append_images=frames[1:])
    assert upscale("a.gif", "b.webp", "c.tif") == 0
    assert capsys.readouterr().out.count("the first of its 3 frames or pages") == 3
    for name in ("a_x4.png", "b_x4.webp", "c_x4.tif"):
        with Image.open(name) as enlarged:
            assert getattr(enlarged, "n_frames", 1) == 1
            assert np.asarray(enlarged.convert("RGB"))[8:-8, 8:-8].mean() < 100


# ---------------------------------------------------------------- EXIF and colour


def exif_with(orientation: int, note: bytes = b"") -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera"
    exif[ExifTags.Base.Copyright] = "Somebody"
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2024:02:29 12:00:00",
        ExifTags.Base.ExifImageWidth: 24,
        ExifTags.Base.ExifImageHeight: 16,
        ExifTags.Base.MakerNote: note,
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return exif.tobytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_photos_are_turned_upright_and_keep_their_exif(upscale, name, orientation):
    Image.fromarray(smooth(24, 16)).save(name, exif=exif_with(orientation))
    with Image.open(name) as image:
        image.load()
        turn = decode.TURNS.get(orientation if not name.endswith("tif") else 1)
        upright = image if turn is None else image.transpose(turn)
        assert upright.size == ((24, 16) if orientation in (1, 3) else (16, 24))
    assert upscale(name) == 0
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


@pytest.mark.parametrize("name", ["b.jpg", "b.png", "b.webp", "b.tif"])
def test_a_tiffs_storage_tags_do_not_pass_for_exif(upscale, name):
    Image.fromarray(smooth(24, 16)).save("a.tif", exif=exif_with(1), dpi=(300, 300))
    assert upscale("a.tif", "--output", name) == 0
    with Image.open(name) as enlarged:
        enlarged.load()
        exif = enlarged.getexif()
        assert exif[ExifTags.Base.Make] == "Camera"
        assert exif[ExifTags.Base.XResolution] == 300
        if not name.endswith("tif"):
            assert max(tag for tag in exif if tag < 532) <= ExifTags.Base.HostComputer
            assert ExifTags.Base.StripOffsets not in exif


@pytest.mark.filterwarnings("error")
def test_broken_exif_does_not_spoil_a_photo(upscale, capsys, monkeypatch):
    saved("a.jpg", exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\xff\xff" + bytes(range(200)))
    saved("b.jpg", exif=b"Exif\0\0nonsense")
    saved("c.jpg", exif=exif_with(6))
    assert upscale("a.jpg", "b.jpg") == 0

    def fail(self, offset=8):
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr(Image.Exif, "tobytes", fail)
    assert upscale("c.jpg") == 0
    assert "its EXIF is broken and is left out" in capsys.readouterr().out
    with Image.open("c_x4.jpg") as enlarged:
        assert enlarged.size == (40, 48), "turned all the same"


def test_exif_that_jpeg_cannot_hold_is_left_out(upscale, capsys):
    saved("a.png", exif=exif_with(1, note=bytes(70_000)))
    assert upscale("a.png", "--output", "b.jpg") == 0
    assert "its EXIF is too long for JPEG and is left out" in capsys.readouterr().out
    assert upscale("a.png") == 0
    with Image.open("a_x4.png") as enlarged:
        assert len(enlarged.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote]) == 70_000


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_the_colour_profile_stays_with_its_pixels(upscale, name):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + b"mine"
    saved(name, icc_profile=profile)
    assert upscale(name, "--compare") == 0
    for written in (name.replace(".", "_x4."), "a_compare.png"):
        with Image.open(written) as enlarged:
            assert enlarged.info["icc_profile"] == profile
    image = Image.open(name)
    assert srlib.upscale(image, network(), device="cpu").info["icc_profile"] == profile


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


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_goes_through_its_profile_to_srgb(upscale, capsys, name):
    cyan = Image.new("CMYK", (12, 12), (255, 0, 0, 0))
    options = {"quality": 100} if name == "a.jpg" else {}
    cyan.save(name, icc_profile=press_profile(), **options)
    picture = pictures.read(Path(name))
    red, green, blue = picture.image.getpixel((6, 6))
    assert red > 150 > 110 > max(green, blue)
    assert ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(picture.profile))).startswith("sRGB")
    assert upscale(name) == 0
    assert "CMYK, turned into sRGB through its profile" in capsys.readouterr().out
    with Image.open(name.replace(".", "_x4.")) as enlarged:
        assert enlarged.mode == "RGB"
        assert enlarged.info["icc_profile"] == picture.profile


def test_cmyk_without_a_good_profile_takes_the_plain_formula(upscale, capsys):
    cyan = Image.new("CMYK", (12, 12), (255, 0, 0, 0))
    cyan.save("a.tif")
    cyan.save("b.tif", icc_profile=b"no profile at all")
    assert upscale("a.tif", "b.tif") == 0
    out = capsys.readouterr().out
    assert "CMYK without a profile, turned into RGB by the plain formula" in out
    assert "CMYK with a broken profile" in out
    with Image.open("b_x4.tif") as enlarged:
        assert "icc_profile" not in enlarged.info
        assert enlarged.getpixel((20, 20))[0] < 100 < enlarged.getpixel((20, 20))[2]


def test_reading_names_what_is_wrong(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(BadPhoto, match="HEIC"):
        pictures.read(tmp_path / "a.heic")
