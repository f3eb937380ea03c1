"""Page 05's test: its rules with simulated readers, and the same rules and pictures in a browser."""

import re

import numpy as np
import pytest
import torch
from conftest import phone
from photo_files import as_tensor
from scipy.ndimage import gaussian_filter

from course import blind, pages
from srlib.data.sample import PHOTOS
from srlib.measure.grids import add_grid

TRIALS = blind.RULES["trials"]


def photos():
    """Three squares of 64 pixels."""
    return [as_tensor(np.array(photo.read())[60:124, 60:124])[0] for photo in PHOTOS[:3]]


def test_verdicts_are_open_without_answers_and_rarely_wrong():
    """That intervals hold a simulated reader's threshold, page 05 asserts itself."""
    random, fewest, lapse = np.random.default_rng(1), blind.RULES["fewest"], blind.RULES["lapse"]
    assert blind.chance([200, -200, 30], 30, 1) == pytest.approx([1 / 3, 1 - lapse, (4 / 3 - lapse) / 2])
    blinds = [blind.threshold(blind.simulate(-100, 1, random).answers)[1:] for _ in range(200)]
    assert [blind.verdict(*ends, TRIALS) for ends in blinds].count("seen at 30 dB") <= 10
    for low, high, answers, verdict in (
        (*blind.threshold(blind.simulate(200, 1, random).answers)[1:], TRIALS, "seen at 30 dB"),
        (40, 50, fewest - 1, "open"), (40, 50, fewest, "seen at 30 dB"),
        (20, 29, TRIALS, "not seen at 30 dB"), (20, 30, TRIALS, "open"),
    ):  # fmt: skip
        assert blind.verdict(low, high, answers) == verdict


def test_the_sheet_shows_two_equal_ones_and_its_key_names_the_third():
    kinds = {"blur": lambda x, dB: x * dB / 60, "noise": lambda x, dB: 1 - x}
    figure, key = blind.sheet(photos(), kinds, (30, 40), seed=0)
    odd = re.findall(r"(\d): (\d) \((\w+), (\d+) dB\)", key)
    assert [number for number, *_ in odd] == ["1", "2", "3", "4"]
    assert {row[2:] for row in odd} == {("blur", "30"), ("blur", "40"), ("noise", "30"), ("noise", "40")}
    assert len({place for _, place, *_ in odd}) > 1
    for image, (_, place, *_) in zip(figure.images, odd, strict=True):
        thirds = [np.asarray(image.get_array())[:, start : start + 128] for start in (0, 136, 272)]
        equal = [i for i in range(3) if not np.array_equal(thirds[i - 1], thirds[i - 2])]
        assert len(equal) == 2
        assert int(place) - 1 not in equal


@pytest.fixture
def asked(browser):
    with phone(browser, blind.embed(photos(), seed=1, open=True)) as page:
        yield page


def take(page, number, right):
    """Answer that many questions, all right or all wrong."""
    for _ in range(number):
        odd = int(page.get_attribute(".abx", "data-odd"))
        page.locator(".abx-row button").nth(odd - 1 if right else odd % 3).click()


def verdicts(page):
    return page.locator(".abx tr td:last-child").all_inner_texts()


@pytest.mark.browser
def test_the_browser_has_the_same_rules_and_distorts_as_python_does(asked):
    random, photo = np.random.default_rng(3), (255 * photos()[1]).round()
    rules = "const rules = document.querySelector('.abx').rules"
    for _ in range(5):
        ours = blind.simulate(30, 4, random).answers
        script = "const s = rules.staircase(); for (const [_, right] of ours) rules.answer(s, right, s.level);"
        script = f"ours => {{ {rules}; {script} return [s.answers, rules.threshold(s.answers)]; }}"
        theirs, threshold = asked.evaluate(script, ours)
        assert [(level, right) for level, right in theirs] == ours
        assert threshold == pytest.approx(blind.threshold(ours))
    blurred = gaussian_filter(photo.numpy(), (0, 1.3, 1.3), mode="mirror", truncate=4)
    lined = add_grid(photo[None] / 255, 4, 12.0)[0] * 255
    for kind, strength, expected in (("brightness", 9, photo + 9), ("lines", 12, lined), ("blur", 1.3, blurred)):
        script = f"() => {{ {rules}; return [...rules.distort('{kind}', rules.photos[1], {strength})]; }}"
        made = torch.tensor(asked.evaluate(script)).reshape(64, 64, 3).permute(2, 0, 1)
        expected = torch.as_tensor(expected).clamp(0, 255)
        assert (made - expected).abs().max() < 0.51 + (kind == "blur"), kind
    for kind in blind.KINDS:
        noise = "const photo = rules.photos[0], noise = Float64Array.from(photo, (_, i) => Math.sin(i * i))"
        tuned = f"[25, 35, 45].map(wanted => rules.tuned('{kind}', photo, wanted, noise)[1])"
        # brightness moves by whole levels: at 45 dB from one to two
        near = pytest.approx([25, 35, 45], abs=3.1 if kind == "brightness" else 0.6)
        assert asked.evaluate(f"() => {{ {rules}; {noise}; return {tuned}; }}") == near, kind


@pytest.mark.browser
def test_the_browser_asks_and_judges_by_mouse_and_by_keys(asked):
    asked.click(".abx button")
    for question in range(8):
        urls = asked.evaluate("[...document.querySelectorAll('.abx canvas')].map(c => c.toDataURL())")
        odd = int(asked.get_attribute(".abx", "data-odd"))
        assert urls[odd - 2] == urls[odd - 3] != urls[odd - 1], "two of the three are equal"
        if question:
            take(asked, 1, True)
        else:
            asked.locator(".abx-row button").first.focus()
            asked.keyboard.press(str(odd))
    take(asked, 4 * TRIALS - 8, True)
    assert verdicts(asked) == ["seen at 30 dB"] * 4
    assert asked.inner_text(".abx tr:nth-child(2) td") == f"{TRIALS} of {TRIALS}"
    asked.click(".abx button")
    assert "Question 1 of 64" in asked.inner_text(".abx-text")
    take(asked, 4 * TRIALS, False)
    assert verdicts(asked) == ["not seen at 30 dB"] * 4
    asked.press(".abx button", "Enter")
    asked.press(".abx-stop", "Enter")
    assert verdicts(asked) == ["open"] * 4, "stopped at once"
    assert asked.locator("text=none").count() == 4


@pytest.mark.browser
def test_it_runs_in_the_site(built, browser):
    with phone(browser, built / f"{pages.NAMES[4]}.html") as page:
        page.click(".abx button")
        page.locator(".abx-row button").nth(0).click()
        assert page.locator(".abx-row canvas:visible").count() == 3
        page.click(".abx-stop")
        assert len(verdicts(page)) == 4
