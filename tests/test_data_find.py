"""Where photos are found: CelebA in the layouts that people have, and any folder."""

import os
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest
from photo_files import saved

from srlib.data import celeba
from srlib.data.decode import ALIGNED
from srlib.data.find import any_folder, find_source, split_of
from srlib.errors import DataError, UsageError

SHARED = Path(__file__).parents[2] / "shared" / "data" / "celeba"
# Three photos of the five that the partition lists are there.
PRESENT = {"000001.jpg": "train", "000002.jpg": "train", "000004.jpg": "val"}
LISTED = {"000001.jpg": 0, "000002.jpg": 0, "000003.jpg": 0, "000004.jpg": 1, "000005.jpg": 2}


def faces(folder: Path, ending: str = ".jpg") -> Path:
    for name in PRESENT:
        saved(folder / name.replace(".jpg", ending), size=ALIGNED)
    return folder


def partition(folder: Path, kind: str = "csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    header, comma = ("image_id,partition\n", ",") if kind == "csv" else ("", " ")
    path = folder / f"list_eval_partition.{kind}"
    path.write_text(header + "".join(f"{name}{comma}{code}\n" for name, code in LISTED.items()))
    return path


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
def test_celeba_is_found(layout: str, tmp_path: Path) -> None:
    photos, listed, kind, given = LAYOUTS[layout]
    faces(tmp_path / photos)
    partition(tmp_path / listed, kind)
    source = find_source(tmp_path / given)
    assert (source.kind, source.root) == ("celeba", tmp_path / photos)
    assert {photo.path: photo.split for photo in source.photos} == PRESENT
    assert source.published == {"train": 3, "val": 1, "test": 1}
    assert not source.bad


def test_png_photos_go_by_the_same_list_and_an_unlisted_one_is_named(tmp_path: Path) -> None:
    folder = faces(tmp_path / "img_align_celeba", ".png")
    partition(tmp_path)
    saved(folder / "000009.jpg", size=ALIGNED)
    (folder / "readme.txt").write_text("hello")
    source = find_source(tmp_path)
    assert [photo.path for photo in source.photos] == ["000001.png", "000002.png", "000004.png"]
    assert source.bad == {"000009.jpg": "not listed in list_eval_partition.csv"}
    assert source.other == {".txt": 1}


def test_photos_without_a_partition_file_and_the_other_way_round(tmp_path: Path) -> None:
    for given in ("img_align_celeba", "renamed"):
        with pytest.raises(UsageError, match=r"list_eval_partition\.csv.* is missing: .*mmlab.*kaggle"):
            find_source(faces(tmp_path / given))
    with pytest.raises(UsageError, match=r"no photos like 000001\.jpg: put the photos"):
        find_source(partition(tmp_path / "alone").parent)


def test_a_broken_partition_file_is_named_with_its_line(tmp_path: Path) -> None:
    faces(tmp_path / "img_align_celeba")
    path = partition(tmp_path)
    for line in ("000002.jpg,7", "000002.jpg", "<html>Too many users</html>"):
        path.write_text(f"image_id,partition\n000001.jpg,0\n{line}\n")
        with pytest.raises(UsageError, match=r"list_eval_partition\.csv, line 3"):
            find_source(tmp_path)
    path.write_text("")
    with pytest.raises(UsageError, match="is empty"):
        find_source(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared photos of CelebA are not here")
def test_the_shared_part_of_celeba() -> None:
    source = find_source(SHARED)
    assert Counter(photo.split for photo in source.photos) == {"train": 4560, "val": 780}
    assert source.published == {"train": 162_770, "val": 19_867, "test": 19_962}
    assert not source.bad


def test_a_failed_download_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = RuntimeError("The quota is exceeded\nand much more")
    monkeypatch.setattr("torchvision.datasets.CelebA", Mock(side_effect=quota))
    with pytest.raises(DataError, match=r"\(RuntimeError: The quota is exceeded\)\. By hand:.*mmlab.*kaggle"):
        celeba.fetch(tmp_path)


def test_a_folder_is_searched_recursively_and_the_rest_is_counted(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", "a/b/d.jpeg", ".hidden.jpg", "__MACOSX/._b.jpg"):
        saved(tmp_path / name)
    (tmp_path / "a" / "film.mov").write_bytes(bytes(100))
    source = find_source(tmp_path)
    assert source.kind == "folder"
    assert [photo.path for photo in source.photos] == ["a/b/d.jpeg", "a/c.png", "b.JPG"]
    assert source.other == {".mov": 1, ".jpg": 1}


def test_splits_are_80_10_10_and_never_change() -> None:
    """Stores and scores of users hang on them."""
    assert Counter(split_of(f"{i}.jpg") for i in range(1000)) == {"train": 815, "val": 106, "test": 79}
    assert split_of("caf\u00e9.jpg") == split_of("cafe\u0301.jpg"), "composed and decomposed are one name"


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    inner = saved(tmp_path / "inner" / "a.png").parent
    (tmp_path / "loop").symlink_to(tmp_path)
    (inner / "loop").symlink_to(inner)
    assert [photo.path for photo in any_folder(tmp_path).photos] == ["inner/a.png"]


def test_what_is_no_folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no folder .*nothing: give a folder of photos"):
        find_source(tmp_path / "nothing")
    (tmp_path / "film.mov").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no photos in .*found 1 \.mov"):
        find_source(tmp_path)
    monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError(13, "Permission denied", "photos")))
    with pytest.raises(UsageError, match="photos cannot be listed: permission denied"):
        find_source(tmp_path)
