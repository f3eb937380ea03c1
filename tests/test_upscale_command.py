"""``upscale`` as one meets it: names, refusals, failures, and nothing half-written."""

import os
import re
import signal
import sys
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from photo_files import command, files, noise, picture, saved, smooth
from PIL import Image

from srlib.commands import upscale as compare
from srlib.data import decode
from srlib.upscale import Enlarger

upscale = pytest.fixture(command)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("a.jpg", "a_x4.jpg"),
        ("a.jpg --output b.png", "b.png"),
        ("a.jpg --output new/deep/b.webp", "new/deep/b.webp"),
        ("a.jpg --output out.v2/", "out.v2/a_x4.jpg"),
        ("dir", "dir/ünï✓_x4.png dir/in/c_x4.tif"),
        ("dir a.jpg --output out", "out/ünï✓_x4.png out/in/c_x4.tif out/a_x4.jpg"),
        ("a.jpg ./a.jpg a.jpg", "a_x4.jpg"),
        ("dir/ünï✓.png dir --output dir", "dir/ünï✓_x4.png dir/in/c_x4.tif"),
        ("a.jpg --compare --output out/b.jpg", "out/b.jpg out/a_compare.png"),
    ],
)
def test_where_pictures_go(upscale, capsys, words, written):
    for name in ("a.jpg", "dir/ünï✓.png", "dir/in/c.tif"):
        saved(name)
    Path("dir/notes.txt").write_text("no photo")
    Path("dir/._c.tif").write_bytes(b"resource fork")
    before = files()
    assert upscale(*words.split()) == 0
    assert files() - before == set(written.split())
    out = capsys.readouterr().out
    assert re.match(r"network: residual rgb-rgb, [\d,]+ parameters, .*tiny.pt, on cpu\n", out)
    assert f"{written.split()[0]}: 48x40, " in out


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
        ("c.jpg --compare --force", "c_compare.png is a folder or one of the photos"),
        ("twice --output out", "d_x4.png would be written twice, for twice.d.bmp and twice.d.png"),
        ("a.jpg --compare --output a_compare.png", "a_compare.png would be written twice"),
        ("a.jpg --scale 5", "--scale goes from 2 to 4 with this network"),
        ("a.jpg --width 0", "--width from 1"),
        ("a.jpg --tile 0", "a tile must have at least 1 pixel a side, got 0"),
        ("a.jpg --model none.pt", "none.pt: no such checkpoint"),
        ("a.jpg --device abacus", "unknown device 'abacus'"),
    ],
)
def test_wrong_usage_is_told_before_work_starts(upscale, capsys, words, message):
    for name in ("a.jpg", "c.jpg", "c_x4.jpg", "twice/d.bmp", "twice/d.png", "old/e_x4.jpg", "old/e_compare.png"):
        saved(name)
    Path("c_compare.png").mkdir()
    saved("texts/read.txt", format="PNG").write_text("no photo")
    before = {name: Path(name).read_bytes() for name in files()}
    assert upscale(*words.split()) == 2
    assert re.match(f"error: .*{message}", capsys.readouterr().err)
    assert {name: Path(name).read_bytes() for name in files()} == before


def test_outputs_of_earlier_runs_are_passed_over_with_a_word_and_overwritten_by_force(upscale, capsys):
    saved("photos/a.png")
    assert upscale("photos", "--compare") == 0
    Path("photos/a_compare.png").write_text("old")
    assert upscale("photos", "--compare", "--force") == 0
    assert Image.open("photos/a_compare.png").mode == "RGB"
    assert files() == {"photos/a.png", "photos/a_x4.png", "photos/a_compare.png"}
    assert "photos: 2 outputs of earlier runs (_x4, _compare) are passed over" in capsys.readouterr().out
    assert upscale("photos/a_x4.png") == 0, "whoever names one means it"


def test_names_that_differ_by_case_are_one_on_a_mac(upscale, capsys, monkeypatch):
    saved("one/A.png")
    saved("two/a.png")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert upscale("one", "two", "--output", "out") == 2
    assert "a_x4.png would be written twice, for " in capsys.readouterr().err


def test_a_photo_without_room_is_named_and_a_bug_is_not_hidden(upscale, capsys, monkeypatch):
    saved("photos/a.png")
    full = (
        MemoryError(),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("can't allocate memory: you tried"),
    )
    monkeypatch.setattr(Enlarger, "image", Mock(side_effect=[*full, RuntimeError("a bug")]))
    for _ in full:
        assert upscale("photos") == 1
        assert "failed: photos/a.png: does not fit into memory" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="a bug"):
        upscale("photos")


