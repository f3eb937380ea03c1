"""What every figure of the pages relies on: whole-number zoom, captions, alternative text."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from course import plots


def displayed(monkeypatch: pytest.MonkeyPatch, figure, alt: str) -> tuple[Image.Image, dict]:
    """The picture that ``plots.show`` displays, and its metadata."""
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda data, metadata, raw: calls.append((data, metadata)))
    plots.show(figure, alt)
    data, metadata = calls[0]
    return Image.open(io.BytesIO(data["image/png"])), metadata["image/png"]


def test_gallery_draws_every_pixel_as_a_square_of_equal_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    figure = plots.gallery([picture, picture], ["one", "two"], zoom=3)
    shown, metadata = displayed(monkeypatch, figure, "two pictures")
    assert shown.mode == "RGB"
    assert metadata == {"alt": "two pictures"}
    zoomed = np.kron(picture.permute(1, 2, 0).numpy(), np.ones((3, 3, 1), np.uint8))
    for left in (8, 8 + 90 + 8):
        assert np.array_equal(np.asarray(shown)[4 : 4 + 60, left : left + 90], zoomed)


def test_errors_of_a_figure() -> None:
    picture = torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match="alternative text"):
        plots.show(plots.gallery([picture], ["x"]), " ")
    with pytest.raises(ValueError, match="1 pictures need as many captions, got 2"):
        plots.gallery([picture], ["x", "y"])
    with pytest.raises(ValueError, match=r"square of 5 at \(4, 0\)"):
        plots.crop(picture, 4, 0, 5)


def test_as_array_takes_gray_rgb_floats_and_bytes() -> None:
    assert plots.as_array(torch.tensor([[-1.0, 0.5, 2.0]])).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert plots.as_array(np.full((3, 1, 1), 7, np.uint8)).tolist() == [[[7, 7, 7]]]


def test_table_shows_every_cell_once_as_html_and_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    plots.table([{"name": "a < b", "dB": "1.50"}, {"name": "c", "dB": "12.25"}], "two rows")
    html, text = shown[0]["text/html"], shown[0]["text/plain"]
    assert html.count("<tr>") == 3
    assert "<caption>two rows</caption>" in html
    assert "a &lt; b" in html
    assert text.splitlines() == ["name   dB", "a < b  1.50", "c      12.25"]
    with pytest.raises(ValueError, match="exactly the columns name, dB"):
        plots.table([{"name": "a", "dB": "1"}, {"name": "b"}])
