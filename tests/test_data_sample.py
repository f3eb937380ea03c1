"""Tiles, of the bundled sample and of large photos."""

import re

import numpy as np
import pytest
from photo_files import noise
from PIL import Image

from srlib.data import open_store, sample
from srlib.data.crops import planned, tiles
from srlib.errors import UsageError


def test_the_sample_never_changes():
    """Recorded scores and trained networks hang on it."""
    store = open_store("sample")
    assert store.describe() == "sample, 213 tiles of 176x176 (tiles): train 181, val 17, test 15"
    assert store.images.shape == (213, 3, 176, 176)
    assert store.fingerprint == "7155d180297ad6b8c06409209821aa13"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="chelsea comes inside scikit-image, which is not installed"):
        open_store("sample")


def photo(width, height):
    return Image.fromarray(noise(height, width, 3))


SIZES = {(1500, 1000): {0.5: 4 * 3, 0.25: 2 * 1}, (500, 400): {0.5: 1}, (340, 600): {1.0: 2 * 3}, (170, 900): {}}


@pytest.mark.parametrize("size", SIZES)
def test_tiles_of_a_folder(tmp_path, size):
    """Which scales, how many tiles, their names and their pixels, which are Pillow's."""
    photo(*size).save(tmp_path / "holiday.png")
    photo(700, 352).save(tmp_path / "other.png")  # a folder needs one usable photo
    store = open_store(tmp_path, tmp_path / "runs", "tiles")
    assert len(store) == sum(SIZES[size].values()) + 2
    assert bool(store.skipped) == (min(size) < 176)
    for scale, count in SIZES[size].items():
        small = photo(*size).resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BICUBIC)
        covered, found = np.zeros(small.size[::-1], int), 0
        for row, name in enumerate(store.names):
            if place := re.fullmatch(rf"holiday.png/s{scale:.2f}/y(\d+)x(\d+)", name):
                here = np.s_[int(place[1]) : int(place[1]) + 176, int(place[2]) : int(place[2]) + 176]
                assert (store.images[row] == np.asarray(small)[here].transpose(2, 0, 1)).all()
                covered[here] += 1
                found += 1
        assert found == count
        for along in (covered[88], covered[:, 88]):  # gaps or overlaps of half a tile together, and no more
            assert max((along == 0).sum(), (along > 1).sum()) <= 88


def test_tiles_follow_exif_and_the_plan_is_made_from_the_header(tmp_path):
    exif, path = Image.Exif(), tmp_path / "photo.png"
    exif[0x0112] = 6
    photo(800, 400).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    store = open_store(tmp_path, tmp_path / "runs", "tiles")
    assert store.names == [f"photo.png{name}" for name in planned(path)]
    assert store.names == ["photo.png/s0.50/y012x000", "photo.png/s0.50/y012x224"]
    assert (store.images == np.stack(list(tiles(photo(800, 400), [0.5]).values()))).all()


def test_splits_are_made_by_photo_and_a_broken_photo_keeps_its_rows_to_itself(tmp_path):
    for i in range(8):  # of these names 3.jpg is for validation, 6.jpg for testing
        photo(720 + i, 360).save(tmp_path / f"{i}.jpg")
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:9000])
    store = open_store(tmp_path, tmp_path / "runs", "tiles", max_bad=20)
    assert len(store.images) == len(store.names) == 8 * 2
    used = [{store.names[row][0] for row in store.rows(split)} for split in store.counts()]
    assert used == [{"0", "1", "4", "5", "7"}, {"3"}, {"6"}]
    assert not store.images[[name.startswith("2.jpg") for name in store.names]].any()
    assert store.describe() == "folder, 14 tiles of 176x176 (tiles): train 10, val 2, test 2; 1 unreadable"
