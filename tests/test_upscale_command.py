"""``upscale`` as one meets it: names, refusals, failures and options; every kind of picture file."""

import io
import os
import re
import signal
import struct
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from photo_files import exif_with, files, network, noise, picture, saved, smooth
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import putchunk

from srlib import models
from srlib.data import decode
from srlib.upscale import Enlarger, photo_files
from srlib.upscale import upscale as enlarged_by


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("a.jpg", "a_x4.jpg"),
        ("a.jpg --output new/deep/b.webp", "new/deep/b.webp"),
        ("a.jpg --output out.v2/", "out.v2/a_x4.jpg"),
        ("dir", "dir/ünï✓_x4.png dir/in/c_x4.tif"),
        ("dir a.jpg --output out", "out/ünï✓_x4.png out/in/c_x4.tif out/a_x4.jpg"),
        ("a.jpg ./a.jpg a.jpg", "a_x4.jpg"),
        ("dir/ünï✓.png dir --output dir", "dir/ünï✓_x4.png dir/in/c_x4.tif"),
        ("a.jpg --compare --output out/b.jpg", "out/b.jpg out/a_compare.png"),
        ("dir/in/b_x4.png", "dir/in/b_x4_x4.png"),
    ],
)
def test_where_pictures_go_and_that_outputs_of_earlier_runs_are_passed_over(upscale, words, written):
    for name in ("a.jpg", "dir/ünï✓.png", "dir/in/c.tif", "dir/in/b_x4.png", "dir/in/b_compare.png"):
        saved(name)
    Path("dir/._c.tif").write_bytes(b"resource fork")
    before = files()
    told = upscale(*words.split())
    assert "network: residual rgb-rgb, 4,896 parameters, " in told
    earlier = "dir: 2 outputs of earlier runs (_x4, _compare) are passed over"
    assert (earlier in told) == ("dir" in words.split()), "whoever names one means it"
    assert f"{written.split()[0]}: 48x40, " in told
    assert files() - before == set(written.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("none.jpg", "none.jpg: no such photo or folder"),
        ("texts", "no photos in texts"),
        ("old", "no photos in old, only 2 outputs of earlier runs"),
        ("a.jpg --output b.xyz", "b.xyz: a file must end in .jpg, .*, .tiff; a folder in /"),
        ("a.jpg c.jpg --output b.jpg", "b.jpg would be written twice, for a.jpg and c.jpg: give .*a folder"),
        ("a.jpg --output a.jpg --force", "a.jpg is a folder or one of the photos"),
        ("c.jpg", r"already there: c_x4.jpg \(1 in all\): add --force, or --output elsewhere"),
        ("a.jpg --compare --output a_compare.png", "a_compare.png would be written twice"),
        ("c.jpg --compare --force", "c_compare.png is a folder or one of the photos"),
        ("twice --output out", "d_x4.png would be written twice, for twice.D.bmp and twice.d.png"),
        ("a.jpg --scale 5", "--scale goes from 2 to 4 with this network"),
        ("a.jpg --width 0", "--width from 1"),
        ("a.jpg --tile 0", "a tile must have at least 1 pixel a side, got 0"),
        ("a.jpg --model none.pt", "none.pt: no such checkpoint"),
        ("a.jpg --device abacus", "unknown device 'abacus'"),
    ],
)
def test_wrong_usage_is_told_before_work_starts(upscale, monkeypatch, words, message):
    monkeypatch.setattr(sys, "platform", "darwin")  # where names that differ by case are one
    for name in ("a.jpg", "c.jpg", "c_x4.jpg", "twice/D.bmp", "twice/d.png", "old/e_x4.jpg", "old/e_compare.png"):
        saved(name)
    Path("c_compare.png").mkdir()
    saved("texts/read.txt", format="PNG").write_text("no photo")
    before = {name: Path(name).read_bytes() for name in files()}
    assert re.match(f"error: .*{message}", upscale(*words.split(), status=2))
    assert {name: Path(name).read_bytes() for name in files()} == before


def test_a_photo_without_room_is_named_and_a_bug_is_not_hidden(upscale, monkeypatch):
    saved("photos/a.png")
    full = MemoryError(), RuntimeError("MPS backend out of memory"), RuntimeError("can't allocate memory: you")
    monkeypatch.setattr(Enlarger, "image", Mock(side_effect=[*full, RuntimeError("a bug")]))
    for _ in full:
        assert "failed: photos/a.png: does not fit into memory" in upscale("photos", status=1)
    with pytest.raises(RuntimeError, match="a bug"):
        upscale("photos")


