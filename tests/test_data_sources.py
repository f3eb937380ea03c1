"""Where photos are found: CelebA in the layouts that people have, and any folder."""

import os
from pathlib import Path

import pytest
from PIL import Image

from srlib.data import celeba
from srlib.data.folders import find_source, split_of
from srlib.data.sources import printable
from srlib.errors import DataError, UsageError

SHARED = Path(__file__).parents[2] / "shared" / "data"
# Three photos of the five that the partition lists are there.
PRESENT = {"000001.jpg": "train", "000002.jpg": "train", "000004.jpg": "val"}
LISTED = {"000001.jpg": 0, "000002.jpg": 0, "000003.jpg": 0, "000004.jpg": 1, "000005.jpg": 2}


def faces(folder: Path, size: tuple[int, int] = celeba.ALIGNED) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in PRESENT:
        Image.new("RGB", size, "teal").save(folder / name)
    return folder


def partition(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    header, comma = ("image_id,partition\n", ",") if kind == "csv" else ("", " ")
    path = folder / f"list_eval_partition.{kind}"
    path.write_text(header + "".join(f"{name}{comma}{code}\n" for name, code in LISTED.items()))
    return path


# name: (where the photos are, where the partition file is and of which kind, what the user points at)
LAYOUTS = {
    "torchvision": ("celeba/img_align_celeba", "celeba", "txt", "celeba"),
    "torchvision, its root": ("celeba/img_align_celeba", "celeba", "txt", "."),
    "torchvision, the photos": ("celeba/img_align_celeba", "celeba", "txt", "celeba/img_align_celeba"),
    "as published": ("CelebA/Img/img_align_celeba", "CelebA/Eval", "txt", "CelebA"),
    "Kaggle": ("archive/img_align_celeba/img_align_celeba", "archive", "csv", "archive"),
    "Kaggle, one level more": ("archive/img_align_celeba/img_align_celeba", "archive", "csv", "."),
    "Kaggle, one level less": ("archive/img_align_celeba/img_align_celeba", "archive", "csv",
                               "archive/img_align_celeba"),
    "Kaggle, the photos": ("archive/img_align_celeba/img_align_celeba", "archive", "csv",
                           "archive/img_align_celeba/img_align_celeba"),
    "Kaggle, one folder of two": ("archive/img_align_celeba", "archive", "csv", "archive"),
    "both in one folder": ("faces", "faces", "csv", "faces"),
    "partition among the photos": ("celeba/img_align_celeba", "celeba/img_align_celeba", "csv", "celeba"),
    "photos loose beside a subfolder": ("faces/all", "faces", "txt", "faces"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_celeba_is_found(layout: str, tmp_path: Path) -> None:
    photos, listed, kind, given = LAYOUTS[layout]
    faces(tmp_path / photos)
    partition(tmp_path / listed, kind)
    source = find_source(tmp_path / given)
    assert source.kind == "celeba"
    assert source.root == tmp_path / photos
    assert {photo.path: photo.split for photo in source.photos} == PRESENT
    assert source.published == {"train": 3, "val": 1, "test": 1}
    assert not source.bad


def test_png_photos_go_by_the_same_list(tmp_path: Path) -> None:
    faces(tmp_path / "img_align_celeba")
    for photo in (tmp_path / "img_align_celeba").iterdir():
        photo.rename(photo.with_suffix(".png"))
    partition(tmp_path, "txt")
    assert {p.path: p.split for p in find_source(tmp_path).photos} == {
        name.replace("jpg", "png"): split for name, split in PRESENT.items()
    }


def test_a_photo_that_the_list_does_not_know_is_named(tmp_path: Path) -> None:
    faces(tmp_path / "img_align_celeba")
    partition(tmp_path, "csv")
    Image.new("RGB", (178, 218)).save(tmp_path / "img_align_celeba" / "000009.jpg")
    (tmp_path / "img_align_celeba" / "readme.txt").write_text("hello")
    source = find_source(tmp_path)
    assert source.bad == {"000009.jpg": "not listed in list_eval_partition.csv"}
    assert source.other == {".txt": 1}


@pytest.mark.parametrize("given", ["img_align_celeba", "renamed"])
def test_without_a_partition_file_the_error_says_what_is_missing(tmp_path: Path, given: str) -> None:
    faces(tmp_path / given)
    with pytest.raises(UsageError, match=r"list_eval_partition\.csv.* is missing.*mmlab.*kaggle"):
        find_source(tmp_path / given)


def test_without_photos_the_error_says_what_is_missing(tmp_path: Path) -> None:
    partition(tmp_path, "csv")
    with pytest.raises(UsageError, match=r"no photos like 000001\.jpg: put the photos"):
        find_source(tmp_path)
    (tmp_path / "img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"unpack .*img_align_celeba\.zip"):
        find_source(tmp_path)


@pytest.mark.parametrize("line", ["000002.jpg,7", "000002.jpg", "<html>Too many users</html>"])
def test_a_broken_partition_file_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    faces(tmp_path / "img_align_celeba")
    path = partition(tmp_path, "csv")
    path.write_text(f"image_id,partition\n000001.jpg,0\n{line}\n")
    with pytest.raises(UsageError, match=r"list_eval_partition\.csv, line 3"):
        find_source(tmp_path)
    path.write_text("")
    with pytest.raises(UsageError, match="is empty"):
        find_source(tmp_path)


def test_the_published_counts_add_up() -> None:
    assert sum(celeba.PUBLISHED.values()) == 202_599


def test_the_shared_part_of_celeba() -> None:
    if not (SHARED / "celeba").is_dir():
        pytest.skip("the shared photos of CelebA are not here")
    source = find_source(SHARED / "celeba")
    counts = {split: sum(photo.split == split for photo in source.photos) for split in celeba.PUBLISHED}
    assert counts == {"train": 4560, "val": 780, "test": 0}
    assert source.published == celeba.PUBLISHED
    assert not source.bad


# --- fetching -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (RuntimeError("The daily quota of the file img_align_celeba.zip is exceeded"), "quota .* used up"),
        (ConnectionError("HTTPSConnectionPool: Failed to resolve 'drive.google.com'"), "no network"),
        (TimeoutError("timed out"), "no network"),
        (ModuleNotFoundError("No module named 'gdown'"), "pip install gdown"),
        (RuntimeError("Dataset not found or corrupted."), "not the archive"),
        (OSError("a new kind of trouble"), "a new kind of trouble"),
    ],
)
def test_a_failed_download_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, answer: str
) -> None:
    def fail(root: str, split: str, download: bool) -> None:
        raise error

    monkeypatch.setattr("torchvision.datasets.CelebA", fail)
    with pytest.raises(DataError, match=f"{answer}.*By hand:.*kaggle"):
        celeba.fetch(tmp_path)


# --- any folder -----------------------------------------------------------------------------------------


def test_a_folder_is_searched_recursively_and_the_rest_is_counted(tmp_path: Path) -> None:
    photo = Image.new("RGB", (200, 200))
    for name in ("b.JPG", "a/c.png", "a/b/d.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path / name)
    (tmp_path / "a" / "film.mov").write_bytes(bytes(100))
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._b.jpg").write_bytes(b"")
    source = find_source(tmp_path)
    assert source.kind == "folder"
    assert [p.path for p in source.photos] == ["a/b/d.jpeg", "a/c.png", "b.JPG"]
    assert source.other == {".mov": 1, ".jpg": 1}


def test_splits_are_80_10_10_and_depend_on_the_path_alone() -> None:
    names = [f"holidays/{year}/IMG_{i:04d}.jpg" for year in range(2000, 2020) for i in range(500)]
    splits = [split_of(name) for name in names]
    for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert splits.count(split) / len(names) == pytest.approx(share, abs=0.01)
    # These must never change: stores and scores of users hang on them.
    pinned = {i: split_of(f"{i}.jpg") for i in range(12)}
    assert {i for i, split in pinned.items() if split != "train"} == {3, 6}
    assert (pinned[3], pinned[6]) == ("val", "test")
    assert split_of("caf\u00e9.jpg") == split_of("cafe\u0301.jpg"), "composed and decomposed are one name"


def test_a_growing_folder_moves_no_photo(tmp_path: Path) -> None:
    photo = Image.new("RGB", (200, 200))
    for i in range(0, 40, 2):
        photo.save(tmp_path / f"{i:02d}.png")
    before = {p.path: p.split for p in find_source(tmp_path).photos}
    for i in range(1, 40, 2):
        photo.save(tmp_path / f"{i:02d}.png")
    after = {p.path: p.split for p in find_source(tmp_path).photos}
    assert len(after) == 40
    assert before.items() <= after.items()


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    Image.new("RGB", (200, 200)).save(tmp_path / "photos" / "inner" / "a.png")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "inner" / "loop").symlink_to(tmp_path / "photos" / "inner")
    assert [p.path for p in find_source(tmp_path / "photos").photos] == ["inner/a.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no folder"),
        (lambda p: p.write_text("a file"), "is a file"),
        (lambda p: p.mkdir(), "no photos in .*found nothing"),
        (lambda p: (p.mkdir(), (p / "film.mov").write_bytes(b"x")), r"no photos in .*found 1 \.mov"),
    ],
)
def test_what_is_no_folder_of_photos(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "given")
    with pytest.raises(UsageError, match=message):
        find_source(tmp_path / "given")


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="cannot be listed: permission denied"):
        find_source(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names are always Unicode here")
def test_names_that_are_no_utf8_can_be_shown() -> None:
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
