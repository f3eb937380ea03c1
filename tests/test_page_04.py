"""Page 04: what it defines in view is what the package holds, and its solutions run."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srlib import models
from srlib.images.degrade import upsample
from srlib.measure import grids
from srlib.models import equivalence

PAGE = Path(__file__).parents[1] / "notebooks" / "04_checkerboard_artifacts.ipynb"


@pytest.fixture(scope="module")
def cells() -> list:
    return [cell for cell in nbformat.read(PAGE, as_version=4).cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def defined(cells) -> dict:
    """The functions that the page defines, without running the rest of its cells."""
    space = {"torch": torch, "np": np, "nn": nn, "F": F, "grids": grids, "models": models, "upsample": upsample}
    space |= {"equivalence": equivalence, "EARLY": 0, "SHORT": 0, "PHOTO": None}  # defaults of arguments
    for cell in cells:
        tree = ast.parse(cell.source)
        tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        exec(compile(tree, str(PAGE), "exec"), space)
    return space


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("kernel", range(2, 13))
def test_overlap_is_what_a_transposed_convolution_of_ones_gives(defined, kernel, stride):
    ones = nn.functional.conv_transpose1d(torch.ones(1, 1, 8), torch.ones(1, 1, kernel), stride=stride)[0, 0]
    assert torch.equal(defined["overlap"](kernel, stride).float(), ones)
    assert defined["phase_taps"](kernel, stride) == equivalence.taps_per_phase(kernel, stride)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(9, 4, 3), (12, 4, 4), (3, 2, 1), (5, 3, 0), (16, 4, 6)]
)
def test_sub_kernels_are_the_package_s(defined, kernel, stride, padding):
    line = torch.randn(kernel, dtype=torch.float64)
    rows, d = defined["sub_kernels"](line, stride, padding)
    axis = equivalence.Axis(kernel, stride, padding)
    ours = equivalence.to_subpixel_weight(line[None, None, :, None], axis, equivalence.Axis(1, 1))
    assert torch.equal(ours[:, 0, :, 0], rows)
    assert axis.before == d


def test_tie_is_the_package_s(defined):
    torch.manual_seed(0)
    head = models.TiedConv2d(5, 2, 4, order=0).double()
    nn.init.normal_(head.weight)
    assert torch.allclose(head.kernel()[0], defined["tie"](head.weight, 4), atol=1e-12)


def test_ripple_is_the_package_s(defined):
    torch.manual_seed(0)
    network = models.build("subpixel", "gray-gray").double()
    assert defined["ripple_of"](network) == pytest.approx(grids.ripple(network, 1, 4, margin=10), rel=1e-9)
    assert defined["ripple_of"](defined["Stamped"]()) == pytest.approx(2, abs=1e-9)


def test_the_size_of_a_random_grid_follows_the_formula(defined):
    for kernel, stride in [(3, 2), (9, 4), (12, 4)]:
        drawn = defined["drawn_ripple"](kernel, stride, 0.1, 0.05)
        assert drawn == pytest.approx(defined["expected_ripple"](kernel, stride, 0.1, 0.05), rel=0.05)


def test_solutions_run(cells, defined):
    solutions = [cell.source for cell in cells if "solution" in cell.metadata.get("tags", ())]
    assert len(solutions) == 2
    for source in solutions:
        exec(compile(source, str(PAGE), "exec"), dict(defined))


def test_tied_transposed_kernel_is_the_nearest(defined, cells):
    """No other kernel with equal phase sums is nearer: the change is orthogonal to all that keep the sums."""
    torch.manual_seed(1)
    weight = torch.randn(1, 1, 9, 9, dtype=torch.float64)
    change = defined["tie_transposed"](weight, 4) - weight
    for _ in range(20):
        other = defined["tie_transposed"](torch.randn(1, 1, 9, 9, dtype=torch.float64), 4)
        assert abs(float((change * other).sum())) < 1e-9
