"""Where photos are found: CelebA in the layouts that people have, and any folder."""

import os
from collections import Counter
from unittest.mock import Mock

import pytest
from photo_files import PRESENT, faces, partition, saved

from srlib.commands import main
from srlib.data import open_store
from srlib.data.find import find_source, split_of
from srlib.errors import UsageError

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
    refused(tmp_path, "photos cannot be listed: permission denied")
    quota = Mock(side_effect=RuntimeError("The quota is exceeded\nand much more"))
    monkeypatch.setattr("torchvision.datasets.CelebA", quota)
    assert main(["cache", "--fetch", "--data", str(tmp_path)]) == 1
    assert "(RuntimeError: The quota is exceeded). By hand: CelebA comes from" in capsys.readouterr().err


def test_a_folder_is_searched_recursively_linked_ones_once_and_the_rest_is_counted(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/b/d.jpeg", ".hidden.jpg", "__MACOSX/._b.jpg"):
        saved(tmp_path / name)
    (tmp_path / "a" / "film.mov").write_bytes(bytes(100))
    (tmp_path / "a" / "raw.nef").write_bytes(b"II*\0" + bytes(100))  # begins as a TIFF does
    if os.name != "nt":  # where links need special rights
        (tmp_path / "loop").symlink_to(tmp_path)
        (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a" / "b")
    source = find_source(tmp_path)
    assert source.kind == "folder"
    assert [photo.path for photo in source.photos] == ["a/b/d.jpeg", "a/c.png", "b.JPG"]
    assert source.other == {".mov": 1, ".nef": 1, ".jpg": 1}


def test_splits_are_80_10_10_and_never_change():
    """Stores and scores of users hang on them."""
    assert Counter(split_of(f"{i}.jpg") for i in range(1000)) == {"train": 815, "val": 106, "test": 79}
    assert split_of("caf\u00e9.jpg") == split_of("cafe\u0301.jpg"), "composed and decomposed are one name"
