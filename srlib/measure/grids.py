"""Meters for checkerboard artefacts: without a picture, without a reference, and with one.

A grid of period s is whatever depends on a pixel's phase, its position modulo s. Each meter looks at the
s x s phases in its own way. Pictures are NCHW in [0, 1]; levels are 8-bit levels.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from srlib.measure.metrics import to_decibel


def phases(x: Tensor, period: int) -> Tensor:
    """``[N, C, H, W]`` to ``[N, C, period^2, H / period, W / period]``, phase (a, b) at index a * period + b.

    Raises:
        ValueError: the period does not divide both sides.
    """
    n, c, h, w = x.shape
    if h % period or w % period:
        raise ValueError(f"the period {period} does not divide the picture's {h} x {w} pixels")
    return nn.functional.pixel_unshuffle(x, period).reshape(n, c, period**2, h // period, w // period)


def phase_pattern(x: Tensor, period: int) -> Tensor:
    """The mean of each phase less the mean of all: ``[N, C, H, W]`` to ``[N, C, period, period]``, float64."""
    means = phases(x.double(), period).mean(dim=(3, 4))
    return (means - means.mean(dim=2, keepdim=True)).unflatten(2, (period, period))


def ripple(
    model: nn.Module, in_channels: int, scale: int, *, level: float = 0.5, size: int = 24, margin: int = 8
) -> float:
    """The grid that a network prints on a constant picture, in 8-bit levels.

    The input is ``level`` everywhere. Away from the border each output phase is one number; the result is
    the standard deviation over the phases, root mean square over the output channels. Zero if and only if
    a constant stays a constant. ``margin`` LR pixels are left out: it must cover the receptive field.

    Raises:
        ValueError: the margin leaves nothing.
    """
    if 2 * margin >= size:
        raise ValueError(f"a margin of {margin} leaves nothing of {size} LR pixels")
    parameter = next(model.parameters(), torch.zeros(()))
    lr = torch.full((1, in_channels, size, size), level, dtype=parameter.dtype, device=parameter.device)
    was_training = model.training
    with torch.no_grad():
        out = model.eval()(lr).cpu().double()
    model.train(was_training)
    edge, side = margin * scale, size * scale
    pattern = phase_pattern(out[..., edge : side - edge, edge : side - edge], scale)
    return float(255 * pattern.square().mean().sqrt())


def _hann(n: int) -> Tensor:
    return torch.hann_window(n, periodic=True, dtype=torch.float64)


def power_spectrum(x: Tensor) -> Tensor:
    """Windowed power spectrum of the mean over channels, ``[N, C, H, W]`` to ``[N, H, W]``.

    Each image is freed of its mean and multiplied by a Hann window, so that a sharp line stays sharp and
    the picture's border adds no cross. Frequencies are in FFT order, ``torch.fft.fftfreq``.
    """
    x = x.double().mean(dim=1)
    x = x - x.mean(dim=(1, 2), keepdim=True)
    h, w = x.shape[-2:]
    window = _hann(h)[:, None] * _hann(w)[None, :]
    return torch.fft.fft2(x * window.to(x.device)).abs().square() / window.square().sum().to(x.device)


def grid_frequencies(period: int) -> list[tuple[int, int]]:
    """The harmonics (i, j) of a grid: frequencies (i / period, j / period) but (0, 0)."""
    return [(i, j) for i in range(period) for j in range(period) if i or j]


def _lines(images: Tensor, period: int, without: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each harmonic: power at the bin, mean power within one bin, mean power of the surroundings, ``[N]``.

    The surroundings lie 3 to 6 bins away. A photo's upright edges draw a bright cross through zero frequency,
    so for a harmonic on an axis they are taken along that axis only: else the cross would count as a grid.
    """
    h, w = images.shape[-2:]
    if h % period or w % period or min(h, w) < 8 * period:
        raise ValueError(f"need sides that are multiples of {period} and at least {8 * period}, got {h} x {w}")
    power = power_spectrum(images)
    offsets = torch.arange(-6, 7, device=images.device)
    down, across = offsets[:, None].abs(), offsets[None, :].abs()
    near = torch.maximum(down, across) <= 1
    for i, j in grid_frequencies(period):
        if without and i * without % period == 0 and j * without % period == 0:
            continue
        around = torch.maximum(down, across) >= 3
        if i == 0:
            around = (down <= 1) & (across >= 3)
        elif j == 0:
            around = (across <= 1) & (down >= 3)
        rows, columns = (i * h // period + offsets) % h, (j * w // period + offsets) % w
        patch = power[:, rows[:, None], columns[None, :]]
        yield patch[:, 6, 6], patch[:, near].mean(dim=1), patch[:, around].mean(dim=1)


def line_excess(images: Tensor, period: int, *, without: int | None = None) -> Tensor:
    """How far the spectrum at the grid's frequencies stands above its surroundings, in dB, ``[N]``.

    The mean over the harmonics of 1 / period of the ratio in dB of the power within one bin and that of the
    surroundings. About -1 to 0 dB for photos and noise (a mean of logarithms lies below the logarithm of
    the mean), positive with a grid; a smooth interpolation has nulls there and is strongly negative. One
    picture of 176 pixels scatters by 1 to 2 dB: average over several.

    Args:
        without: leave out the harmonics that a grid of this shorter period has too.

    Raises:
        ValueError: sides that the period does not divide, or below 8 periods.
    """
    ratios = [(line + 1e-20) / (ring + 1e-20) for _, line, ring in _lines(images, period, without)]
    return 10 * torch.log10(torch.stack(ratios)).mean(dim=0)


def grid_levels(images: Tensor, period: int) -> Tensor:
    """The size of the grid in a picture without a reference: its standard deviation in 8-bit levels, ``[N]``.

    The power of the lines above their surroundings, undone of the window. Exact for large grids; a photo's
    own spectrum leaves an uncertainty of about 0.2 levels at 176 pixels. Errors as :func:`line_excess`.
    """
    h, w = images.shape[-2:]
    window = _hann(h)[:, None] * _hann(w)[None, :]
    gain = float(window.sum() ** 2 / window.square().sum())
    surplus = sum(centre - ring for centre, _, ring in _lines(images, period, None))
    return 255 * (surplus.clamp_min(0) / gain).sqrt()


def phase_error(output: Tensor, target: Tensor, period: int) -> Tensor:
    """PSNR of each phase on its own, ``[period, period]`` in dB: uneven when some phases are learnt worse."""
    error = phases(output.clamp(0, 1).double() - target.double(), period).square()
    return to_decibel(error.mean(dim=(0, 1, 3, 4))).reshape(period, period)


def add_grid(images: Tensor, period: int, levels: float, seed: int = 0) -> Tensor:
    """Add a synthetic grid of a known size: a random zero-mean pattern, the same in every period.

    Args:
        levels: standard deviation of the pattern over the phases, in 8-bit levels. Not clamped, so that the
            size stays exact.
    """
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.randn(period, period, generator=generator, dtype=torch.float64)
    pattern = (pattern - pattern.mean()) / pattern.std(unbiased=False)
    h, w = images.shape[-2:]
    tiled = pattern.repeat(-(-h // period), -(-w // period))[:h, :w]
    return images + (levels / 255 * tiled).to(images)
