"""What a camera and a picture file do besides shrinking: blur, noise and JPEG, in batches on the device. Pictures
are floats ``[N, C, H, W]`` in [0, 1]; a strength is one number, or a tensor ``[N]`` with one for each."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from srlib.images import color, degrade

# The example tables of ITU-T T.81, annex K.1, which nearly every encoder scales.
_LUMA = (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
         14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
         49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99)  # fmt: skip
_CHROMA = (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
           47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32)  # fmt: skip


def _cosines() -> Tensor:
    """``[8, 8]``: the orthonormal DCT-II of 8 samples (T.81, A.3.3)."""
    k, n = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    return torch.cos((2 * n + 1) * k * math.pi / 16) * torch.where(k == 0, math.sqrt(1 / 8), 0.5)


def _each(strength: float | Tensor, x: Tensor) -> Tensor:
    """A strength as ``[N or 1, 1, 1, 1]``, in the type and on the device of ``x``."""
    return torch.as_tensor(strength, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)


def blur(x: Tensor, sigma: float | Tensor) -> Tensor:
    """A Gaussian blur of ``sigma`` pixels, at most 4; the border is repeated."""
    taps = torch.arange(-12, 13, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (taps / _each(sigma, x).clamp_min(0.05)).square())  # [N or 1, 1, 1, 25]
    kernel = (kernel / kernel.sum(-1, keepdim=True)).expand(len(x), x.shape[1], 1, -1).flatten(0, 1)[:, None]
    flat = F.pad(x, (12, 12, 12, 12), mode="replicate").flatten(0, 1)[None]
    return F.conv2d(F.conv2d(flat, kernel, groups=len(kernel)), kernel.mT, groups=len(kernel))[0].view_as(x)


def noise(x: Tensor, sigma: float | Tensor) -> Tensor:
    """Gaussian noise of standard deviation ``sigma`` (1 is level 255), not clamped, from PyTorch's generator."""
    return x + _each(sigma, x) * torch.randn(x.shape, dtype=x.dtype, device=x.device)


def jpeg(x: Tensor, quality: float | Tensor) -> Tensor:
    """RGB ``[N, 3, H, W]`` through JPEG of a quality of 1 to 100 and back, in 8-bit levels: as libjpeg with 4:2:0
    (chroma has half the resolution), but for coefficients half-way between two steps. It has no gradient."""
    height, width = x.shape[-2:]
    x = F.pad(degrade.round_8bit(x), (0, -width % 16, 0, -height % 16), mode="replicate")
    luma, chroma = (255 * color.to_ycbcr(x, limited=False)).round().split((1, 2), dim=1)
    tables = degrade.placed(torch.tensor, ((_LUMA, _CHROMA),), x.dtype, x.device).view(2, 8, 8)
    luma = _quantised(luma, tables[0], quality)
    chroma = degrade.upsample(_quantised(F.avg_pool2d(chroma, 2).round(), tables[1], quality), 2, "bilinear")
    rgb = color.from_ycbcr(torch.cat([luma, chroma], dim=1) / 255, limited=False)
    return degrade.round_8bit(rgb)[..., :height, :width]


def _quantised(levels: Tensor, table: Tensor, quality: float | Tensor) -> Tensor:
    """Planes in levels, sides multiples of 8, after quantisation of each 8 x 8 block's DCT (T.81, A.3.4)."""
    quality = _each(quality, levels)[..., None, None].clamp(1, 100)
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    step = ((table * percent + 50) / 100).floor().clamp(1, 255)
    cosines = degrade.placed(_cosines, (), levels.dtype, levels.device)
    blocks = (levels - 128).unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    coefficients = (cosines @ blocks @ cosines.T / step).round() * step
    blocks = (cosines.T @ coefficients @ cosines).transpose(-3, -2)
    return (blocks.flatten(-4, -3).flatten(-2) + 128).round().clamp(0, 255)


def photograph(hr: Tensor, scale: int) -> Tensor:
    """LR as a phone might give it, ``[N, 3, H / scale, W / scale]`` in 8-bit levels: blurred by up to 2 pixels,
    shrunk by bicubic, noise of up to 10 levels, JPEG of quality 95 to 40; drawn for each picture, mostly mild."""
    blurred, noisy, packed = torch.rand(3, len(hr), device=hr.device, dtype=hr.dtype).square()
    lr = degrade.degrade(blur(hr, 2 * blurred), "bicubic", scale, round_lr=False)
    return jpeg(noise(lr, 10 / 255 * noisy), (95 - 55 * packed).round())
