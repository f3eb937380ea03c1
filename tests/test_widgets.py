"""Figures that move, in Chromium: they follow the hand, and without scripts a line of text is left."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import phone
from PIL import Image
from playwright.sync_api import Page

from course import notebooks as pages
from course import widgets
from srlib.files import ROOT

COLORS = [f"rgb({16 * k},{255 - 16 * k},128)" for k in range(16)]


def html_of(name: str, **data) -> str:
    return widgets.html(name, data)


@contextmanager
def opened(browser, html: str, **options) -> Iterator[Page]:
    """A page with this output, on a phone."""
    with phone(browser, **options) as page:
        page.set_content(html)
        yield page


def move(page: Page, value: float) -> str:
    """Set the slider as a hand would, and read what stands below it."""
    page.eval_on_selector("input", f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }}")
    return page.inner_text("p")


def drawn(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator("canvas").screenshot())).convert("RGB"))


@pytest.mark.browser
def test_sampling_folds_past_half_a_period_per_sample(browser):
    with opened(browser, html_of("sampling", highest=2.5, start=0.2)) as page:
        for true, folded in ((0.0, 0.0), (0.3, 0.3), (0.5, 0.5), (0.8, 0.2), (1.0, 0.0), (1.3, 0.3), (2.4, 0.4)):
            text = move(page, true)
            assert f"{true:.2f} periods per sample; drawn through the samples (blue): {folded:.2f}" in text
            assert ("the wave itself" in text) == (true <= 0.5)
        move(page, 0.3)
        before = drawn(page)
        move(page, 1.3)
        blue = [(picture[..., 2] > 150) & (picture[..., 0] < 30) for picture in (before, drawn(page))]
        assert blue[0].sum() > 300
        assert (blue[0] & blue[1]).sum() > 0.6 * blue[0].sum(), "the same wave is drawn through the same samples"
        assert page.get_attribute("input", "data-lm-suppress-shortcuts") == "", "or JupyterLab takes its keys"
        page.focus("input")
        page.keyboard.press("ArrowRight")
        assert "1.31 periods" in page.inner_text("p")


@pytest.mark.browser
def test_crossfade_shows_one_frame_at_each_stop_and_a_blend_between(browser):
    frames = [{"name": n, "pictures": [widgets.picture_url(torch.full((1, 4, 4), v))]} for n, v in
              (("black", 0.0), ("white", 1.0), ("gray", 0.5))]  # fmt: skip
    given = {"label": "picture", "columns": ["one"], "sizes": [40], "frames": frames}
    with opened(browser, html_of("crossfade", **given)) as page:
        for value, text, level in ((0, "black", 0), (1, "white", 255), (2, "gray", 128), (0.5, "50 % black", 128)):
            assert move(page, value).startswith(text)
            shot = Image.open(io.BytesIO(page.locator("div[style*=relative]").screenshot())).convert("L")
            assert abs(int(np.asarray(shot)[20, 20]) - level) <= 2
    with opened(browser, html_of("crossfade", **given, step=1)) as page:
        assert [move(page, value) for value in (1, 0.4)] == ["white", "black"], "by whole steps it never blends"


@pytest.mark.browser
def test_interleave_ends_as_pixel_shuffle_does(browser):
    with opened(browser, html_of("interleave", scale=4, side=3, colors=COLORS)) as page:
        assert move(page, 0) == "16 channels of 3 x 3"
        assert move(page, 1) == "one channel of 12 x 12"
        cell = 16
        margin = 3 * 14 / 2
        picture, wanted = drawn(page), np.array([[16 * k, 255 - 16 * k, 128] for k in range(16)])
        for row in range(12):
            for column in range(12):
                at = picture[int(margin + row * cell + 2), int(margin + column * cell + 2)]
                assert np.abs(at - wanted[row % 4 * 4 + column % 4]).max() < 8


@pytest.mark.browser
def test_phases_says_which_taps_keep_rows_and_slopes_even(browser):
    first = [0.1, 0.8, 0.1]
    html = html_of("phases", taps=[first, [0.2, 0.6, 0.3]], flat=100, slope=20, colors=COLORS[:2])
    with opened(browser, html) as page:
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
@pytest.mark.parametrize("name", ["sampling", "crossfade", "interleave", "phases"])
def test_without_scripts_a_line_is_left(name, browser):
    with opened(browser, html_of(name, frames=[]), java_script_enabled=False) as page:
        assert page.inner_text("body") == widgets.WITHOUT


@pytest.mark.parametrize("name", pages.NAMES)
def test_on_a_page_each_is_shown_once_and_after_a_figure(name):
    """Among the three outputs before it there is a picture, which stands in for it."""
    cells = pages.read(ROOT / "notebooks" / f"{name}.ipynb").cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    moving = [i for i, o in enumerate(outputs) if '<div id="moving-' in o.get("data", {}).get("text/html", "")]
    for i in moving:
        assert any("image/png" in output.get("data", {}) for output in outputs[max(i - 3, 0) : i])
    ids = [re.search(r'moving-(\w+)"', outputs[i].data["text/html"])[1] for i in moving]
    assert len(ids) == len(set(ids))
