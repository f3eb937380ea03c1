"""PSNR by every convention, SSIM, a distance of patches: NCHW floats in [0, 1] to ``[N]``, in the widest float."""

import torch
from torch import Tensor, nn

from srlib.device import widest
from srlib.errors import known
from srlib.images.color import to_ycbcr
from srlib.images.degrade import placed

CHANNELS = {"as-is": None, "y": 0, "y-full": 0, "cb": 1, "cr": 2}  # each with its place in YCbCr


def wide(x: Tensor) -> Tensor:
    """float64, or float32 where the device lacks it."""
    return x.to(widest(x.device))


def _scored(output: Tensor, target: Tensor, border: int, channels: str) -> list[Tensor]:
    """Both pictures, checked, without their border, in the channels to score; the output clamped to [0, 1]."""
    known("channels", channels, CHANNELS)
    if output.shape != target.shape or output.ndim != 4 or not all(map(torch.is_floating_point, (output, target))):
        shapes = f"{[*output.shape]} and {[*target.shape]}, {output.dtype} and {target.dtype}"
        raise ValueError(f"need two equal shapes [N, C, H, W] of floats in [0, 1], got {shapes}")
    height, width = output.shape[-2:]
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(f"crop_border {border} leaves nothing of {(height, width)} pixels")
    inner = (..., slice(border, height - border), slice(border, width - border))
    both, place = [output.clamp(0, 1)[inner], target[inner]], CHANNELS[channels]
    return both if place is None else [to_ycbcr(x, limited=channels == "y")[:, place : place + 1] for x in both]


def mse(output: Tensor, target: Tensor, *, crop_border: int, channels: str) -> Tensor:
    """Mean squared error of each image, ``[N]``, for pictures in [0, 1]; see :func:`psnr`."""
    output, target = _scored(output, target, crop_border, channels)
    return (wide(output) - wide(target)).square().mean(dim=(1, 2, 3))


def to_decibel(error: Tensor | float, max_value: float | Tensor = 1.0) -> Tensor:
    """``10 log10(max^2 / mse)``, infinite where the mean squared error is zero."""
    error = wide(error) if isinstance(error, Tensor) else torch.tensor(error, dtype=torch.float64)
    return 20 * torch.log10(torch.as_tensor(max_value, dtype=error.dtype)) - 10 * torch.log10(error)


def psnr(output: Tensor, target: Tensor, *, crop_border: int, channels: str, average: str,
         max_value: float | str = 1.0) -> Tensor:  # fmt: skip
    """Peak signal-to-noise ratio in dB of the output, clamped to [0, 1] as in a picture file. Each choice that
    moves a published number is an argument. ``crop_border``: pixels left out along every edge (0, or the scale, in
    most papers). ``channels``: all ``as-is``, limited-range luma ``y`` (the habit of super-resolution papers),
    full-range luma ``y-full``, or full-range chroma, ``cb`` or ``cr``. ``average``: ``none`` gives ``[N]``;
    ``images`` the mean of the images' decibels; ``mse`` the decibels of their mean MSE, never above it (Jensen's
    inequality). ``max_value``: the peak; ``"image"``, the lecture's: the largest value of each target."""
    known("average", average, ("none", "images", "mse"))
    if (by_image := max_value == "image") and average == "mse":
        raise ValueError("a peak per image cannot be applied to the mean MSE: use average='images'")
    errors = mse(output, target, crop_border=crop_border, channels=channels)
    peak = _scored(output, target, crop_border, channels)[1].amax(dim=(1, 2, 3)) if by_image else float(max_value)
    values = to_decibel(errors.mean() if average == "mse" else errors, peak)
    return values.mean() if average == "images" else values


def _window(window: str, size: int, dtype: torch.dtype) -> Tensor:
    """The matrix ``[size - n + 1, size]`` that takes the weighted mean of every n neighbours of an axis."""
    taps = torch.ones(7, dtype=dtype)
    if window == "gaussian":
        taps = torch.exp(-(torch.arange(11, dtype=dtype) - 5).square() / (2 * 1.5**2))
    if size < len(taps):
        raise ValueError(f"SSIM looks at {len(taps)} pixels at once, and there are {size}")
    taps = taps / taps.sum()
    return nn.functional.conv1d(torch.eye(size, dtype=dtype)[:, None], taps[None, None])[:, 0].T.contiguous()


def ssim_map(output: Tensor, target: Tensor, *, window: str) -> Tensor:
    """SSIM (Wang et al. 2004, equation 13) wherever the whole window fits: ``gaussian``, 11 x 11, sigma 1.5,
    biased variances, ``[N, C, H - 10, W - 10]``; ``uniform``, scikit-image's, 7 x 7: ``[N, C, H - 6, W - 6]``."""
    known("window", window, ("gaussian", "uniform"))
    bias, dtype = 1.0 if window == "gaussian" else 49 / 48, output.dtype
    down, across = (placed(_window, (window, size, dtype), dtype, output.device) for size in output.shape[-2:])
    # Products of matrices: in float64 five times as fast as a convolution.
    x, y, xx, yy, xy = (down @ z @ across.mT for z in (output, target, output**2, target**2, output * target))
    var_x, var_y, cov = bias * (xx - x.square()), bias * (yy - y.square()), bias * (xy - x * y)
    c1, c2 = 0.01**2, 0.03**2
    return (2 * x * y + c1) / (x.square() + y.square() + c1) * (2 * cov + c2) / (var_x + var_y + c2)


def ssim(output: Tensor, target: Tensor, *, crop_border: int, channels: str, window: str = "gaussian") -> Tensor:
    """Mean structural similarity of each image, ``[N]``, at most 1, with the conventions of :func:`psnr`."""
    output, target = _scored(output, target, crop_border, channels)
    return ssim_map(wide(output), wide(target), window=window).mean(dim=(1, 2, 3))


def _directions(channels: int) -> Tensor:
    random = torch.randn(64, channels * 7**2, generator=torch.Generator().manual_seed(0))
    return nn.functional.normalize(random - random.mean(dim=1, keepdim=True), dim=1).reshape(64, channels, 7, 7)


def patch_distance(output: Tensor, target: Tensor) -> Tensor:
    """How differently the 7 x 7 patches of two pictures are distributed, wherever they lie: the sliced Wasserstein
    distance (Rabin et al. 2011; Karras et al. 2018) along 64 fixed directions without a mean, ``[N]``, in 8-bit
    levels. It asks for the texture of photos, not for its place (Blau and Michaeli 2018: perception)."""
    output, target = _scored(output, target, 0, "as-is")
    kernels = placed(_directions, (output.shape[1],), output.dtype, output.device)
    ours, theirs = (nn.functional.conv2d(x, kernels).flatten(2).sort(dim=2).values for x in (output, target))
    return 255 * wide((ours - theirs).abs().mean(dim=(1, 2)))
