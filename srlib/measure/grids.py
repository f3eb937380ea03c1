"""Meters for grids, which are what depends on a pixel's phase, its place modulo the period. NCHW in [0, 1]."""

from itertools import product

import torch
from torch import Tensor, nn

from srlib.images.degrade import placed
from srlib.measure.evaluation import in_use
from srlib.measure.metrics import to_decibel, wide


def phases(x: Tensor, period: int) -> Tensor:
    """``[N, C, H, W]`` to ``[N, C, period^2, H / period, W / period]``, phase (a, b) at index a * period + b."""
    if x.shape[-2] % period or x.shape[-1] % period:
        raise ValueError(f"the period {period} does not divide the sides of {tuple(x.shape)}")
    return nn.functional.pixel_unshuffle(x, period).unflatten(1, (-1, period**2))


def phase_pattern(x: Tensor, period: int) -> Tensor:
    """The mean of each phase less the mean of all: ``[N, C, H, W]`` to ``[N, C, period, period]``."""
    means = phases(wide(x), period).mean(dim=(3, 4))
    return (means - means.mean(dim=2, keepdim=True)).unflatten(2, (period, period))


def ripple(model: nn.Module, in_channels: int, scale: int, *, margin: int = 8) -> float:
    """The grid that a network prints on a middle gray picture of 24 x 24 LR pixels, in 8-bit levels: the standard
    deviation over the output phases, root mean square over the output channels. Zero if and only if a constant
    stays one. ``margin`` LR pixels at the border are left out: it must cover the receptive field."""
    size = 24
    if 2 * margin >= size:
        raise ValueError(f"a margin of {margin} leaves nothing of {size} LR pixels")
    lr = next(model.parameters(), torch.zeros(())).new_full((1, in_channels, size, size), 0.5)
    inner = slice(margin * scale, (size - margin) * scale)
    with in_use(model):
        return float(255 * phase_pattern(model(lr)[..., inner, inner], scale).square().mean().sqrt())


def _hann(*shape: int) -> Tensor:
    return torch.outer(*(torch.hann_window(n, dtype=torch.float64) for n in shape))


def power_spectrum(x: Tensor) -> Tensor:
    """Power of the mean over channels, less its own mean, under a Hann window, so that a picture's border adds no
    cross; ``[N, C, H, W]`` to ``[N, H, W]``, in FFT order."""
    x = wide(x).mean(dim=1)
    window = placed(_hann, tuple(x.shape[-2:]), x.dtype, x.device)
    return torch.fft.fft2((x - x.mean(dim=(1, 2), keepdim=True)) * window).abs().square() / window.square().sum()


def _lines(images: Tensor, period: int) -> Tensor:
    """``[3, harmonics, N]``: power at a harmonic's bin, mean within one bin, mean of the surroundings, 3 to 6 bins
    away. A photo's upright edges draw a bright cross through zero frequency, so for a harmonic on an axis these
    are taken along that axis only: else the cross would count as a grid."""
    h, w = images.shape[-2:]
    if h % period or w % period or min(h, w) < 8 * period:
        raise ValueError(f"need sides that are multiples of {period} and at least {8 * period}, got {h} x {w}")
    power = power_spectrum(images)
    offsets = torch.arange(-6, 7, device=power.device)
    down, across = offsets[:, None].abs(), offsets.abs()
    far, lines = torch.maximum(down, across) >= 3, []
    for i, j in list(product(range(period), repeat=2))[1:]:
        around = far & (down <= 1) if i == 0 else far & (across <= 1) if j == 0 else far
        rows, columns = (i * h // period + offsets) % h, (j * w // period + offsets) % w
        patch = power[:, rows[:, None], columns]
        mean = (patch * around).sum(dim=(1, 2)) / around.sum()
        lines.append(torch.stack([patch[:, 6, 6], patch[:, 5:8, 5:8].mean(dim=(1, 2)), mean]))
    return torch.stack(lines, dim=1)


def line_excess(images: Tensor, period: int) -> Tensor:
    """How far the spectrum at the grid's frequencies stands above its surroundings, in dB, ``[N]``: about -1 to 0
    for photos and noise (a mean of logarithms lies below the logarithm of the mean), positive with a grid,
    strongly negative for a smooth interpolation. One picture of 176 pixels scatters by 1 to 2 dB."""
    _, line, ring = _lines(images, period)
    return 10 * torch.log10((line + 1e-20) / (ring + 1e-20)).mean(dim=0)


def grid_levels(images: Tensor, period: int) -> Tensor:
    """The size of the grid in a picture without a reference: its standard deviation in 8-bit levels, ``[N]``.
    A photo's own spectrum leaves an uncertainty of about 0.2 levels at 176 pixels."""
    centre, _, ring = _lines(images, period)
    window = placed(_hann, tuple(images.shape[-2:]), centre.dtype, centre.device)
    power = (centre - ring).sum(dim=0).clamp_min(0) * window.square().sum()
    return 255 * power.sqrt() / window.sum()


def phase_error(output: Tensor, target: Tensor, period: int) -> Tensor:
    """PSNR of each phase on its own, ``[period, period]`` in dB: uneven when some phases are learnt worse."""
    error = phases(wide(output.clamp(0, 1)) - wide(target), period).square()
    return to_decibel(error.mean(dim=(0, 1, 3, 4))).reshape(period, period)


def add_grid(images: Tensor, period: int, levels: float, seed: int = 0) -> Tensor:
    """Add a random zero-mean pattern, the same in every period, of standard deviation ``levels``; not clamped."""
    pattern = torch.randn(period, period, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pattern = (pattern - pattern.mean()) / pattern.std(unbiased=False)
    h, w = images.shape[-2:]
    return images + (levels / 255 * pattern.repeat(-(-h // period), -(-w // period))[:h, :w]).to(images)
