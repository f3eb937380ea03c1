"""What every figure of the pages relies on: whole-number zoom, captions, alternative text."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from course import plots


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


def test_what_a_figure_refuses():
    picture = torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match="alternative text"):
        plots.show(plots.gallery([picture], ["x"]), " ")
    with pytest.raises(ValueError, match="1 pictures need as many captions, got 2"):
        plots.gallery([picture], ["x", "y"])
    with pytest.raises(ValueError, match=r"square of 5 at \(4, 0\)"):
        plots.crop(picture, 4, 0, 5)


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
