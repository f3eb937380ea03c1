"""The bundled sample: real photos from inside packages, in tiles of the shape of CelebA's crops."""

import re

import numpy as np
import pytest

from srlib.data import Store, open_store, sample
from srlib.errors import UsageError


@pytest.fixture(scope="module")
def store() -> Store:
    return open_store("sample")


def test_seven_photos_each_in_one_split() -> None:
    assert [photo.name for photo in sample.PHOTOS if photo.split == "train"] == [
        "chelsea", "coffee", "rocket", "china", "flower"
    ]  # fmt: skip
    assert [photo.name for photo in sample.PHOTOS if photo.split == "val"] == ["grace_hopper"]
    assert [photo.name for photo in sample.PHOTOS if photo.split == "test"] == ["astronaut"]


def test_every_photo_has_its_credit_and_licence() -> None:
    for photo in sample.PHOTOS:
        assert photo.credit
        assert photo.source
        assert photo.licence in {"CC0", "CC BY 2.0", "public domain"}
        assert photo.path().is_file()


def test_shape_and_counts(store: Store) -> None:
    assert store.counts() == {"train": 229, "val": 9, "test": 9}
    assert store.images.shape == (247, 3, 176, 176)
    assert store.images.dtype == np.uint8
    assert len(set(store.names)) == 247
    assert store.describe() == "sample, 247 tiles of 176x176 (tiles): train 229, val 9, test 9"


def test_names_tell_photo_scale_and_place(store: Store) -> None:
    for split in ("train", "val", "test"):
        photos = {photo.name for photo in sample.PHOTOS if photo.split == split}
        assert {store.names[row].split("/")[0] for row in store.rows(split)} == photos
    row = store.names.index("astronaut/s1.00/y000x168")
    astronaut = np.asarray(sample.PHOTOS[-1].read())
    assert (store.images[row] == astronaut[:176, 168:344].transpose(2, 0, 1)).all()


def test_tiles_cover_the_test_face_whole() -> None:
    """Three by three tiles cover all of the 512 x 512 photo; the middle one of the top row holds the face."""
    covered = np.zeros((512, 512), int)
    for name, _ in sample.tiles(sample.PHOTOS[-1]):
        y, x = map(int, re.findall(r"\d{3}", name))
        covered[y : y + 176, x : x + 176] += 1
    assert covered.min() == 1
    assert (covered > 1).mean() < 0.07


def test_the_same_tiles_every_time(store: Store) -> None:
    again = open_store("sample")
    assert again.fingerprint == store.fingerprint
    assert (again.images == store.images).all()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="'chelsea' comes inside scikit-image, which is not installed"):
        open_store("sample")
