"""Where photos are found: CelebA in the layouts that people have, and any folder."""

import os
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from srlib.data import celeba
from srlib.data.decode import ALIGNED
from srlib.data.find import any_folder, find_source, split_of
from srlib.errors import DataError, UsageError

SHARED = Path(__file__).parents[2] / "shared" / "data"
# Three photos of the five that the partition lists are there.
PRESENT = {"000001.jpg": "train", "000002.jpg": "train", "000004.jpg": "val"}
LISTED = {"000001.jpg": 0, "000002.jpg": 0, "000003.jpg": 0, "000004.jpg": 1, "000005.jpg": 2}


def faces(folder: Path, ending: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in PRESENT:
        Image.new("RGB", ALIGNED, "teal").save(folder / name.replace(".jpg", ending))
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
    Image.new("RGB", (178, 218)).save(folder / "000009.jpg")
    (folder / "readme.txt").write_text("hello")
    source = find_source(tmp_path)
    assert [photo.path for photo in source.photos] == ["000001.png", "000002.png", "000004.png"]
    assert source.bad == {"000009.jpg": "not listed in list_eval_partition.csv"}
    assert source.other == {".txt": 1}


def test_photos_without_a_partition_file_and_the_other_way_round(tmp_path: Path) -> None:
    for given in ("img_align_celeba", "renamed"):
        with pytest.raises(UsageError, match=r"list_eval_partition\.csv.* which says which .*mmlab.*kaggle"):
            find_source(faces(tmp_path / given))
    folder = partition(tmp_path / "alone").parent
    with pytest.raises(UsageError, match=r"no photos like 000001\.jpg: put the photos"):
        find_source(folder)


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


def test_the_shared_part_of_celeba() -> None:
    if not (SHARED / "celeba").is_dir():
        pytest.skip("the shared photos of CelebA are not here")
    source = find_source(SHARED / "celeba")
    assert Counter(photo.split for photo in source.photos) == {"train": 4560, "val": 780}
    assert source.published == {"train": 162_770, "val": 19_867, "test": 19_962}
    assert not source.bad


def test_a_failed_download_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = RuntimeError("The quota is exceeded\nand much more")
    monkeypatch.setattr("torchvision.datasets.CelebA", Mock(side_effect=quota))
    with pytest.raises(DataError, match=r"\(RuntimeError: The quota is exceeded\)\. By hand:.*mmlab.*kaggle"):
        celeba.fetch(tmp_path)


# --- any folder -----------------------------------------------------------------------------------------


def test_a_folder_is_searched_recursively_and_the_rest_is_counted(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", "a/b/d.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 200)).save(tmp_path / name)
    (tmp_path / "a" / "film.mov").write_bytes(bytes(100))
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._b.jpg").write_bytes(b"")
    source = find_source(tmp_path)
    assert source.kind == "folder"
    assert [photo.path for photo in source.photos] == ["a/b/d.jpeg", "a/c.png", "b.JPG"]
    assert source.other == {".mov": 1, ".jpg": 1}


def test_splits_are_80_10_10_and_depend_on_the_path_alone() -> None:
    names = [f"holidays/{year}/IMG_{i:04d}.jpg" for year in range(2000, 2020) for i in range(500)]
    splits = [split_of(name) for name in names]
    for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert splits.count(split) / len(names) == pytest.approx(share, abs=0.01)
    # These must never change: stores and scores of users hang on them.
    pinned = {i: split_of(f"{i}.jpg") for i in range(12)}
    assert {i: split for i, split in pinned.items() if split != "train"} == {3: "val", 6: "test"}
    assert split_of("caf\u00e9.jpg") == split_of("cafe\u0301.jpg"), "composed and decomposed are one name"


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    Image.new("RGB", (200, 200)).save(tmp_path / "photos" / "inner" / "a.png")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "inner" / "loop").symlink_to(tmp_path / "photos" / "inner")
    assert [photo.path for photo in any_folder(tmp_path / "photos").photos] == ["inner/a.png"]


def test_what_is_no_folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            find_source(tmp_path / name)

    refused("nothing", "no folder .*nothing: give a folder of photos")
    refused("", "no photos in .*found nothing")
    (tmp_path / "film.mov").write_bytes(b"x")
    refused("film.mov", r"no folder .*film\.mov")
    refused("", r"no photos in .*found 1 \.mov")
    monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError(13, "Permission denied", "photos")))
    refused("", "photos cannot be listed: permission denied")
