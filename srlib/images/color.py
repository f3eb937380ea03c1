"""Colour of floats with RGB in [0, 1], by ITU-R BT.601-7, sections 2.5.1 to 2.5.3: luma, YCbCr, saturation."""

import torch
from torch import Tensor

from srlib.images.degrade import placed

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
_MIX = "oc,...chw->...ohw"


def _ycbcr(limited: bool) -> Tensor:
    """``[3, 7]``, float64: the matrix from RGB to Y, Cb, Cr in [0, 1], its inverse, and what is added."""
    rows = [LUMA_WEIGHTS, (-0.299 / 1.772, -0.587 / 1.772, 0.5), (0.5, -0.587 / 1.402, -0.114 / 1.402)]
    levels = [[219, 224, 224], [16, 128, 128]] if limited else [[255] * 3, [0, 128, 128]]  # range, zero
    scale, offset = torch.tensor(levels, dtype=torch.float64)[:, :, None] / 255
    matrix = torch.tensor(rows, dtype=torch.float64) * scale
    return torch.cat([matrix, torch.linalg.inv(matrix), offset], dim=1)


def _parts(x: Tensor, limited: bool) -> tuple[Tensor, ...]:
    """The three parts of :func:`_ycbcr`, in the type and on the device of ``x``."""
    if x.ndim < 3 or x.shape[-3] != 3:
        raise ValueError(f"a colour picture must have shape [..., 3, H, W], got {tuple(x.shape)}")
    return placed(_ycbcr, (limited,), x.dtype, x.device).split((3, 3, 1), dim=1)


def to_gray(rgb: Tensor) -> Tensor:
    """BT.601 luma, ``[..., 3, H, W]`` to ``[..., 1, H, W]``: Pillow's gray and MATLAB's, here not rounded."""
    return torch.einsum(_MIX, _parts(rgb, False)[0][:1], rgb)


def to_ycbcr(rgb: Tensor, *, limited: bool) -> Tensor:
    """RGB to YCbCr, ``[..., 3, H, W]``; 1 is level 255, and Cb and Cr are centred on 128 / 255. ``limited`` maps Y
    to [16, 235] / 255, as MATLAB's ``rgb2ycbcr`` and most papers do; else it has JPEG's full range."""
    matrix, _, offset = _parts(rgb, limited)
    return torch.einsum(_MIX, matrix, rgb) + offset[..., None]


def from_ycbcr(ycbcr: Tensor, *, limited: bool) -> Tensor:
    """The inverse of :func:`to_ycbcr`. The result is not clamped: not every YCbCr is an RGB in [0, 1]."""
    _, inverse, offset = _parts(ycbcr, limited)
    return torch.einsum(_MIX, inverse, ycbcr - offset[..., None])


def split_channels(x: Tensor) -> Tensor:
    """``[N, C, H, W]`` to ``[N * C, 1, H, W]``: every channel becomes a gray picture of its own."""
    return x.flatten(0, 1)[:, None]


def saturation(rgb: Tensor) -> Tensor:
    """Mean distance from gray in the CbCr plane, in 8-bit levels, ``[N, 3, H, W]`` to ``[N]``; blind to luma."""
    chroma = to_ycbcr(rgb, limited=False)[:, 1:] - 128 / 255
    return 255 * chroma.square().sum(dim=1).sqrt().mean(dim=(1, 2))
