"""Colour: BT.601 luma, YCbCr in both ranges, and splitting a picture into its channels.

Every tensor is NCHW float with RGB in [0, 1] unless a name says otherwise.
Coefficients: ITU-R BT.601-7, sections 2.5.1 to 2.5.3.
"""

import torch
from torch import Tensor

LUMA_WEIGHTS = (0.299, 0.587, 0.114)

# Rows give Y, Cb, Cr of RGB in [0, 1] with full range: Y in [0, 1], Cb and Cr in [-0.5, 0.5].
_RGB_TO_YCBCR = torch.tensor(
    [
        LUMA_WEIGHTS,
        (-0.299 / 1.772, -0.587 / 1.772, 0.5),
        (0.5, -0.587 / 1.402, -0.114 / 1.402),
    ],
    dtype=torch.float64,
)
# Limited ("studio") range in 8-bit levels: Y in 16..235, Cb and Cr in 16..240 around 128.
_LIMITED_SCALE = torch.tensor([219.0, 224.0, 224.0], dtype=torch.float64) / 255
_LIMITED_OFFSET = torch.tensor([16.0, 128.0, 128.0], dtype=torch.float64) / 255
_FULL_OFFSET = torch.tensor([0.0, 128.0, 128.0], dtype=torch.float64) / 255


def _require_channels(x: Tensor, channels: int, name: str) -> None:
    if x.ndim < 3 or x.shape[-3] != channels:
        raise ValueError(f"{name} must have shape [..., {channels}, H, W], got {tuple(x.shape)}")


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("oc,...chw->...ohw", matrix.to(x), x)


def to_gray(rgb: Tensor) -> Tensor:
    """BT.601 luma of RGB: ``[..., 3, H, W]`` to ``[..., 1, H, W]``, in the range of the input.

    This is the gray of OpenCV, Pillow and MATLAB's ``rgb2gray``, here without rounding.
    """
    _require_channels(rgb, 3, "rgb")
    return _mix(rgb, torch.tensor([LUMA_WEIGHTS], dtype=torch.float64))


def to_ycbcr(rgb: Tensor, *, limited: bool) -> Tensor:
    """RGB in [0, 1] to YCbCr, ``[..., 3, H, W]``, all three channels scaled so that 1 is level 255.

    ``limited=True`` maps Y to [16, 235] / 255 as MATLAB's ``rgb2ycbcr`` and most super-resolution
    papers do; ``limited=False`` is the full range of JPEG. Cb and Cr are centred on 128 / 255.
    """
    _require_channels(rgb, 3, "rgb")
    scale = _LIMITED_SCALE if limited else torch.ones(3, dtype=torch.float64)
    offset = _LIMITED_OFFSET if limited else _FULL_OFFSET
    return _mix(rgb, _RGB_TO_YCBCR * scale[:, None]) + offset.to(rgb)[:, None, None]


def from_ycbcr(ycbcr: Tensor, *, limited: bool) -> Tensor:
    """The inverse of :func:`to_ycbcr`. The result is not clamped: not every YCbCr is an RGB in [0, 1]."""
    _require_channels(ycbcr, 3, "ycbcr")
    scale = _LIMITED_SCALE if limited else torch.ones(3, dtype=torch.float64)
    offset = _LIMITED_OFFSET if limited else _FULL_OFFSET
    inverse = torch.linalg.inv(_RGB_TO_YCBCR * scale[:, None])
    return _mix(ycbcr - offset.to(ycbcr)[:, None, None], inverse)


def split_channels(x: Tensor) -> Tensor:
    """``[N, C, H, W]`` to ``[N * C, 1, H, W]``: every channel becomes a gray picture of its own."""
    n, c, h, w = x.shape
    return x.reshape(n * c, 1, h, w)


def merge_channels(x: Tensor, channels: int = 3) -> Tensor:
    """The inverse of :func:`split_channels`: ``[N * C, 1, H, W]`` to ``[N, C, H, W]``."""
    if x.shape[1] != 1 or x.shape[0] % channels:
        raise ValueError(f"need a multiple of {channels} pictures of one channel, got {tuple(x.shape)}")
    return x.reshape(-1, channels, *x.shape[2:])


def saturation(rgb: Tensor) -> Tensor:
    """Mean chroma magnitude per image, ``[N, 3, H, W]`` to ``[N]``, in 8-bit levels.

    The distance from gray in the full-range CbCr plane, ``255 * mean(sqrt(Cb^2 + Cr^2))``: zero for a
    gray picture, and blind to luma, unlike the S of HSV.
    """
    chroma = to_ycbcr(rgb, limited=False)[:, 1:] - 128 / 255
    return 255 * chroma.square().sum(dim=1).sqrt().mean(dim=(1, 2))
