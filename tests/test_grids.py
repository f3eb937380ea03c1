"""The meters, calibrated: they give back what was put in and stay quiet about what is no grid."""

import pytest
import torch
from torch import nn

from srlib.images.color import to_gray
from srlib.data import open_store
from srlib.images.degrade import degrade, upsample
from srlib.measure.grids import (
    add_grid,
    grid_frequencies,
    grid_levels,
    line_excess,
    phase_error,
    phase_pattern,
    phases,
    power_spectrum,
    ripple,
)
from srlib.models import HEADS, Interpolation, TiedConv2d, tying, upscaler


@pytest.fixture(scope="module")
def photos():
    """The sample's validation and test tiles, gray, float64."""
    store = open_store("sample")
    tiles = torch.cat([store.tensor("val"), store.tensor("test")])
    return to_gray(tiles.double() / 255)


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


class Gridded(nn.Module):
    """Nearest upsampling with a grid of a known size on top."""

    def __init__(self, levels: float) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return add_grid(upsample(lr, 4, "nearest"), 4, self.levels, seed=3)


def test_phases_are_positions_modulo_the_period():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    parts = phases(x, 4)
    assert parts.shape == (1, 1, 16, 2, 2)
    assert torch.equal(parts[0, 0, 1 * 4 + 2], x[0, 0, 1::4, 2::4])
    with pytest.raises(ValueError, match="does not divide"):
        phases(x, 3)


def test_phase_pattern_has_mean_zero_and_gives_the_grid_back():
    flat = torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64)
    pattern = phase_pattern(add_grid(flat, 4, 2.0), 4)
    assert float(pattern.mean()) == pytest.approx(0, abs=1e-12)
    assert 255 * rms(pattern) == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize("levels", [0.0, 0.5, 2.0, 8.0])
def test_ripple_gives_the_size_back(levels):
    assert ripple(Gridded(levels).double(), 1, 4) == pytest.approx(levels, abs=1e-4)


def test_ripple_of_interpolations_is_zero_and_margins_are_checked():
    assert ripple(Interpolation("bicubic").double(), 1, 4) < 1e-4
    assert ripple(Gridded(2.0), 1, 4, margin=0) == pytest.approx(2, abs=1e-3)
    with pytest.raises(ValueError, match="margin"):
        ripple(Interpolation(), 1, 4, size=8, margin=4)


@pytest.mark.parametrize("levels", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_grid_on_photos_gives_its_size_back(photos, levels, seed):
    measured = rms(grid_levels(add_grid(photos, 4, levels, seed), 4))
    assert measured == pytest.approx(levels, abs=0.2)


def test_photos_noise_and_blur_stay_quiet(photos):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(photos.shape, generator=generator, dtype=torch.float64) * 8 / 255
    kernel = torch.ones(1, 1, 5, 5, dtype=torch.float64) / 25
    small = degrade(photos, "bicubic", 4, round_lr=True)
    for picture in (photos, photos + noise, noise, nn.functional.conv2d(photos, kernel)[..., 2:-2, 2:-2]):
        assert float(line_excess(picture, 4).mean()) < 1
    assert float(line_excess(photos, 4).mean()) == pytest.approx(-0.9, abs=0.6)
    for smooth in ("bilinear", "bicubic"):
        assert float(line_excess(upsample(small, 4, smooth), 4).mean()) < -10
    assert rms(grid_levels(photos, 4)) < 0.25


def test_excess_rises_with_the_grid(photos):
    excess = [float(line_excess(add_grid(photos, 4, size), 4).mean()) for size in (0, 0.5, 1, 2, 4)]
    assert excess == sorted(excess)
    assert excess[2] > 6
    assert excess[4] - excess[3] == pytest.approx(6, abs=1)  # twice the amplitude is 6.02 dB


def test_a_longer_period_is_told_apart_by_the_harmonics_of_its_own(photos):
    four, eight = add_grid(photos, 4, 2.0), add_grid(photos, 8, 2.0)
    assert float(line_excess(four, 8, without=4).mean()) < 1
    assert float(line_excess(eight, 8, without=4).mean()) > 6


def test_harmonics_and_errors():
    assert len(grid_frequencies(4)) == 15
    with pytest.raises(ValueError, match="multiples of 4"):
        line_excess(torch.zeros(1, 1, 42, 44), 4)
    with pytest.raises(ValueError, match="at least 32"):
        line_excess(torch.zeros(1, 1, 28, 28), 4)


def test_power_spectrum_keeps_the_power_of_noise():
    noise = torch.randn(4, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    assert float(power_spectrum(noise).mean()) == pytest.approx(1.0, rel=0.05)


def test_phase_error_is_the_psnr_of_each_phase():
    target = torch.full((1, 1, 16, 16), 0.5)
    output = target.clone()
    output[..., 1::4, 2::4] += 0.1
    error = phase_error(output, target, 4)
    assert float(error[1, 2]) == pytest.approx(20, abs=1e-4)
    assert torch.isinf(error).sum() == 15


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("skip", [None, "bicubic"])
@pytest.mark.parametrize("head", HEADS)
def test_which_heads_keep_a_constant_for_any_weights(head, skip):
    """Random weights stand for any training: what is zero here is zero by algebra."""
    torch.manual_seed(0)
    model = upscaler(1, 1, width=8, depth=1, head=head, skip=skip).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    permanent = head in ("subpixel-tied", "subpixel-ramp", "subpixel-icnr-box", "nearest-conv", "bilinear-conv")
    assert (ripple(model, 1, 4) < 1e-10) == permanent


@pytest.mark.parametrize("order", [0, 1])
def test_tied_convolution_folds_and_projects(order):
    torch.manual_seed(0)
    tied = TiedConv2d(3, 2, 4, order=order).double()
    nn.init.normal_(tied.weight)
    nn.init.normal_(tied.bias)
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    plain = tied.folded()
    assert (plain(x) - tied(x)).abs().max() < 1e-12
    again = TiedConv2d(3, 2, 4, order=order).double()
    again.load_state_dict(plain.state_dict())
    assert (again.folded().weight - plain.weight).abs().max() < 1e-12  # a projection: twice is once
    assert sum(p.numel() for p in tied.parameters()) == sum(p.numel() for p in plain.parameters())
    sums = plain.weight.unflatten(0, (2, 16)).sum(dim=(3, 4))
    assert (sums - sums[:, :1]).abs().max() < 1e-12


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_order_1_keeps_ramps_and_order_0_does_not(scale, kernel):
    ramp = (torch.arange(12.0)[:, None] - 2 * torch.arange(12.0)[None, :])[None, None].double()
    for order in (0, 1):
        torch.manual_seed(0)
        head = TiedConv2d(1, 1, scale, kernel, order).double()
        nn.init.normal_(head.weight)
        out = nn.functional.pixel_shuffle(head(ramp).detach(), scale)[
            ..., 3 * scale : -3 * scale, 3 * scale : -3 * scale
        ]
        steps = out.diff(dim=2), out.diff(dim=3)
        even = all(float(s.max() - s.min()) < 1e-10 for s in steps)
        assert even == (order == 1)


def test_tying_leaves_as_many_numbers_as_it_says():
    assert [round(float(tying(4, 3, order).trace())) for order in (0, 1)] == [129, 99]
    with pytest.raises(ValueError, match="order must be"):
        tying(4, 3, 2)