def test_a_bad_file_is_named_and_the_rest_goes_on(upscale, capsys):
    for name in ("photos/a.jpg", "photos/z.png", "photos/sub/m.webp"):
        saved(name)
    Path("photos/b.jpg").write_bytes(Path("photos/a.jpg").read_bytes()[:400])
    Image.fromarray(np.full((6, 8), 3.5, np.float32)).save("photos/t.tif")
    os.symlink("nowhere", "photos/f.jpg")
    assert upscale("photos", "--output", "out") == 1
    assert files("out") == {"a_x4.jpg", "z_x4.png", "sub/m_x4.webp"}
    out, err = capsys.readouterr()
    for reason in ("b.jpg: broken", "f.jpg: a link to nothing", "t.tif: mode F with values 3.5"):
        assert f"failed: photos/{reason}" in err
    assert "3 of 6 photos enlarged in " in out
    assert upscale("photos/a.jpg", "--output", "photos/a.jpg/below/") == 1, "a file in the place of a folder"
    assert "failed: cannot write to photos/a.jpg/below (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        (OSError(28, "No space left on device"), "No space left on device", 1),
        (ValueError("encoder"), "cannot be written as PNG: encoder", 1),
        (MemoryError(), "does not fit into memory", 1),
        (signal.SIGINT, "", 130),
        (signal.SIGTERM, "", 143),
    ],
)
def test_a_failed_or_stopped_write_leaves_the_old_file(upscale, capsys, monkeypatch, error, reason, status):
    def fail(self, path, *args, **options):
        Path(path).write_bytes(b"half of a pic")
        if isinstance(error, signal.Signals):
            signal.raise_signal(error)
        raise error

    saved("a.png")
    Path("a_x4.png").write_text("old")
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(SystemExit) as end:
        sys.exit(upscale("a.png", "--force"))
    assert end.value.code == status
    assert files() == {"a.png", "a_x4.png"}
    assert Path("a_x4.png").read_text() == "old"
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "RGB"])
def test_compare_shows_the_same_crop_three_ways(upscale, mode):
    pixels = smooth(96, 80)
    pixels[40:72, 50:82] = noise(32, 32, 3)  # the most detailed place
    picture(mode, pixels).save("a.png")
    picture(mode, noise(5, 3, 3)).save("tiny.png")
    assert upscale("a.png", "tiny.png", "--compare") == 0
    sheet = np.asarray(Image.open("a_compare.png"))
    gap, strip, side = compare.GAP, compare.STRIP, compare.PANEL
    assert sheet.shape == (side + strip + gap, 3 * side + 4 * gap, 3)
    panels = [sheet[strip : strip + side, x : x + side] for x in range(gap, 3 * (side + gap), side + gap)]
    nearest, bicubic, ours = (panel[::2, ::2].astype(int) for panel in panels)  # zoomed by whole pixels
    photo, enlarged = (np.asarray(decode.to_rgb(Image.open(name))) for name in ("a.png", "a_x4.png"))
    assert (nearest[::4, ::4] == photo[16:80, 32:96]).all()
    assert np.abs(ours - enlarged[64:320, 128:384]).max() <= 1
    assert np.abs(bicubic - ours).mean() < np.abs(nearest - ours).mean()
    assert (sheet[:strip] < 128).any(), "labels"


def test_options_reach_the_network_and_consistent_gives_the_photo_when_shrunk(upscale):
    photo = noise(20, 28, 3) // 4 + 96  # far from black and white, so nothing is clamped
    Image.fromarray(photo).save("a.png")
    made, again = {}, {}
    for option in ("force", "tile=6", "self-ensemble", "consistent"):
        assert upscale("a.png", "--output", f"{option}.png", f"--{option}") == 0
        enlarged = Image.open(f"{option}.png")
        made[option] = np.asarray(enlarged, int)
        again[option] = np.abs(np.asarray(enlarged.resize((28, 20), Image.Resampling.BICUBIC), int) - photo).max()
    apart = {option: np.abs(pixels - made["force"]).max() for option, pixels in made.items()}
    assert apart["tile=6"] <= 1 < apart["self-ensemble"]
    assert again["consistent"] <= 1 < again["force"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
@pytest.mark.parametrize(
    ("words", "name", "size"),
    [(("--scale", 2), "a_x2", (64, 48)), (("--scale", 3), "a_x3", (96, 72)), (("--width", 75), "a_w75", (75, 56))],
)
def test_other_sizes_are_not_shifted(upscale, mode, words, name, size):
    pixels = np.asarray(Image.fromarray(noise(6, 8, 3)).resize((32, 24), Image.Resampling.BICUBIC))
    photo = picture(mode, pixels)
    photo.save("a.png")
    assert upscale("a.png", *words, "--compare") == 0
    ours = Image.open(f"{name}.png")
    assert (ours.mode, ours.size) == (mode, size)
    rgb, drawn = decode.to_rgb(photo), np.asarray(decode.to_rgb(ours), float)

    def error(corner):  # of the photo drawn by bicubic, its corner moved by a little
        box = (*corner, corner[0] + 32, corner[1] + 24)
        moved = np.asarray(rgb.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BICUBIC))
        return np.square(moved - drawn)[8:-8, 8:-8].mean()

    assert min(product((-0.25, 0, 0.25), repeat=2), key=error) == (0, 0)
    assert upscale("a.png", "--width", 4 * 32 + 1) == 1, "wider than the network makes it"
