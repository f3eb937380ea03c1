"""``upscale`` as one meets it: names, refusals, failures and options."""

import os
import re
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from photo_files import files, noise, picture, saved, smooth
from PIL import Image

from srlib.data import decode
from srlib.upscale import Enlarger


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
        ("a.jpg --output a.jpg --force", "a.jpg is no file, or one of the photos"),
        ("c.jpg", r"already there: c_x4.jpg \(1 in all\): add --force, or --output elsewhere"),
        ("a.jpg --compare --output a_compare.png", "a_compare.png would be written twice"),
        ("c.jpg --compare --force", "c_compare.png is no file, or one of the photos"),
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