def test_a_bad_file_is_named_and_the_rest_goes_on(upscale):
    for name in ("photos/a.jpg", "photos/z.png", "photos/sub/m.webp"):
        saved(name)
    Path("photos/b.jpg").write_bytes(Path("photos/a.jpg").read_bytes()[:400])
    Image.fromarray(np.full((6, 8), 3.5, np.float32)).save("photos/t.tif")
    os.symlink("nowhere", "photos/f.jpg")
    told = upscale("photos", "--output", "out", status=1)
    assert files("out") == {"a_x4.jpg", "z_x4.png", "sub/m_x4.webp"}
    for reason in ("b.jpg: broken", "f.jpg: a link to nothing", "t.tif: mode F with values 3.5"):
        assert f"failed: photos/{reason}" in told
    assert "3 of 6 photos enlarged in " in told
    told = upscale("photos/a.jpg", "--output", "photos/a.jpg/below/", status=1)
    assert "failed: cannot write to photos/a.jpg/below (" in told, "a file is in the place of a folder"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (ValueError("encoder"), 1, "cannot be written as PNG: encoder"),
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_a_failed_or_stopped_write_leaves_the_old_file(upscale, monkeypatch, error, status, told):
    def fail(self, path, *args, **options):
        Path(path).write_bytes(b"half of a pic")
        if isinstance(error, signal.Signals):
            signal.raise_signal(error)
        raise error

    saved("a.png")
    Path("a_x4.png").write_text("old")
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(SystemExit, match="143") if status == 143 else nullcontext():
        assert told in upscale("a.png", "--force", status=status)
    assert files() == {"a.png", "a_x4.png"}
    assert Path("a_x4.png").read_text() == "old"


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "RGB"])
def test_compare_shows_the_same_crop_three_ways(upscale, mode):
    pixels = smooth(96, 80)
    pixels[40:72, 50:82] = noise(32, 32, 3)  # the most detailed place
    picture(mode, pixels).save("a.png")
    picture(mode, noise(5, 3, 3)).save("tiny.png")
    upscale("a.png", "tiny.png", "--compare")
    sheet = np.asarray(Image.open("a_compare.png"), int)  # strip 30, panels 512, gaps 8
    nearest, bicubic, ours = (sheet[30:-8:2, x : x + 512 : 2] for x in (8, 528, 1048))  # zoomed by 2
    photo, enlarged = (np.asarray(decode.to_rgb(Image.open(name))) for name in ("a.png", "a_x4.png"))
    assert (nearest[::4, ::4] == photo[16:80, 32:96]).all()
    assert np.abs(ours - enlarged[64:320, 128:384]).max() <= 1
    assert np.abs(bicubic - ours).mean() < np.abs(nearest - ours).mean()
    assert (sheet[:30] < 128).any(), "labels"


def test_options_reach_the_network_and_consistent_gives_the_photo_when_shrunk(upscale):
    photo = noise(20, 28, 3) // 4 + 96  # far from black and white, so nothing is clamped
    Image.fromarray(photo).save("a.png")
    made = []
    for option in ("force", "tile=6", "self-ensemble", "consistent"):
        upscale("a.png", f"--{option}", "--force")
        made.append(Image.open("a_x4.png").copy())
    plain, tiled, ensemble, _ = (np.asarray(image, int) for image in made)
    again = [np.asarray(image.resize((28, 20), Image.Resampling.BICUBIC), int) for image in made]
    assert np.abs(tiled - plain).max() <= 1 < np.abs(ensemble - plain).max()
    assert np.abs(again[-1] - photo).max() <= 1 < np.abs(again[0] - photo).max()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
@pytest.mark.parametrize(
    ("words", "name", "size"),
    [(("--scale", 2), "a_x2", (64, 48)), (("--scale", 3), "a_x3", (96, 72)), (("--width", 75), "a_w75", (75, 56))],
)
def test_other_sizes_are_the_largest_shrunk_by_bicubic(upscale, mode, words, name, size):
    picture(mode, noise(24, 32, 3)).save("a.png")
    upscale("a.png")
    upscale("a.png", *words, "--compare")
    ours, largest = Image.open(f"{name}.png"), Image.open("a_x4.png")
    assert (ours.mode, ours.size) == (mode, size)
    assert np.array_equal(ours, largest.resize(size, Image.Resampling.BICUBIC))
    upscale("a.png", "--width", 4 * 32 + 1, status=1)  # wider than the network makes it


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
