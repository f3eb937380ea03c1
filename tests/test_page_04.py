"""Page 04: definitions that its own cells do not compare, the eye, its test in a browser."""

import numpy as np
import pytest
import torch
from page_code import definitions
from test_widgets import opened
from torch import nn

from course import visibility, widgets
from srlib import models


@pytest.fixture(scope="module")
def page():
    return definitions("04_checkerboard_artifacts", PHOTO=None)  # a default of an argument


def test_the_row_of_pixels_is_a_convolution_and_a_pixel_shuffle(page):
    kernels, row = np.random.default_rng(0).normal(size=(2, 3)), np.arange(9.0) ** 2
    phases = nn.functional.conv1d(torch.tensor(row)[None, None], torch.tensor(kernels)[:, None])[0]
    assert np.allclose(page.enlarge_row(kernels, row), phases.T.flatten())


def test_the_projection_of_the_row_is_that_of_the_package(page):
    """A kernel whose columns are alike is projected by the package as its rows are by the page's."""
    ours = page.project(np.random.default_rng(1).normal(size=(4, 3)), 0)
    plane = np.einsum("aj,b,l->abjl", ours, np.ones(4), np.eye(3)[1]).ravel()
    assert np.allclose(models.tying(4, 3, 0).numpy() @ plane, plane)


def test_tied_transposed_kernel_is_the_nearest(page):
    """No other kernel with equal phase sums is nearer: the change is orthogonal to all that keep the sums."""
    torch.manual_seed(1)
    tie = page.EvenSums(4)
    weight, *others = torch.randn(21, 1, 1, 9, 9, dtype=torch.float64)
    for other in others:
        assert abs(float(((tie(weight) - weight) * tie(other)).sum())) < 1e-9


# ---------------------------------------------------------------- the eye


def barten_1999(u: float, luminance: float, field: float, pupil: float | None = None) -> float:
    """Barten's full model of 1999, of which the formula of 2003 is an approximation."""
    pupil = pupil or 5 - 3 * np.tanh(0.4 * np.log10(luminance * field**2 / 1600))
    troland = np.pi * pupil**2 / 4 * luminance * (1 - (pupil / 9.7) ** 2 + (pupil / 12.4) ** 4)
    blur = np.exp(-2 * np.pi**2 * np.hypot(0.5 / 60, 0.08 / 60 * pupil) ** 2 * u**2)
    area = 1 / (1 / field**2 + 1 / 12**2 + u**2 / 15**2)
    noise = 1 / (0.03 * 1.2274e6 * troland) + 3e-8 / (1 - np.exp(-((u / 7) ** 2)))
    return blur / 3 / np.sqrt(2 / 0.1 / area * noise)


def test_barten_against_the_full_model_and_a_printed_value():
    # printed in colour-science 0.4.7 for contrast_sensitivity_function_Barten1999(4): 20 cd/m^2, a pupil of 2.1 mm
    assert barten_1999(4, 20, 60, 2.1) == pytest.approx(360.8691122, abs=1e-6)
    for luminance in (20, 43, 100):
        for u in (3, 5, 9.5, 13.4, 19, 27):
            assert visibility.barten(u, luminance, 10) == pytest.approx(barten_1999(u, luminance, 10), rel=0.16)


def test_castle_is_read_between_its_entries_and_for_one_luminance():
    assert visibility.castle(9.81) == pytest.approx(111.4)
    assert 78.7 < visibility.castle(11) < 111.4
    with pytest.raises(ValueError, match="43"):
        visibility.castle(9.81, 100)


@pytest.mark.parametrize("model", visibility.MODELS)
def test_thresholds_scale(model):
    near = visibility.Screen()
    assert visibility.Screen(75.6, zoom=2).threshold(model) == pytest.approx(near.threshold(model))
    pattern = np.random.default_rng(0).normal(size=(4, 4))
    once = near.times_threshold(pattern, model)
    assert near.times_threshold(3 * pattern + 5, model) == pytest.approx(3 * once)
    assert near.times_threshold(pattern.T[::-1], model) == pytest.approx(once)
    # 0.5 cycles per pixel both ways, an amplitude of half a level
    checker = np.indices((4, 4)).sum(axis=0) % 2 - 0.5
    waves = np.hypot(0.5, 0.5) * 37.8
    wanted = 0.5 * near.contrast(128) * visibility.MODELS[model](waves, near.luminance(128))
    assert near.times_threshold(checker, model) == pytest.approx(wanted)


def test_rungs_go_up_and_are_whole_levels():
    sizes = [visibility.size(pattern) for pattern in visibility.RUNGS.values()]
    assert sizes == sorted(sizes)
    assert all(type(value) is int for pattern in visibility.RUNGS.values() for row in pattern for value in row)


SQUARES = """() => [0, 1].map(side => {
  const pen = document.querySelector("#moving-staircase canvas").getContext("2d");
  const gray = pen.getImageData(side * 200, 0, 176, 176).data.filter((_, i) => i % 4 == 0);
  const mean = gray.reduce((a, b) => a + b) / gray.length;
  return [mean, Math.sqrt(gray.reduce((a, b) => a + (b - mean) ** 2, 0) / gray.length)];
})"""


@pytest.mark.browser
@pytest.mark.parametrize(("limit", "low", "high"), [(0.9, 0.4, 1.5), (0.0, 0, 0.25)])
def test_the_staircase_finds_what_a_simulated_reader_sees(browser, monkeypatch, limit, low, high):
    """One who sees a grid of a level and guesses below it; and one who sees all of them."""
    shown: list[dict] = []
    monkeypatch.setattr(widgets.display, "display", lambda data, **_: shown.append(data))
    visibility.staircase()
    guesses = np.random.default_rng(0)
    with opened(browser, shown[0]["text/html"]) as tab:
        left, right, _ = tab.query_selector_all("button")
        assert "No answer, no verdict" in tab.inner_text("p")
        while left.is_enabled():
            (mean_left, grid_left), (mean_right, grid_right) = tab.evaluate(SQUARES)
            assert min(grid_left, grid_right) == 0 < max(grid_left, grid_right)
            assert max(abs(mean_left - 128), abs(mean_right - 128)) <= 4
            sees = max(grid_left, grid_right) > limit
            (left if (grid_left > grid_right if sees else guesses.random() < 0.5) else right).click()
        said = tab.inner_text("p")
    assert "Your threshold here" in said
    assert low <= float(said.split()[-2]) <= high, said
