"""Tiles, of the bundled sample and of large photos."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.data import Store, open_store, sample
from srlib.data.crops import planned, tiles
from srlib.errors import UsageError

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"


@pytest.fixture(scope="module")
def store() -> Store:
    return open_store("sample")


def test_the_sample_never_changes(store: Store) -> None:
    """Recorded scores and trained networks hang on it."""
    assert store.describe() == "sample, 247 tiles of 176x176 (tiles): train 229, val 9, test 9"
    assert store.images.shape == (247, 3, 176, 176)
    assert store.fingerprint == "b21cc13b5d60b74c5d606f73a376de1e"
    for photo in sample.PHOTOS:
        assert photo.credit
        assert photo.licence in {"CC0", "CC BY 2.0", "public domain"}


def test_names_tell_photo_scale_and_place(store: Store) -> None:
    for split in ("train", "val", "test"):
        photos = {photo.name for photo in sample.PHOTOS if photo.split == split}
        assert {store.names[row].split("/")[0] for row in store.rows(split)} == photos
    row = store.names.index("astronaut/s1.00/y000x168")
    astronaut = np.asarray(sample.PHOTOS[-1].read())
    assert (store.images[row] == astronaut[:176, 168:344].transpose(2, 0, 1)).all()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="chelsea comes inside scikit-image, which is not installed"):
        open_store("sample")


# --- tiles of any photos --------------------------------------------------------------------------------


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("size", "scales", "count"),
    [
        ((1500, 1000), (0.5, 0.25), 4 * 3 + 2 * 1),
        ((500, 400), (0.5,), 1),
        ((340, 600), (1.0,), 2 * 3),
        ((170, 900), (), 0),
    ],
)
def test_tiles_of_a_folder(tmp_path: Path, size: tuple[int, int], scales: tuple[float], count: int) -> None:
    """Which scales, how many tiles, their names and their pixels, which are Pillow's."""
    (tmp_path / "photos").mkdir()
    noise(*size).save(tmp_path / "photos" / "holiday.png")
    noise(700, 352).save(tmp_path / "photos" / "other.png")  # a folder needs one usable photo
    store = open_store(tmp_path / "photos", tmp_path / "runs", "tiles")
    names = [name for name in store.names if name.startswith("holiday.png/")]
    assert len(names) == count
    assert {float(name.split("/")[1][1:]) for name in names} == set(scales)
    assert len(store) == count + 2
    for scale in scales:
        small = noise(*size).resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BICUBIC)
        covered = np.zeros(small.size[::-1], int)
        for name in (name for name in names if f"/s{scale:.2f}/" in name):
            y, x = map(int, re.search(r"y(\d+)x(\d+)$", name).groups())
            tile = np.asarray(small)[y : y + 176, x : x + 176].transpose(2, 0, 1)
            assert (store.images[store.names.index(name)] == tile).all()
            covered[y : y + 176, x : x + 176] += 1
        for along in (covered[88], covered[:, 88]):  # gaps or overlaps of half a tile together, and no more
            assert (along == 0).sum() <= 88
            assert (along > 1).sum() <= 88
    if not scales:
        assert store.skipped == {"holiday.png": "170x900, the shorter side is below 176"}


def test_tiles_follow_exif_and_the_plan_is_made_from_the_header(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.png"
    noise(800, 400).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    store = open_store(tmp_path, tmp_path / "runs", "tiles")
    assert [f"photo.png{name}" for name in planned(path, "tiles")] == store.names
    assert [name.split("/")[-1] for name in store.names] == ["y012x000", "y012x224"]
    assert (store.images == np.stack(list(tiles(noise(800, 400), [0.5]).values()))).all()


def test_all_tiles_of_a_photo_are_in_one_split_and_its_number_is_as_announced() -> None:
    if not PHOTOS.is_dir():
        pytest.skip("the shared photos are not here")
    files = sorted(PHOTOS.glob("*.jpg"))
    assert len(files) == 28
    assert sum(len(planned(file, "tiles")) for file in files) == 2664
    full_hd_doubled = [file for file in files if Image.open(file).size == (3840, 2160)]
    assert {len(planned(file, "tiles")) for file in full_hd_doubled} == {6 * 11 + 3 * 5}


def test_splits_are_made_by_photo_and_a_broken_photo_keeps_its_rows_to_itself(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(8):  # of these names 3.png is for validation, 6.png for training
        noise(720 + i, 360).save(photos / f"{i}.jpg", quality=90)
    cut_short = (photos / "2.jpg").read_bytes()
    (photos / "2.jpg").write_bytes(cut_short[: len(cut_short) // 2])
    store = open_store(photos, tmp_path / "runs", "tiles", max_bad=20)
    assert list(store.bad) == ["2.jpg"]
    assert len(store) == 7 * 2
    assert len(store.images) == len(store.names) == 8 * 2
    used = {split: {store.names[row].split("/")[0] for row in store.rows(split)} for split in store.counts()}
    assert used["val"] == {"3.jpg"}
    assert used["test"] == {"6.jpg"}
    assert "2.jpg" not in used["train"]
    assert not store.images[[row for row, name in enumerate(store.names) if name.startswith("2.jpg")]].any()
    assert store.describe().startswith(
        "folder, 14 tiles of 176x176 (tiles): train 10, val 2, test 2; 1 unreadable"
    )
