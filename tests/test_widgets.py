"""Figures that move, and page 05's test: in Chromium they follow the hand, and the rules that Python has."""

import io
import re

import numpy as np
import pytest
import torch
from conftest import phone
from photo_files import as_tensor
from PIL import Image
from scipy.ndimage import gaussian_filter

from course import blind, pages, visibility, widgets
from srlib.data.sample import PHOTOS
from srlib.measure.grids import add_grid

TRIALS = blind.RULES["trials"]
COLORS = [f"rgb({16 * k},{255 - 16 * k},128)" for k in range(16)]


def move(page, value):
    """Set the slider as a hand would, and read what stands below it."""
    page.eval_on_selector("input", f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }}")
    return page.inner_text("p")


def drawn(page, what="canvas"):
    return np.asarray(Image.open(io.BytesIO(page.locator(what).screenshot())).convert("RGB")).astype(int)


def test_sampling_folds_past_half_a_period_per_sample(browser):
    with phone(browser, widgets.html("sampling", {"highest": 2.5, "start": 0.2})) as page:
        for true, folded in ((0.0, 0.0), (0.3, 0.3), (0.5, 0.5), (0.8, 0.2), (1.0, 0.0), (1.3, 0.3), (2.4, 0.4)):
            text = move(page, true)
            assert f"{true:.2f} periods per sample; drawn through the samples (blue): {folded:.2f}" in text
            assert ("the wave itself" in text) == (true <= 0.5)
        pictures = [drawn(page) for value in (0.3, 1.3) if move(page, value)]
        one, two = ((picture[..., 2] > 150) & (picture[..., 0] < 30) for picture in pictures)  # blue
        assert (one & two).sum() > 0.6 * one.sum() > 180, "the same wave is drawn through the same samples"
        assert page.get_attribute("input", "data-lm-suppress-shortcuts") == "", "or JupyterLab takes its keys"
        page.focus("input")
        page.keyboard.press("ArrowRight")
        assert "1.31 periods" in page.inner_text("p")


def test_crossfade_blends_between_its_stops_and_leaves_a_line_without_scripts(browser):
    frames = [{"name": n, "pictures": [widgets.picture_url(torch.full((1, 4, 4), v))]} for n, v in
              (("black", 0.0), ("white", 1.0), ("gray", 0.5))]  # fmt: skip
    given = {"label": "picture", "columns": ["one"], "sizes": [40], "frames": frames}
    with phone(browser, widgets.html("crossfade", given)) as page:
        for value, text, level in ((0, "black", 0), (1, "white", 255), (2, "gray", 128), (0.5, "50 % black", 128)):
            assert move(page, value).startswith(text)
            assert abs(drawn(page, "div[style*=relative]")[20, 20] - level).max() <= 2
    with phone(browser, widgets.html("crossfade", given | {"step": 1})) as page:
        assert [move(page, value) for value in (1, 0.4)] == ["white", "black"], "by whole steps it never blends"
    with phone(browser, widgets.html("crossfade", given), java_script_enabled=False) as page:
        assert page.inner_text("body") == widgets.WITHOUT


def test_interleave_ends_as_pixel_shuffle_does(browser):
    with phone(browser, widgets.html("interleave", {"scale": 4, "side": 3, "colors": COLORS})) as page:
        assert move(page, 0) == "16 channels of 3 x 3"
        assert move(page, 1) == "one channel of 12 x 12"
        middles = 3 * 14 // 2 + 16 * np.arange(12) + 2
        channel = np.arange(12)[:, None] % 4 * 4 + np.arange(12) % 4
        wanted = np.stack([16 * channel, 255 - 16 * channel, 0 * channel + 128], axis=-1)
        assert np.abs(drawn(page)[np.ix_(middles, middles)] - wanted).max() < 8


def test_phases_says_which_taps_keep_rows_and_slopes_even(browser):
    first = [0.1, 0.8, 0.1]
    html = widgets.html("phases", {"taps": [first, [0.2, 0.6, 0.3]], "flat": 100, "slope": 20, "colors": COLORS})
    with phone(browser, html) as page:
        for second in ([0.2, 0.6, 0.3], [0.2, 0.6, 0.2], [0, 0.5, 0.5], [-0.1, 0.7, 0.4], first):
            for slider, tap in zip(page.locator("input").all(), second):
                slider.evaluate("(e, tap) => { e.value = tap; e.dispatchEvent(new Event('input')); }", tap)
            row = np.stack([np.convolve(np.arange(6.0), np.array(t)[::-1], "valid") for t in (first, second)], 1)
            even = np.isclose(sum(second), 1), np.ptp(np.diff(row.ravel())) < 1e-9
            says = page.locator("p").last.inner_text()
            assert says.startswith(f"Sums 1.0 and {sum(second):.1f}:")
            assert ("stays even" in says, "in even steps" in says) == even
        assert (drawn(page)[..., 1] < 128).any()


@pytest.mark.parametrize(("limit", "low", "high"), [(0.9, 0.4, 1.5), (0.0, 0, 0.25)])
def test_the_staircase_finds_what_a_simulated_reader_sees(browser, displayed, limit, low, high):
    """One who sees a grid of a level and guesses below it; and one who sees all of them."""
    visibility.staircase()
    guesses = np.random.default_rng(0)
    with phone(browser, displayed[0][0]["text/html"]) as tab:
        left, right, _ = tab.query_selector_all("button")
        assert "No answer, no verdict" in tab.inner_text("p")
        while left.is_enabled():
            squares = np.split(drawn(tab)[..., 0], (176, 200), axis=1)[::2]
            assert all(abs(square.mean() - 128) <= 4 for square in squares)
            one, two = (square.std() for square in squares)
            assert min(one, two) == 0 < max(one, two)
            sees = max(one, two) > limit
            (left if (one > two if sees else guesses.random() < 0.5) else right).click()
        *_, said, _ = tab.inner_text("p").split()
    assert low <= float(said) <= high


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


def test_it_runs_in_the_site(built, browser):
    with phone(browser, built / f"{pages.NAMES[4]}.html") as page:
        page.click(".abx button")
        page.locator(".abx-row button").nth(0).click()
        assert page.locator(".abx-row canvas:visible").count() == 3
        page.click(".abx-stop")
        assert len(verdicts(page)) == 4
