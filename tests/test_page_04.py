"""Page 04: what it defines in view is what the package holds, and its solutions run."""

import pytest
import torch
from page_code import code_cells, definitions
from torch import nn

from srlib import models
from srlib.measure import grids
from srlib.models import equivalence

NAME = "04_checkerboard_artifacts"


@pytest.fixture(scope="module")
def page():
    return definitions(NAME, EARLY=0, SHORT=0, PHOTO=None)  # defaults of arguments


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("kernel", range(2, 13))
def test_overlap_is_what_a_transposed_convolution_of_ones_gives(page, kernel, stride):
    ones = nn.functional.conv_transpose1d(torch.ones(1, 1, 8), torch.ones(1, 1, kernel), stride=stride)[0, 0]
    assert torch.equal(page.overlap(kernel, stride).float(), ones)
    assert page.phase_taps(kernel, stride) == equivalence.taps_per_phase(kernel, stride)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(9, 4, 3), (12, 4, 4), (3, 2, 1), (5, 3, 0), (16, 4, 6)]
)
def test_sub_kernels_are_the_package_s(page, kernel, stride, padding):
    line = torch.randn(kernel, dtype=torch.float64)
    rows, d = page.sub_kernels(line, stride, padding)
    axis = equivalence.Axis(kernel, stride, padding)
    ours = equivalence.to_subpixel_weight(line[None, None, :, None], axis, equivalence.Axis(1, 1))
    assert torch.equal(ours[:, 0, :, 0], rows)
    assert axis.before == d


def test_tie_is_the_package_s(page):
    torch.manual_seed(0)
    head = models.TiedConv2d(5, 2, 4, order=0).double()
    nn.init.normal_(head.weight)
    assert torch.allclose(head.kernel()[0], page.tie(head.weight, 4), atol=1e-12)


def test_ripple_is_the_package_s(page):
    torch.manual_seed(0)
    network = models.build("subpixel", "gray-gray").double()
    assert page.ripple_of(network) == pytest.approx(grids.ripple(network, 1, 4, margin=10), rel=1e-9)
    assert page.ripple_of(page.Stamped()) == pytest.approx(2, abs=1e-9)


def test_the_size_of_a_random_grid_follows_the_formula(page):
    for kernel, stride in [(3, 2), (9, 4), (12, 4)]:
        drawn = page.drawn_ripple(kernel, stride, 0.1, 0.05)
        assert drawn == pytest.approx(page.expected_ripple(kernel, stride, 0.1, 0.05), rel=0.05)


def test_solutions_run(page):
    solutions = [cell.source for cell in code_cells(NAME) if "solution" in cell.metadata.get("tags", ())]
    assert len(solutions) == 2
    for source in solutions:
        exec(source, dict(vars(page)))


def test_tied_transposed_kernel_is_the_nearest(page):
    """No other kernel with equal phase sums is nearer: the change is orthogonal to all that keep the sums."""
    torch.manual_seed(1)
    weight = torch.randn(1, 1, 9, 9, dtype=torch.float64)
    change = page.tie_transposed(weight, 4) - weight
    for _ in range(20):
        other = page.tie_transposed(torch.randn(1, 1, 9, 9, dtype=torch.float64), 4)
        assert abs(float((change * other).sum())) < 1e-9
