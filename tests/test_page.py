"""What pages call: their first cell, which decides claims and keeps the ledger; figures; intervals of means."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from photo_files import saved
from PIL import Image

from course import page, plots, results
from course.intervals import bootstrap, difference, verdicts
from srlib import files
from srlib.errors import UsageError


@pytest.fixture
def open_page(tmp_path, monkeypatch):
    monkeypatch.delenv("SRLIB_BUDGET", raising=False)
    good = {"data": "sample", "budget": "smoke", "seed": 0, "device": "cpu", "runs": str(tmp_path)}
    return lambda **change: page.open_page("02_subpixel_cnn", **good | change)


def test_wrong_parameters_are_named(open_page, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value, message in (
        ("device", "cuda", "sees no cuda on this machine"),
        ("seed", 2**32, r"SEED must be a whole number from 0 to 2\*\*32 - 1, got 4294967296"),
        ("seed", 1.5, "got 1.5"),
        ("data", "/no/such/folder", "/no/such/folder"),
    ):
        with pytest.raises(UsageError, match=message):
            open_page(**{name: value})


def test_the_environment_overrides_the_budget_and_forces_the_precision(open_page, monkeypatch, capsys):
    for name, value in (("BUDGET", "smoke"), ("PRECISION", "bfloat16")):
        monkeypatch.setenv(f"SRLIB_{name}", value)
    opened, out = open_page(budget="quick"), capsys.readouterr().out
    assert (opened.budget, opened.precision) == ("smoke", torch.bfloat16)
    assert replace(opened, store=None).precision == torch.bfloat16, "page 03 opens its page on other photos"
    assert "SRLIB_BUDGET is set: budget 'smoke' instead of 'quick'" in out
    for name, value in (("PRECISION", "half"), ("BUDGET", "tiny")):
        monkeypatch.setenv(f"SRLIB_{name}", value)
        with pytest.raises(UsageError, match=f"unknown {name.lower()} '{value}'"):
            open_page()


def test_values_and_claims_follow_the_budget_and_claims_the_photos(open_page, capsys):
    def claim(opened, holds):
        opened.claim("a above b", holds, "1 dB")
        return capsys.readouterr().out.splitlines()[-1]

    values = {"smoke": 1, "quick": 2, "full": 3}
    assert [open_page(budget=budget).pick(**values, study=4) for budget in page.BUDGETS] == [1, 2, 4, 3]
    assert open_page(budget="study").pick(**values) == 3
    assert claim(open_page(), False) == "a above b: not decided at smoke"
    quick = open_page(budget="quick")
    assert claim(quick, True) == "so in this run: a above b (1 dB)"
    with pytest.raises(AssertionError, match="a above b: 1 dB"):
        claim(quick, False)
    quick.data = "/somewhere"
    assert claim(quick, False) == "not so in this run: a above b (1 dB)"


def test_ledger_reaches_the_output(open_page, displayed):
    opened = open_page()
    for value in (1.0, torch.tensor(1.23456789)):  # the cell was run again
        opened.record("02.gain", value, "dB")
    opened.record("02.images", 9)
    with pytest.raises(ValueError, match=r"'03\.gain' must start with 02\."):
        opened.record("03.gain", 1.0)
    assert files.resolve("runs") == files.ROOT / "runs", "runs count from the repository"
    opened.summary()
    shown = displayed[0][0]
    ledger = {"02.gain": {"value": 1.234568, "unit": "dB"}, "02.images": {"value": 9, "unit": ""}}
    assert json.loads(json.dumps(shown[results.MIME])) == ledger
    assert "1.23 dB" in shown["text/plain"]
    assert "illustration" in shown["text/html"]
    assert displayed[1][0]["text/html"].startswith("<script>"), "the one that folds solutions"


def test_gallery_draws_every_pixel_as_a_square_and_refuses_what_has_no_words(displayed):
    picture = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plots.show(plots.gallery([picture] * 3, ["one", "two", "three"], zoom=3, columns=2), "three pictures")
    ((data, metadata),) = displayed
    shown = Image.open(io.BytesIO(data["image/png"]))
    assert shown.mode == "RGB"
    assert metadata == {"image/png": {"alt": "three pictures"}}
    zoomed = np.kron(picture.permute(1, 2, 0).numpy(), np.ones((3, 3, 1), np.uint8))
    for top, left in ((4, 8), (4, 8 + 90 + 8), (4 + 60 + 23, 8)):
        assert np.array_equal(np.asarray(shown)[top : top + 60, left : left + 90], zoomed)
    with pytest.raises(ValueError, match="alternative text"):
        plots.show(plots.gallery([picture], ["x"]), " ")
    with pytest.raises(ValueError, match="1 pictures need as many captions, got 2"):
        plots.gallery([picture], ["x", "y"])
    with pytest.raises(ValueError, match=r"square of 5 at \(16, 0\)"):
        plots.crop(picture, 16, 0, 5)


def test_table_shows_every_cell_once_as_html_and_as_text(displayed):
    plots.table([{"name": "a < b", "dB": "1.50"}, {"name": "c", "dB": "12.25"}], "two rows", {"x/y": 3})
    ((data, _),) = displayed
    html = data["text/html"]
    assert html.count("<tr>") == 3
    assert "<caption>two rows</caption>" in html
    assert '<td style="text-align:left">a &lt; b</td><td style="text-align:right">1.50</td>' in html
    assert data["text/plain"].splitlines() == ["name   dB", "a < b  1.50", "c      12.25"]
    assert data["x/y"] == 3
    with pytest.raises(ValueError, match="exactly the columns name, dB"):
        plots.table([{"name": "a", "dB": "1"}, {"name": "b"}])


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
    rest = verdicts({name: there[name] for name in ("near", "unclear")})
    assert rest["unclear"] == found["unclear"], "a comparison that is decided no longer counts"
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


def test_set5_is_found_in_a_folder_or_beside_it_and_none_is_no_error(tmp_path):
    for number in (2, 1):
        saved(tmp_path / f"benchmarks/Set5/HR_x4/{number}.png", size=(8 * number, 12))
    for place in (tmp_path, tmp_path / "benchmarks", tmp_path / "celeba"):
        assert [x.shape for x in page.find_set5(str(place))] == [(1, 3, 12, 8), (1, 3, 12, 16)]
    assert page.find_set5(str(tmp_path / "other" / "celeba")) == []
