"""Intervals of means: their coverage, and what a paired difference says."""

import numpy as np
import pytest

from course.intervals import bootstrap, difference


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [bootstrap(rng.normal(size=40), repeats=400, seed=trial) for trial in range(200)]
    assert 0.88 <= np.mean([low <= 0 <= high for low, high in found]) <= 0.99


def test_seeds_and_images_are_both_drawn():
    """Values that differ between seeds alone: more images do not make the interval narrower."""
    rng = np.random.default_rng(1)
    seeds = rng.normal(size=(4, 1))
    few, many = (np.ptp(bootstrap(np.repeat(seeds, images, axis=1))) for images in (5, 500))
    assert many == pytest.approx(few, rel=0.1)


def test_a_difference_is_paired():
    rng = np.random.default_rng(2)
    photos = rng.normal(scale=5, size=(3, 30))  # some photos are easy, some hard
    found = difference(photos + 0.2 + rng.normal(scale=0.01, size=(3, 30)), photos)
    assert found["decided"]
    assert found["low"] < found["mean"] < found["high"]
    assert found["mean"] == pytest.approx(0.2, abs=0.01)
    assert not difference(photos, photos)["decided"]
    with pytest.raises(ValueError, match="equal shapes"):
        difference(photos, photos[:2])
    with pytest.raises(ValueError, match="values of shape"):
        bootstrap(np.zeros(0))
