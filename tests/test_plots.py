"""What every figure of the pages relies on: whole-number zoom, captions, alternative text."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from course import plots


@pytest.fixture
def displayed(monkeypatch) -> list[tuple[dict, dict]]:
    """What was displayed: data and metadata."""
    calls: list[tuple[dict, dict]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata=None: calls.append((data, metadata)))
    return calls


def test_gallery_draws_every_pixel_as_a_square_of_equal_pixels(displayed):
    picture = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plots.show(plots.gallery([picture] * 3, ["one", "two", "three"], zoom=3, columns=2), "three pictures")
    ((data, metadata),) = displayed
    shown = Image.open(io.BytesIO(data["image/png"]))
    assert shown.mode == "RGB"
    assert metadata == {"image/png": {"alt": "three pictures"}}
    zoomed = np.kron(picture.permute(1, 2, 0).numpy(), np.ones((3, 3, 1), np.uint8))
    for top, left in ((4, 8), (4, 8 + 90 + 8), (4 + 60 + 23, 8)):
        assert np.array_equal(np.asarray(shown)[top : top + 60, left : left + 90], zoomed)


def test_errors_of_a_figure():
    picture = torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match="alternative text"):
        plots.show(plots.gallery([picture], ["x"]), " ")
    with pytest.raises(ValueError, match="1 pictures need as many captions, got 2"):
        plots.gallery([picture], ["x", "y"])
    with pytest.raises(ValueError, match=r"square of 5 at \(4, 0\)"):
        plots.crop(picture, 4, 0, 5)


def test_as_array_takes_gray_rgb_floats_and_bytes():
    assert plots.as_array(torch.tensor([[-1.0, 0.5, 2.0]])).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert plots.as_array(np.full((3, 1, 1), 7, np.uint8)).tolist() == [[[7, 7, 7]]]


def test_a_wave_has_its_power_at_its_frequency():
    wave = 0.5 + 0.4 * torch.cos(2 * torch.pi * 0.25 * torch.arange(64)).expand(1, 3, 64, 64)
    frequency, power = plots.radial_spectrum(wave, bins=32)
    assert frequency[2:][power[2:].argmax()] == pytest.approx(0.25, abs=0.01)
    assert plots.spectrum_picture(wave[0])[0, 32, [16, 31, 48]].tolist() == pytest.approx([1, 0, 1], abs=0.2)


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
