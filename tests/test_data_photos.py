"""Where photos are found, CelebA's in many layouts; each is read rightly or refused; the sample; tiles."""

import io
import os
from collections import Counter
from itertools import product
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from photo_files import PRESENT, exif_with, faces, noise, partition, picture, saved, smooth
from PIL import Image, ImageOps
from torch.nn import functional

from srlib.commands import main
from srlib.data import open_store, sample
from srlib.data.decode import BadPhoto, cut, planned
from srlib.data.find import find_source, split_of
from srlib.errors import UsageError


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width=240, height=200):
    return Image.fromarray(smooth(width, height))


def assert_cut(data, wanted, levels, kind="folder", crop="center"):
    """That a photo is cut to a picture [H, W, 3], so many levels apart."""
    found = cut(data, kind, crop)[""].transpose(1, 2, 0)
    assert (found.shape, found.dtype) == (wanted.shape, np.uint8)
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= levels


FACE, GRAY = photo(178, 218), photo().convert("L")
FEW, WHITE = photo().quantize(200), Image.new("RGB", (240, 200), "white")
CLEAR = FEW.getpixel((120, 100))  # one of its colours
FAINT = Image.composite(photo(), WHITE, photo().getchannel("R"))
PIERCED = Image.composite(FEW.convert("RGB"), WHITE, FEW.point(lambda colour: 255 * (colour != CLEAR), "L"))
JPEG = {"quality": 100, "subsampling": 0}
MORE = {"save_all": True, "append_images": [photo().rotate(180)], "duration": 100}
# name: (bytes, the picture they stand for, levels by which it may differ)
READ = {
    **{kind: (encoded(photo(), kind), photo(), 0) for kind in ("PNG", "BMP", "TIFF", "PPM")},
    **{mode: (encoded(picture(mode, smooth(240, 200)), "TIFF"), GRAY, 0) for mode in ("L", "I;16", "F")},
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
        data = encoded(stored, kind, exif=exif_with(orientation), **options)
        READ[f"{kind} turned {orientation}"] = data, photo(), 4


@pytest.mark.parametrize("name", READ)
def test_read_rightly_and_the_middle_square_shrunk_by_bicubic(name):
    data, image, levels = READ[name]
    middle = ImageOps.fit(image.convert("RGB"), 2 * [min(image.size)])
    assert_cut(data, np.asarray(middle.resize((176, 176), Image.Resampling.BICUBIC)), levels)


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
    noisy[1400, 400].transpose(Image.Transpose.ROTATE_90).save(tmp_path / "1400x400.png", exif=exif_with(6))
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
    noisy[1500, 1000].save(turned := tmp_path / "turned.tif", exif=exif_with(6))  # Pillow tells its turned size
    assert planned(turned) == [*cut(turned.read_bytes(), "folder", "tiles")]


KAGGLE = "archive/img_align_celeba"
# name: (where the photos are, where the partition file is and of which kind, what the user points at)
LAYOUTS = {
    "torchvision": ("celeba/img_align_celeba", "celeba", "txt", "celeba"),
    "torchvision, its root": ("celeba/img_align_celeba", "celeba", "txt", "."),
    "torchvision, the photos": ("celeba/img_align_celeba", "celeba", "txt", "celeba/img_align_celeba"),
    "as published": ("CelebA/Img/img_align_celeba", "CelebA/Eval", "txt", "CelebA"),
    "Kaggle": (f"{KAGGLE}/img_align_celeba", "archive", "csv", "archive"),
    "Kaggle, one level more": (f"{KAGGLE}/img_align_celeba", "archive", "csv", "."),
    "Kaggle, one level less": (f"{KAGGLE}/img_align_celeba", "archive", "csv", KAGGLE),
    "Kaggle, the photos": (f"{KAGGLE}/img_align_celeba", "archive", "csv", f"{KAGGLE}/img_align_celeba"),
    "Kaggle, one folder of two": (KAGGLE, "archive", "csv", "archive"),
    "partition among the photos": ("celeba/img_align_celeba", "celeba/img_align_celeba", "csv", "celeba"),
    "both in one folder": ("faces", "faces", "csv", "faces"),
    "photos in a subfolder of another name": ("faces/all", "faces", "txt", "faces"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_celeba_is_found_as_jpg_or_png_and_an_unlisted_photo_is_named(layout, tmp_path):
    photos, listed, kind, given = LAYOUTS[layout]
    ending = ".png" if kind == "csv" else ".jpg"
    faces(tmp_path / photos, ending)
    saved(tmp_path / photos / "000009.jpg")
    partition(tmp_path / listed, kind)
    source = find_source(tmp_path / given)
    assert (source.kind, source.root) == ("celeba", tmp_path / photos)
    assert {photo.path.replace(ending, ".jpg"): photo.split for photo in source.photos} == PRESENT
    assert source.published == {"train": 3, "val": 1, "test": 1}
    assert source.bad == {"000009.jpg": f"not listed in list_eval_partition.{kind}"}


def test_what_is_missing_is_told(tmp_path, monkeypatch, capsys):
    """Of CelebA that is not whole, and of what is no folder of photos."""

    def refused(folder, message):
        with pytest.raises(UsageError, match=message):
            find_source(folder)

    for given in ("img_align_celeba", "renamed"):
        refused(faces(tmp_path / given), r"list_eval_partition\.csv.* is missing: .*mmlab.*kaggle")
    path = partition(tmp_path / "alone")
    refused(path.parent, r"no photos like 000001\.jpg: put the photos")
    for line in ("000002.jpg,7", "000002.jpg", "<html>Too many users</html>"):
        path.write_text(f"image_id,partition\n000001.jpg,0\n{line}\n")
        refused(faces(path.parent), r"list_eval_partition\.csv, line 3")
    path.write_text("")
    refused(path.parent, "is empty")
    refused(tmp_path / "nothing", "no folder .*nothing: give a folder of photos")
    with pytest.raises(UsageError, match=r"no usable photos.*\n  tiny.png: 12x10"):
        open_store(saved(tmp_path / "small" / "tiny.png").parent, tmp_path / "runs")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "film.mov").write_bytes(b"x")
    refused(tmp_path / "films", r"no photos in .*found 1 \.mov")
    monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError(13, "Permission denied", "photos")))
    assert main(["cache", "--data", str(tmp_path)]) == 1  # in one line, whose words are the system's
    quota = Mock(side_effect=RuntimeError("The quota is exceeded\nand much more"))
    monkeypatch.setattr("torchvision.datasets.CelebA", quota)
    assert main(["cache", "--fetch", "--data", str(tmp_path)]) == 1
    assert "(RuntimeError: The quota is exceeded). By hand: CelebA is at" in capsys.readouterr().err


