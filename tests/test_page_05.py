"""Page 05: its definitions against srlib and other libraries, its published number, its solutions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from page_code import code_cells
from scipy.stats import spearmanr
from skimage.filters import gaussian

from course import plots
from srlib.measure import metrics

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def cells():
    return {cell.id: cell.source for cell in code_cells("05_psnr_limits")}


@pytest.fixture(scope="module")
def page(cells, tmp_path_factory):
    """The page's names after the cells that need no training, at smoke, with figures thrown away."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SRLIB_BUDGET", "smoke")
    patch.setattr(plots, "show", lambda figure, alt: plots.plt.close(figure))
    names: dict[str, Any] = {}
    exec(cells["parameters"] + f"\nRUNS = {str(tmp_path_factory.mktemp('runs'))!r}", names)
    for name in ("setup", "tool", "sell", "psnr-def", "s1-set", "s1-score", "s2-define"):
        exec(cells[name], names)
    yield names
    patch.undo()


def test_psnr_by_hand_is_srlibs(page):
    output, target = torch.rand(2, 1, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    ours = metrics.psnr(output, target, crop_border=0, channels="as-is", average="images")
    assert float(page["psnr"](output, target)) == pytest.approx(float(ours), abs=1e-9)


def test_blur_and_shift_are_what_they_say(page):
    photo = page["photo"]
    theirs = gaussian(photo[0].numpy(), sigma=2, channel_axis=0, mode="mirror", truncate=24)
    assert np.abs(page["blur"](photo, 2.0)[0].numpy() - theirs).max() < 1e-5
    moved = page["shift"](photo, 3.0)
    assert torch.allclose(moved[..., 3:], photo[..., :-3], atol=1e-5)
    there_and_back = page["shift"](page["shift"](photo, 0.5).clone(), 0.0)
    assert torch.allclose(there_and_back, page["shift"](photo, 0.5), atol=1e-5)


def test_rank_correlation_is_spearmans(cells):
    names: dict[str, Any] = {"np": np}
    exec(cells["s8-matrix"].split("\n\n\n")[0], names)
    votes = np.random.default_rng(0).normal(size=(3, 20))
    matrix = np.corrcoef([names["ranks_of"](row) for row in votes])
    assert np.allclose(matrix, spearmanr(votes, axis=1).statistic)


def test_set5_gives_its_published_number(page):
    benchmarks = SHARED / "benchmarks"
    if not benchmarks.is_dir():
        pytest.skip(f"needs the benchmarks in {benchmarks}")
    found = page["find_set5"](str(SHARED / "celeba"))
    assert len(found) == len(page["find_set5"](str(benchmarks))) == 5
    before = page["pictures"]
    page["pictures"][:] = [x.float() / 255 for x in found]
    try:
        assert page["bicubic_score"]() == pytest.approx(28.42, abs=0.05)
        assert page["bicubic_score"](channels="as-is") == pytest.approx(28.42 - 1.73, abs=0.1)
    finally:
        page["pictures"][:] = before
