"""Figures that move, in Chromium: they follow the hand, and without scripts a line of text is left."""

import io

import numpy as np
import pytest
import torch
from conftest import phone
from PIL import Image

from course import visibility, widgets

COLORS = [f"rgb({16 * k},{255 - 16 * k},128)" for k in range(16)]


def move(page, value):
    """Set the slider as a hand would, and read what stands below it."""
    page.eval_on_selector("input", f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }}")
    return page.inner_text("p")


def drawn(page, what="canvas"):
    return np.asarray(Image.open(io.BytesIO(page.locator(what).screenshot())).convert("RGB")).astype(int)


@pytest.mark.browser
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


@pytest.mark.browser
def test_crossfade_shows_one_frame_at_each_stop_and_a_blend_between(browser):
    frames = [{"name": n, "pictures": [widgets.picture_url(torch.full((1, 4, 4), v))]} for n, v in
              (("black", 0.0), ("white", 1.0), ("gray", 0.5))]  # fmt: skip
    given = {"label": "picture", "columns": ["one"], "sizes": [40], "frames": frames}
    with phone(browser, widgets.html("crossfade", given)) as page:
        for value, text, level in ((0, "black", 0), (1, "white", 255), (2, "gray", 128), (0.5, "50 % black", 128)):
            assert move(page, value).startswith(text)
            assert abs(drawn(page, "div[style*=relative]")[20, 20] - level).max() <= 2
    with phone(browser, widgets.html("crossfade", given | {"step": 1})) as page:
        assert [move(page, value) for value in (1, 0.4)] == ["white", "black"], "by whole steps it never blends"


@pytest.mark.browser
def test_interleave_ends_as_pixel_shuffle_does(browser):
    with phone(browser, widgets.html("interleave", {"scale": 4, "side": 3, "colors": COLORS})) as page:
        assert move(page, 0) == "16 channels of 3 x 3"
        assert move(page, 1) == "one channel of 12 x 12"
        middles = 3 * 14 // 2 + 16 * np.arange(12) + 2
        channel = np.arange(12)[:, None] % 4 * 4 + np.arange(12) % 4
        wanted = np.stack([16 * channel, 255 - 16 * channel, 0 * channel + 128], axis=-1)
        assert np.abs(drawn(page)[np.ix_(middles, middles)] - wanted).max() < 8


@pytest.mark.browser
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


@pytest.mark.browser
def test_without_scripts_a_line_is_left(browser):
    with phone(browser, widgets.html("crossfade", {"frames": []}), java_script_enabled=False) as page:
        assert page.inner_text("body") == widgets.WITHOUT


@pytest.mark.browser
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