def test_a_folder_is_searched_recursively_linked_ones_once_and_the_rest_is_counted(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/b/d.jpeg", ".hidden.jpg", "__MACOSX/._b.jpg"):
        saved(tmp_path / name)
    (tmp_path / "a" / "film.mov").write_bytes(bytes(100))
    (tmp_path / "a" / "raw.nef").write_bytes(b"II*\0" + bytes(100))  # begins as a TIFF does
    if os.name != "nt":  # where links need special rights
        (tmp_path / "loop").symlink_to(tmp_path)
        (tmp_path / "itself.jpg").symlink_to("itself.jpg")
        (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a" / "b")
    source = find_source(tmp_path)
    assert source.kind == "folder"
    assert [photo.path for photo in source.photos] == ["a/b/d.jpeg", "a/c.png", "b.JPG"]
    assert source.other == {".mov": 1, ".nef": 1, ".jpg": 1}
    assert source.bad == ({} if os.name == "nt" else {"itself.jpg": "a link to nothing"})


def test_splits_are_80_10_10_and_never_change():
    """Stores and scores of users hang on them."""
    assert Counter(split_of(f"{i}.jpg") for i in range(1000)) == {"train": 815, "val": 106, "test": 79}
    assert split_of("caf\u00e9.jpg") == split_of("cafe\u0301.jpg"), "composed and decomposed are one name"
