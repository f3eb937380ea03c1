"""Each photo is read rightly, or refused or left out with its reason; the sample; tiles."""

import io
import os
import re
from itertools import product

import numpy as np
import pytest
import torch
from photo_files import noise, picture, saved, smooth
from PIL import Image
from torch.nn import functional

from srlib.commands import main
from srlib.data import build, open_store, sample
from srlib.data.crops import cut, planned
from srlib.data.decode import BadPhoto
from srlib.data.find import find_source, split_of
from srlib.errors import UsageError


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width=240, height=200):
    return Image.fromarray(smooth(width, height))


def turned_by(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def assert_cut(data, wanted, levels, kind="folder", crop="center"):
    """That a photo is cut to a picture [H, W, 3], so many levels apart."""
    found = cut(data, kind, crop)[""].transpose(1, 2, 0)
    assert (found.shape, found.dtype) == (wanted.shape, np.uint8)
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= levels


def middle_square(image):
    """The rule in a few lines: the middle square, by antialiased bicubic."""
    (width, height), side = image.size, min(image.size)
    middle = np.asarray(image.convert("RGB"))[(height - side) // 2 :, (width - side) // 2 :][:side, :side]
    return np.asarray(Image.fromarray(middle).resize((176, 176), Image.Resampling.BICUBIC))


FACE, FEW, WHITE = photo(178, 218), photo().quantize(200), Image.new("RGB", (240, 200), "white")
CLEAR = FEW.getpixel((120, 100))  # one of its colours
FAINT = Image.composite(photo(), WHITE, photo().getchannel("R"))
PIERCED = Image.composite(FEW.convert("RGB"), WHITE, FEW.point(lambda colour: 255 * (colour != CLEAR), "L"))
JPEG = {"quality": 100, "subsampling": 0}
MORE = {"save_all": True, "append_images": [photo().rotate(180)], "duration": 100}
# name: (bytes, the picture they stand for, levels by which it may differ)
READ = {
    **{kind: (encoded(photo(), kind), photo(), 0) for kind in ("PNG", "BMP", "TIFF", "PPM")},
    **{
        mode: (encoded(picture(mode, smooth(240, 200)), "TIFF"), photo().convert("L"), 0)
        for mode in ("L", "I;16", "F")
    },
    "JPEG": (encoded(photo(), "JPEG", **JPEG), photo(), 3),
    "CMYK": (encoded(photo().convert("CMYK"), "JPEG", **JPEG), photo(), 4),
    "a large JPEG, decoded smaller": (encoded(photo(3000, 2000), "JPEG", quality=95), photo(3000, 2000), 3),
    "transparency": (encoded(picture("RGBA", smooth(240, 200)), "PNG"), FAINT, 1),
    "transparent colour": (encoded(FEW, "PNG", transparency=CLEAR), PIERCED, 0),
    "WEBP's first frame": (encoded(photo(), "WEBP", lossless=True, **MORE), photo(), 0),
    "GIF's first frame": (encoded(FEW, "GIF", **MORE), FEW, 0),
}
for orientation, turned in enumerate([0, 3, 1, 5, 2, 6, 4], start=2):
    stored = photo().transpose(Image.Transpose(turned))  # what the camera did
    for kind, options in (("JPEG", JPEG), ("PNG", {}), ("TIFF", {})):
        data = encoded(stored, kind, exif=turned_by(orientation), **options)
        READ[f"{kind} turned {orientation}"] = data, photo(), 4


@pytest.mark.parametrize("name", READ)
def test_read_rightly(name):
    data, image, levels = READ[name]
    assert_cut(data, middle_square(image), levels)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
def test_of_a_face_center_is_not_resampled_and_lecture_plainly_from_178_rows(mode):
    """A plain JPEG is decoded by torchvision, all else by Pillow, to the same pixels."""
    data = encoded(FACE.convert(mode), "PNG" if mode == "RGBA" else "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        whole = np.asarray(image.convert("RGB"))
    assert_cut(data, whole[21:197, 1:177], 4 if mode == "CMYK" else 0, "celeba")
    rows = torch.tensor(whole[20:198], dtype=torch.float64).permute(2, 0, 1)[None]
    wanted = functional.interpolate(rows, size=(176, 176), mode="bilinear")[0].permute(1, 2, 0).round()
    assert_cut(data, wanted.numpy(), 5 if mode == "CMYK" else 1, "celeba", "lecture")  # halves may fall either way
    with pytest.raises(BadPhoto, match="240x200, but CelebA's aligned photos are 178x218"):
        cut(READ["JPEG"][0], "celeba", "center")


REFUSED = {
    "empty": (b"", "empty file"),
    "truncated JPEG": (READ["JPEG"][0][:5000], "truncated"),
    "truncated face": (encoded(FACE, "JPEG")[:1500], "truncated"),
    "large": (b"P6\n10000 9000\n255\n" + bytes(1000), "10000x9000, above the limit of 89 megapixels"),
    "bomb": (b"P6\n100000 100000\n255\n" + bytes(1000), "89 megapixels"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
    "32 bits": (encoded(Image.fromarray(np.full((200, 200), 10**6, np.int32)), "TIFF"), "mode I with values"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")  # Pillow remarks on some of these; a build silences it
def test_refused_with_a_reason(name):
    data, reason = REFUSED[name]
    for kind, crop in (("folder", "center"), ("folder", "tiles"), ("celeba", "lecture")):
        with pytest.raises(BadPhoto, match=reason):
            cut(data, kind, crop)


@pytest.fixture
def good(tmp_path):
    """A folder of ten sound photos."""
    for i in range(10):
        saved(tmp_path / "photos" / f"good{i}.png", size=(200 + i, 190))
    return tmp_path / "photos"


def opened(folder):
    return open_store(folder, folder.parent / "runs", max_bad=50)


def test_the_command_lists_what_is_left_out_with_the_reason_and_refuses_too_many_bad_ones(good, capsys):
    def cache(max_bad, data=good, status=0):
        words = ["--data", str(data), "--runs", str(good.parent / "runs"), "--max-bad", str(max_bad)]
        assert main(["cache", *words]) == status
        return "".join(capsys.readouterr())

    assert "--max-bad is a percentage from 0 to 100, got 101" in cache(101, status=2)
    cache(50, "sample", status=2)
    (good / "notes.jpg").write_text("no picture")
    wanted = r"(?s)1 of 11 photos are bad, more than 1 %:\n  notes.jpg: not an image.*--max-bad 10$"
    assert re.search(wanted, cache(1, status=1))
    cache(10)
    cache(1)  # what was accepted once stays accepted
    (good / "cut.jpg").write_bytes(REFUSED["truncated JPEG"][0])
    (good / "notes.txt").write_text("hello")
    saved(good / "later" / "copy.png", size=(200, 190))  # as good0.png
    saved(good / "small.png", size=(100, 300))
    saved(good / "really_a_png.jpg", size=(240, 200), format="PNG")
    saved(good / "no_extension", size=(300, 200), format="JPEG")
    for _ in range(2):  # the second time from the store
        told = cache(50)
        for part in ("16 to read", "no photos: 1 .txt", "notes.jpg: not an image", "folder, 12 photos of 176x176"):
            assert part in told
    store = opened(good)
    used = {store.names[row] for split in store.counts() for row in store.rows(split)}
    assert used == {*(f"good{i}.png" for i in range(10)), "really_a_png.jpg", "no_extension"}
    assert set(store.bad) == {"notes.jpg", "cut.jpg"}
    small = "100x300, the shorter side is below 176"
    assert store.skipped == {"later/copy.png": "the same file as another photo", "small.png": small}
    for i in range(30):
        (good / f"bad{i:02d}.jpg").write_bytes(b"")
    assert "and 12 more" in cache(90)
    (whole,) = (good.parent / "runs" / "stores").glob("*unreadable.txt")
    assert len(whole.read_text().splitlines()) == 32


def test_files_that_change_or_go_meanwhile(good):
    source = find_source(good)
    photo(300, 300).save(good / "good3.png")
    (good / "good5.png").unlink()
    store = build.open_source(source, good.parent / "runs", "center", max_bad=50)
    assert store.bad["good3.png"] == "changed while the store was being built"
    assert store.bad["good5.png"] == "cannot be read: No such file or directory"
    assert not opened(good).bad, "the next look at the folder finds another folder"


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="such files are Linux's")
def test_odd_files_and_names(good, capsys):
    before = opened(good)
    (good / "good3.png").chmod(0o600)
    (good / "gone.jpg").symlink_to(good / "nowhere.jpg")
    os.mkfifo(good / "pipe.jpg")
    after = opened(good)
    assert after.images.filename != before.images.filename, "a permission that was granted is noticed"
    assert after.fingerprint == before.fingerprint
    assert after.bad == {"gone.jpg": "a link to nothing", "pipe.jpg": "neither a file nor a folder"}
    name = os.fsencode(good) + b"/caf\xe9"  # no UTF-8
    with open(name + b".png", "wb") as file, open(name + b"-bad.png", "wb"):
        photo(222, 200).save(file, "PNG")
    store = opened(good)
    assert os.fsdecode(b"caf\xe9.png") in store.names
    assert "caf\\xe9-bad.png: empty file" in capsys.readouterr().out
    assert opened(good).names == store.names


def test_the_sample_never_changes_and_a_missing_package_is_named(monkeypatch):
    """Recorded scores and trained networks hang on it."""
    store = open_store("sample")
    assert store.describe() == "sample, 213 tiles of 176x176 (tiles): train 181, val 17, test 15"
    assert store.fingerprint == "7155d180297ad6b8c06409209821aa13"
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="chelsea comes inside scikit-image, which is not installed"):
        open_store("sample")


# width and height: the tops and lefts of its tiles by scale
TILES = {
    (1500, 1000): {0.5: ([0, 162, 324], [0, 191, 383, 574]), 0.25: ([37], [0, 199])},
    (500, 400): {0.5: ([12], [37]), 1.0: ([0, 224], [0, 162, 324])},
    (340, 600): {1.0: ([0, 212, 424], [0, 164])},
    (1400, 400): {0.5: ([12], [0, 175, 349, 524])},
    (170, 900): {},
}


def test_tiles_of_a_folder(tmp_path):
    """Names and pixels, which are Pillow's, upright; all of a photo in one split, flat and broken ones in none."""
    noisy = {}
    for width, height in TILES:
        noisy[width, height] = Image.fromarray(noise(height, width, 3))
        noisy[width, height].save(tmp_path / f"{width}x{height}.png")
    noisy[1400, 400].transpose(Image.Transpose.ROTATE_90).save(tmp_path / "1400x400.png", exif=turned_by(6))
    (tmp_path / "broken.jpg").write_bytes(encoded(noisy[500, 400], "JPEG")[:9000])
    Image.new("RGB", (190, 190), "gray").save(tmp_path / "sky.png")
    store = open_store(tmp_path, tmp_path / "runs", "tiles", max_bad=20)
    assert store.describe().endswith("; 1 unreadable; 2 too small, double or flat")
    assert store.skipped["sky.png/s1.00/y007x007"].startswith("flat: shrinking takes 0.0 levels")
    split = {store.names[row]: split for split in store.counts() for row in store.rows(split)}
    for (width, height), scales in TILES.items():
        for scale, starts in scales.items():
            size = round(scale * width), round(scale * height)
            small = np.asarray(noisy[width, height].resize(size, Image.Resampling.BICUBIC))
            for y, x in product(*starts):
                name = f"{width}x{height}.png/s{scale:.2f}/y{y:03d}x{x:03d}"
                assert split.pop(name) == split_of(f"{width}x{height}.png")
                tile = store.images[store.names.index(name)].transpose(1, 2, 0)
                assert (tile == small[y : y + 176, x : x + 176]).all()
    assert not split, "no other tiles"
    noisy[1500, 1000].save(turned := tmp_path / "turned.tif", exif=turned_by(6))  # Pillow tells its turned size
    assert planned(turned) == [*cut(turned.read_bytes(), "folder", "tiles")]
