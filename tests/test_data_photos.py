"""Bad and odd photos: each is read rightly, or refused with its reason."""

import io
import os

import numpy as np
import pytest
import torch
from photo_files import saved, smooth
from PIL import Image
from torch.nn import functional

from srlib.data import open_store
from srlib.data.build import open_source
from srlib.data.crops import cut
from srlib.data.decode import BadPhoto, SmallPhoto
from srlib.data.find import find_source
from srlib.errors import DataError


def picture(width=240, height=200):
    return Image.fromarray(smooth(width, height))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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


FACE, GRAY, HALF, PALETTE = picture(178, 218), picture().convert("L"), picture(), picture().convert("P")
HALF.paste((255, 255, 255), (0, 0, 120, 200))  # what shows where the left half of the picture is transparent
ALPHA = Image.fromarray(np.uint8([[0] * 120 + [255] * 120] * 200))
FEW = picture().quantize(200)
FEW_HALF = FEW.copy()
FEW_HALF.putpalette([*FEW.getpalette()[:600], 9, 9, 9])
FEW_HALF.paste(200, (0, 0, 120, 200))  # a colour that the picture does not use
JPEG = {"quality": 100, "subsampling": 0}
MORE = {"save_all": True, "append_images": [picture().rotate(180)], "duration": 100}
# name: (bytes, the picture they stand for, levels by which it may differ)
READ = {
    **{kind: (encoded(picture(), kind), picture(), 0) for kind in ("PNG", "BMP", "TIFF", "PPM")},
    "JPEG": (encoded(picture(), "JPEG", **JPEG), picture(), 3),
    "WEBP's first frame": (encoded(picture(), "WEBP", lossless=True, **MORE), picture(), 0),
    "a large JPEG, decoded smaller": (encoded(picture(3000, 2000), "JPEG", quality=95), picture(3000, 2000), 3),
    "gray": (encoded(GRAY, "PNG"), GRAY, 0),
    "CMYK": (encoded(picture().convert("CMYK"), "JPEG", **JPEG), picture(), 4),
    "16 bits": (encoded(Image.fromarray(np.asarray(GRAY).astype(np.uint16) * 257), "PNG"), GRAY, 0),
    "floats": (encoded(Image.fromarray(np.asarray(GRAY).astype(np.float32) / 255), "TIFF"), GRAY, 0),
    "transparency": (encoded(Image.merge("RGBA", (*picture().split(), ALPHA)), "PNG"), HALF, 0),
    "transparent colour": (encoded(FEW_HALF, "PNG", transparency=200),
                           Image.composite(FEW.convert("RGB"), HALF, ALPHA), 0),
    "GIF's first frame": (encoded(PALETTE, "GIF", **MORE), PALETTE, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read_rightly(name):
    data, image, levels = READ[name]
    assert_cut(data, middle_square(image), levels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation(orientation, kind):
    turned = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]  # what the camera did: the inverse of what we do
    stored = picture() if turned is None else picture().transpose(Image.Transpose(turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif, **(JPEG if kind == "JPEG" else {}))
    assert_cut(data, middle_square(picture()), 4)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
def test_center_is_the_middle_without_resampling(mode):
    """A plain JPEG is decoded by torchvision, all else by Pillow, to the same pixels."""
    data = encoded(FACE.convert(mode), "PNG" if mode == "RGBA" else "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        whole = np.asarray(image.convert("RGB"))
    assert_cut(data, whole[21:197, 1:177], 4 if mode == "CMYK" else 0, "celeba")


def test_lecture_is_plain_bilinear_from_178_rows():
    middle = torch.from_numpy(np.asarray(FACE)[20:198].transpose(2, 0, 1).astype(np.float64))
    wanted = functional.interpolate(middle[None], size=(176, 176), mode="bilinear")[0].permute(1, 2, 0).round()
    assert_cut(encoded(FACE, "PNG"), wanted.numpy(), 1, "celeba", "lecture")  # halves may fall either way


PNG = encoded(picture(), "PNG")
REFUSED = {
    "empty": (b"", "empty file"),
    "truncated JPEG": (READ["JPEG"][0][:5000], "truncated"),
    "truncated face": (encoded(FACE, "JPEG")[:1500], "truncated"),
    "truncated PNG": (PNG[: len(PNG) // 2], "truncated|broken"),
    "wrong checksum": (PNG[:60] + bytes([PNG[60] ^ 0xFF]) + PNG[61:], "broken"),
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


def test_sizes_that_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SmallPhoto, match="300x175"):
        cut(encoded(picture(300, 175), "PNG"), "folder", "center")
    with pytest.raises(BadPhoto, match="240x200, but CelebA's aligned photos are 178x218"):
        cut(PNG, "celeba", "center")
    picture(50, 50).save(tmp_path / "tiny.png")
    with pytest.raises(ValueError, match=r"no usable photos.*\n  tiny.png: 50x50"):
        open_store(tmp_path, tmp_path / "runs")
    monkeypatch.setattr("srlib.data.decode.MAX_PIXELS", 240 * 200 - 1)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    with pytest.raises(BadPhoto, match="240x200"):
        cut(PNG, "folder", "center")


@pytest.fixture
def good(tmp_path):
    """A folder of ten sound photos."""
    for i in range(10):
        saved(tmp_path / "photos" / f"good{i}.png", size=(200 + i, 190))
    return tmp_path / "photos"


def opened(folder, max_bad=50):
    return open_store(folder, folder.parent / "runs", max_bad=max_bad)


def test_what_is_left_out_is_listed_with_the_reason(good, capsys):
    (good / "empty.jpg").write_bytes(b"")
    (good / "cut.jpg").write_bytes(REFUSED["truncated JPEG"][0])
    saved(good / "later" / "copy.png", size=(200, 190))  # as good0.png
    saved(good / "small.png", size=(100, 300))
    saved(good / "really_a_png.jpg", size=(240, 200), format="PNG")
    saved(good / "no_extension", size=(300, 200), format="JPEG")
    store, out = opened(good), capsys.readouterr().out
    assert len(store) == 12
    used = {store.names[row] for split in store.counts() for row in store.rows(split)}
    assert {"really_a_png.jpg", "no_extension"} < used
    assert not used & {"empty.jpg", "cut.jpg", "small.png", "later/copy.png"}
    assert set(store.bad) == {"empty.jpg", "cut.jpg"}
    small = "100x300, the shorter side is below 176"
    assert store.skipped == {"later/copy.png": "the same file as another photo", "small.png": small}
    assert "2 unreadable:" in out
    assert "empty.jpg: empty file" in out
    assert store.describe().endswith("; 2 unreadable; 2 too small or double")
    for split in store.counts():
        assert (store.photos(split) == store.tensor(split)).all(), "also where unused rows lie between"


def test_too_many_bad_photos_are_listed_and_many_in_a_file(good, capsys):
    (good / "notes.jpg").write_text("no picture")
    wanted = r"1 of 11 photos are bad, more than 1 %:\n  notes.jpg: not an image(.|\n)*--max-bad 10$"
    with pytest.raises(DataError, match=wanted):
        opened(good, max_bad=1)
    assert len(opened(good, max_bad=10)) == 10
    assert len(opened(good, max_bad=1)) == 10, "what was accepted once stays accepted"
    for i in range(30):
        (good / f"bad{i:02d}.jpg").write_bytes(b"")
    opened(good, max_bad=90)
    assert "and 11 more" in capsys.readouterr().out
    (whole,) = (good.parent / "runs" / "stores").glob("*unreadable.txt")
    assert len(whole.read_text().splitlines()) == 31


def test_files_that_change_or_go_meanwhile(good):
    source = find_source(good)
    picture(300, 300).save(good / "good3.png")
    (good / "good5.png").unlink()
    store = open_source(source, good.parent / "runs", "center", max_bad=50)
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
        picture(222, 200).save(file, "PNG")
    store = opened(good)
    assert os.fsdecode(b"caf\xe9.png") in store.names
    assert "caf\\xe9-bad.png: empty file" in capsys.readouterr().out
    assert opened(good).names == store.names
