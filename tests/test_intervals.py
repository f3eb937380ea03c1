"""Intervals of means: their coverage, and what a paired difference says."""

import numpy as np
import pytest

from course.intervals import bootstrap, difference, verdicts


def test_an_interval_covers_the_mean_as_often_as_it_says_and_seeds_and_images_are_both_drawn():
    rng = np.random.default_rng(0)
    found = [bootstrap(rng.normal(size=40), repeats=400, seed=trial) for trial in range(200)]
    assert 0.88 <= np.mean([low <= 0 <= high for low, high in found]) <= 0.99
    seeds = rng.normal(size=(4, 1))  # where seeds alone differ, more images do not make it narrower
    few, many = (np.ptp(bootstrap(np.repeat(seeds, images, axis=1))) for images in (5, 500))
    assert many == pytest.approx(few, rel=0.1)
    with pytest.raises(ValueError, match="values of shape"):
        bootstrap(np.zeros(0))


def test_a_difference_is_paired():
    rng = np.random.default_rng(2)
    photos = rng.normal(scale=5, size=(3, 30))  # some photos are easy, some hard
    found = difference(photos + 0.2 + rng.normal(scale=0.01, size=(3, 30)), photos)
    assert found["decided"]
    assert found["mean"] == pytest.approx(0.2, abs=0.01)
    assert found["low"] < found["mean"] < found["high"]
    assert not difference(photos, photos)["decided"]
    with pytest.raises(ValueError, match="equal shapes"):
        difference(photos, photos[:2])


def draws(rng: np.random.Generator, mean: float = 0.0, spread: float = 0.1) -> np.ndarray:
    """Differences of 5 seeds and 40 images with effects of both and noise."""
    return mean + spread * (rng.normal(size=(5, 1)) + rng.normal(size=(1, 40)) + rng.normal(size=(5, 40)))


def test_verdicts_rarely_find_what_is_not_there_and_find_what_is():
    rng = np.random.default_rng(3)
    found = [verdicts({str(i): draws(rng) for i in range(6)} | {"real": draws(rng, 0.5)}) for _ in range(200)]
    real = [row.pop("real")["verdict"] for row in found]
    assert np.mean([any(each["verdict"] in ("ahead", "behind") for each in row.values()) for row in found]) <= 0.07
    assert real.count("ahead") >= 0.95 * 200


def test_verdicts_are_the_same_in_both_directions_and_know_what_is_equal():
    rng = np.random.default_rng(4)
    there = {"far": draws(rng, 1.0), "near": draws(rng, 0.0, 0.01), "unclear": draws(rng, 0.0, 0.3)}
    found, turned = verdicts(there), verdicts({name: -values for name, values in there.items()})
    assert [row["verdict"] for row in found.values()] == ["ahead", "equal", "open"]
    assert [row["verdict"] for row in turned.values()] == ["behind", "equal", "open"]
    assert turned["far"]["low"] == -found["far"]["high"]
    alone = verdicts({"far": there["far"]})["far"]
    assert alone["low"] > found["far"]["low"], "of more comparisons each has to be clearer"
    assert verdicts({"one seed": there["far"][0]})["one seed"]["verdict"] == "ahead"


def test_an_open_difference_says_how_many_seeds_would_settle_it():
    """Of many photos, so that only seeds count: as many of this mean and variance decide, one less does not."""
    seeds = np.array([0.9, -0.7, 0.4])
    few, spread = np.repeat(seeds[:, None], 5000, axis=1), seeds.std(ddof=1)
    needed = verdicts({"": few})[""]["seeds"]
    for count, settled in ((needed, True), (needed - 1, False)):
        values = np.linspace(-1, 1, count)
        values = seeds.mean() + spread * values / values.std(ddof=1)
        assert (verdicts({"": np.repeat(values[:, None], 5000, axis=1)})[""]["verdict"] != "open") == settled
