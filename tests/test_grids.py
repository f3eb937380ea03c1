"""The meters, calibrated: they give back what was put in and stay quiet about what is no grid."""

import pytest
import torch
from torch import nn

from srlib.images.color import to_gray
from srlib.images.degrade import degrade, upsample
from srlib.measure import grids
from srlib.measure.grids import add_grid, line_excess
from srlib.models import Interpolation


def rms(values):
    return float(values.square().mean().sqrt())


def test_phases_and_their_error():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert torch.equal(grids.phases(x, 4)[0, 0, 1 * 4 + 2], x[0, 0, 1::4, 2::4])
    flat = torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64)
    pattern = grids.phase_pattern(add_grid(flat, 4, 2.0), 4)
    assert float(pattern.mean()) == pytest.approx(0, abs=1e-12)
    assert 255 * rms(pattern) == pytest.approx(2, abs=1e-9)
    output = flat.clone()
    output[..., 1::4, 2::4] += 0.1
    error = grids.phase_error(output, flat, 4)
    assert float(error[1, 2]) == pytest.approx(20, abs=1e-4)
    assert torch.isinf(error).sum() == 15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grids.phases(torch.zeros(1, 1, 8, 8), 3), "3 does not divide"),
        (lambda: grids.ripple(Interpolation(), 1, 4, margin=12), "a margin of 12 leaves nothing of 24 LR pixels"),
        (lambda: line_excess(torch.zeros(1, 1, 42, 44), 4), "multiples of 4"),
        (lambda: line_excess(torch.zeros(1, 1, 28, 44), 4), "at least 32"),
    ],
)
def test_sizes_that_cannot_be_measured_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_grid_on_photos_gives_its_size_back_and_what_is_no_grid_stays_quiet(sample):
    photos = to_gray(torch.cat([sample.tensor("val"), sample.tensor("test")]).double() / 255)
    for levels in (1.0, 2.0, 8.0):
        assert rms(grids.grid_levels(add_grid(photos, 4, levels), 4)) == pytest.approx(levels, abs=0.2)
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8 / 255
    blurred = nn.functional.avg_pool2d(photos, 5, stride=1)[..., 2:-2, 2:-2]
    for picture in (photos, photos + noise, noise, blurred):
        assert float(line_excess(picture[..., :168, :168], 4).mean()) < 1
    assert float(grids.power_spectrum(noise).mean()) == pytest.approx((8 / 255) ** 2, rel=0.05)
    small = degrade(photos, "bicubic", 4, round_lr=True)
    for smooth in ("bilinear", "bicubic"):
        assert float(line_excess(upsample(small, 4, smooth), 4).mean()) < -10
    none, half, one, two, four = (float(line_excess(add_grid(photos, 4, n), 4).mean()) for n in (0, 0.5, 1, 2, 4))
    assert none == pytest.approx(-0.9, abs=0.6)
    assert none < half < one < two < four
    assert one > 6
    assert four - two == pytest.approx(6, abs=1)  # twice the amplitude is 6.02 dB
