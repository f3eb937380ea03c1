"""Where photos are found: CelebA in the layouts that people have, and any folder."""

import os
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest
from photo_files import PRESENT, faces, partition, saved

from srlib.data import celeba
from srlib.data.find import any_folder, find_source, split_of
from srlib.errors import DataError, UsageError

SHARED = Path(__file__).parents[2] / "shared" / "data" / "celeba"
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
    "both in one folder": ("faces", "faces", "csv", "faces"),
    "partition among the photos": ("celeba/img_align_celeba", "celeba/img_align_celeba", "csv", "celeba"),
    "photos loose beside a subfolder": ("faces/all", "faces", "txt", "faces"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_celeba_is_found(layout, tmp_path):
    photos, listed, kind, given = LAYOUTS[layout]
    faces(tmp_path / photos)
    partition(tmp_path / listed, kind)
    source = find_source(tmp_path / given)
    assert (source.kind, source.root) == ("celeba", tmp_path / photos)
    assert {photo.path: photo.split for photo in source.photos} == PRESENT
    assert source.published == {"train": 3, "val": 1, "test": 1}
    assert not source.bad


def test_png_photos_go_by_the_same_list_and_an_unlisted_one_is_named(tmp_path):
    folder = faces(tmp_path / "img_align_celeba", ".png")
    partition(tmp_path)
    saved(folder / "000009.jpg")
    (folder / "readme.txt").write_text("hello")
    source = find_source(tmp_path)
    assert [photo.path for photo in source.photos] == ["000001.png", "000002.png", "000004.png"]
    assert source.bad == {"000009.jpg": "not listed in list_eval_partition.csv"}
    assert source.other == {".txt": 1}


def test_celeba_that_is_not_whole_is_refused_with_what_is_missing(tmp_path):
    for given in ("img_align_celeba", "renamed"):
        with pytest.raises(UsageError, match=r"list_eval_partition\.csv.* is missing: .*mmlab.*kaggle"):
            find_source(faces(tmp_path / given))
    path = partition(tmp_path / "alone")
    with pytest.raises(UsageError, match=r"no photos like 000001\.jpg: put the photos"):
        find_source(path.parent)
    faces(path.parent)
    for line in ("000002.jpg,7", "000002.jpg", "<html>Too many users</html>"):
        path.write_text(f"image_id,partition\n000001.jpg,0\n{line}\n")
        with pytest.raises(UsageError, match=r"list_eval_partition\.csv, line 3"):
            find_source(path.parent)
    path.write_text("")
    with pytest.raises(UsageError, match="is empty"):
        find_source(path.parent)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared photos of CelebA are not here")
def test_the_shared_part_of_celeba():
    source = find_source(SHARED)
    assert Counter(photo.split for photo in source.photos) == {"train": 4560, "val": 780}
    assert source.published == {"train": 162_770, "val": 19_867, "test": 19_962}


def test_a_failed_download_is_told_in_a_line(tmp_path, monkeypatch):
    quota = RuntimeError("The quota is exceeded\nand much more")
    monkeypatch.setattr("torchvision.datasets.CelebA", Mock(side_effect=quota))
    with pytest.raises(DataError, match=r"\(RuntimeError: The quota is exceeded\)\. By hand:.*mmlab.*kaggle"):
        celeba.fetch(tmp_path)


def test_a_folder_is_searched_recursively_and_the_rest_is_counted(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/b/d.jpeg", ".hidden.jpg", "__MACOSX/._b.jpg"):
        saved(tmp_path / name)
    (tmp_path / "a" / "film.mov").write_bytes(bytes(100))
    source = find_source(tmp_path)
    assert source.kind == "folder"
    assert [photo.path for photo in source.photos] == ["a/b/d.jpeg", "a/c.png", "b.JPG"]
    assert source.other == {".mov": 1, ".jpg": 1}


def test_splits_are_80_10_10_and_never_change():
    """Stores and scores of users hang on them."""
    assert Counter(split_of(f"{i}.jpg") for i in range(1000)) == {"train": 815, "val": 106, "test": 79}
    assert split_of("caf\u00e9.jpg") == split_of("cafe\u0301.jpg"), "composed and decomposed are one name"


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_linked_folders_are_followed_once(tmp_path):
    inner = saved(tmp_path / "inner" / "a.png").parent
    (tmp_path / "loop").symlink_to(tmp_path)
    (inner / "loop").symlink_to(inner)
    assert [photo.path for photo in any_folder(tmp_path).photos] == ["inner/a.png"]


def test_what_is_no_folder_of_photos(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no folder .*nothing: give a folder of photos"):
        find_source(tmp_path / "nothing")
    (tmp_path / "film.mov").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no photos in .*found 1 \.mov"):
        find_source(tmp_path)
    monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError(13, "Permission denied", "photos")))
    with pytest.raises(UsageError, match="photos cannot be listed: permission denied"):
        find_source(tmp_path)
