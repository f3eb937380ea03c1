"""Page 05's test: its rules with simulated readers, and the same rules and pictures in a browser."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest

from course import blind
from course import notebooks as pages
from srlib.data.sample import PHOTOS
from srlib.measure.grids import add_grid

TRIALS = blind.RULES["trials"]


def photos() -> list[torch.Tensor]:
    """Three squares of 64 pixels."""
    arrays = [np.asarray(photo.read())[60:124, 60:124].copy() for photo in PHOTOS[:3]]
    return [torch.from_numpy(array).permute(2, 0, 1).float() / 255 for array in arrays]


# ---------------------------------------------------------------- the rules


def test_the_staircase_climbs_falls_and_halves_its_steps():
    stairs = blind.Staircase()
    levels = []
    for right in (True, True, False, True, True, False, False, True):
        stairs.answer(right)
        levels.append(stairs.level)
    # up at once until the first mistake, then after two in a row; 6 dB, halved at each turn, at least 1.5
    assert levels == [33, 39, 36, 36, 37.5, 36, 34.5, 34.5]
    for _ in range(60):
        stairs.answer(True, shown=stairs.level + 0.3)
    assert stairs.level == blind.RULES["highest"]
    assert stairs.answers[-1] == (blind.RULES["highest"] + 0.3, True)
    for _ in range(60):
        stairs.answer(False)
    assert stairs.level == blind.RULES["lowest"]


def test_chance_is_a_third_at_worst_and_half_way_up_at_the_threshold():
    assert blind.chance(200, 30, 1) == pytest.approx(1 / 3)
    assert blind.chance(-200, 30, 1) == pytest.approx(1 - blind.RULES["lapse"])
    assert blind.chance(30, 30, 1) == pytest.approx((1 / 3 + 1 - blind.RULES["lapse"]) / 2)


def test_threshold_is_the_posterior_written_out():
    answers = [(28.0, True), (34.0, True), (40.0, False), (37.0, True), (37.0, False)]
    first, last, width = blind.RULES["grid"]
    places, weights = [first + i * width for i in range(round((last - first) / width) + 1)], []
    for place in places:
        of_spread = [[blind.chance(x, place, s) if r else 1 - blind.chance(x, place, s) for x, r in answers]
                     for s in blind.RULES["spreads"]]  # fmt: skip
        weights.append(sum(float(np.prod(row)) for row in of_spread))
    shares = list(itertools.accumulate(w / sum(weights) for w in weights))
    expected = [next(p for p, share in zip(places, shares) if share >= q) for q in (0.5, 0.025, 0.975)]
    assert list(blind.threshold(answers)) == expected


@pytest.mark.parametrize("truth", [22.0, 30.0, 38.0, 46.0])
@pytest.mark.parametrize("spread", [0.7, 3.0])
def test_intervals_hold_the_threshold_of_simulated_readers(truth, spread):
    random = np.random.default_rng(int(truth))
    middle, low, high = np.array(
        [blind.threshold(blind.simulate(truth, spread, random).answers) for _ in range(200)]
    ).T
    held = int(((low <= truth) & (truth <= high)).sum())
    assert binomtest(held, 200, 0.95, alternative="less").pvalue > 0.001
    assert abs(middle.mean() - truth) < 1.5


def test_who_guesses_sees_nothing_and_who_sees_all_is_told_so():
    random = np.random.default_rng(1)
    ends = [blind.threshold(blind.simulate(-100, 1, random).answers)[1:] for _ in range(200)]
    said = [blind.verdict(*end, TRIALS) for end in ends]
    assert said.count("seen at 30 dB") <= 10
    assert blind.verdict(*blind.threshold(blind.simulate(200, 1, random).answers)[1:], TRIALS) == "seen at 30 dB"


def test_without_answers_it_is_open():
    assert blind.verdict(*blind.threshold([])[1:], 0) == "open"
    assert blind.verdict(40, 50, blind.RULES["fewest"] - 1) == "open"
    assert blind.verdict(40, 50, blind.RULES["fewest"]) == "seen at 30 dB"
    assert blind.verdict(20, 29, TRIALS) == "not seen at 30 dB"
    assert blind.verdict(20, 30, TRIALS) == "open"


def test_the_sheet_shows_two_equal_ones_and_its_key_names_the_third():
    figure, key = blind.sheet(
        photos(), {"blur": lambda x, dB: x * dB / 60, "noise": lambda x, dB: 1 - x}, (30, 40), 0
    )
    odd = re.findall(r"(\d): (\d) \((\w+), (\d+) dB\)", key)
    assert [number for number, *_ in odd] == ["1", "2", "3", "4"]
    assert sorted(row[2:] for row in odd) == [("blur", "30"), ("blur", "40"), ("noise", "30"), ("noise", "40")]
    assert len({place for _, place, *_ in odd}) > 1
    for image, (_, place, *_) in zip(figure.images, odd):
        thirds = [np.asarray(image.get_array())[:, start : start + 128] for start in (0, 136, 272)]
        equal = [i for i in range(3) if not np.array_equal(thirds[i - 1], thirds[i - 2])]
        assert len(equal) == 2
        assert int(place) - 1 not in equal


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def test_page(browser, tmp_path) -> Iterator[Any]:
    """A page that holds nothing but the test, on a phone without a network."""
    (tmp_path / "test.html").write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><body>{blind.embed(photos(), seed=1, open=True)}",
        "utf-8",
    )
    with browser.new_context(offline=True, viewport={"width": 390, "height": 844}) as context:
        page, wrong = context.new_page(), []
        page.on("request", lambda request: re.match("file|data|blob", request.url) or wrong.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((tmp_path / "test.html").as_uri())
        yield page
        assert wrong == []


def take(page: Any, number: int, right: bool) -> None:
    """Answer that many questions, all right or all wrong."""
    for _ in range(number):
        odd = int(page.get_attribute(".abx", "data-odd"))
        page.locator(".abx-row button").nth(odd - 1 if right else odd % 3).click()


def verdicts(page: Any) -> list[str]:
    return page.locator(".abx tr td:last-child").all_inner_texts()


@pytest.mark.browser
def test_the_browser_follows_the_same_rules(test_page):
    random = np.random.default_rng(3)
    for _ in range(5):
        answers = [bool(right) for right in random.random(TRIALS) < 0.7]
        ours, levels = blind.Staircase(), []
        for right in answers:
            ours.answer(right)
            levels.append(ours.level)
        theirs, threshold = test_page.evaluate(
            """answers => {
                const { staircase, answer, threshold } = document.querySelector(".abx").rules;
                const stairs = staircase(), levels = [];
                for (const right of answers) { answer(stairs, right, stairs.level); levels.push(stairs.level); }
                return [levels, threshold(stairs.answers)];
            }""",
            answers,
        )
        assert theirs == levels
        assert threshold == pytest.approx(blind.threshold(ours.answers))


@pytest.mark.browser
def test_the_browser_distorts_as_python_does(test_page):
    photo = (255 * photos()[1]).round()
    cases = {
        "brightness": (9.0, photo + 9),
        "lines": (12.0, add_grid(photo[None] / 255, 4, 12.0)[0] * 255),
        "blur": (1.3, torch.from_numpy(gaussian_filter(photo.numpy(), (0, 1.3, 1.3), mode="mirror", truncate=4))),
    }
    for kind, (strength, expected) in cases.items():
        made = test_page.evaluate(
            """([kind, strength]) => {
                const { distort, photos } = document.querySelector(".abx").rules;
                return [...distort(kind, photos[1], strength)];
            }""",
            [kind, strength],
        )
        made = torch.tensor(made).reshape(64, 64, 3).permute(2, 0, 1)
        assert (made - expected.clamp(0, 255)).abs().max() < 0.51 + (kind == "blur"), kind
    for kind in blind.KINDS:
        for wanted in (25, 35, 45):
            shown = test_page.evaluate(
                """([kind, wanted]) => {
                    const { tuned, photos } = document.querySelector(".abx").rules;
                    const noise = photos[0].map ? Float64Array.from(photos[0], (_, i) => Math.sin(i * i)) : 0;
                    return tuned(kind, photos[0], wanted, noise)[1];
                }""",
                [kind, wanted],
            )
            # brightness moves by whole levels: at 45 dB from one to two
            assert abs(shown - wanted) < (3.1 if kind == "brightness" else 0.6), (kind, wanted)


@pytest.mark.browser
def test_two_of_the_three_are_equal_and_all_fit_a_phone(test_page):
    test_page.click(".abx button")
    for _ in range(8):
        urls = test_page.evaluate("[...document.querySelectorAll('.abx canvas')].map(c => c.toDataURL())")
        odd = int(test_page.get_attribute(".abx", "data-odd")) - 1
        assert urls[odd - 1] == urls[odd - 2] != urls[odd]
        take(test_page, 1, True)
    assert test_page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_who_is_always_right_sees_it_and_keys_work(test_page):
    test_page.click(".abx button")
    test_page.locator(".abx-row button").first.focus()
    test_page.keyboard.press(test_page.get_attribute(".abx", "data-odd"))
    take(test_page, 4 * TRIALS - 1, True)
    assert verdicts(test_page) == ["seen at 30 dB"] * 4
    assert test_page.inner_text(".abx tr:nth-child(2) td") == f"{TRIALS} of {TRIALS}"
    test_page.click(".abx button")
    assert "Question 1 of 64" in test_page.inner_text(".abx-text")


@pytest.mark.browser
def test_stopping_at_once_by_the_keyboard_leaves_it_open(test_page):
    test_page.press(".abx button", "Enter")
    test_page.press(".abx-stop", "Enter")
    assert verdicts(test_page) == ["open"] * 4
    assert test_page.locator("text=none").count() == 4


@pytest.mark.browser
def test_who_is_always_wrong_does_not_see_it(test_page):
    test_page.click(".abx button")
    take(test_page, 4 * TRIALS, False)
    assert verdicts(test_page) == ["not seen at 30 dB"] * 4


@pytest.mark.browser
def test_it_runs_in_the_site(built: Path, browser):
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.goto((built / f"{pages.NAMES[4]}.html").as_uri())
        page.click(".abx button")
        for number in range(1, 4):
            assert page.is_visible(f".abx-row button:nth-child({number}) canvas")
            page.locator(".abx-row button").nth(0).click()
        page.click(".abx-stop")
        assert len(verdicts(page)) == 4
