"""HR to LR, and the interpolations back. Resampling by a fixed kernel is linear and separable: the LR picture is
``A @ hr @ B.T``, with a small matrix for the rows and one for the columns, which the pages draw."""

from collections.abc import Callable
from functools import lru_cache
from math import exp

import numpy as np
import torch
from torch import Tensor

from srlib.errors import known

KERNELS = ("bicubic", "lecture", "area", "decimate")


def placed(make: Callable[..., Tensor], args: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The constant ``make(*args)`` on a device, moved there once: every copy to a GPU waits for its queue."""
    if torch.compiler.is_exporting():  # for pictures of any size, of which nothing is constant
        return make(*args).to(device=device, dtype=dtype)
    return _constant(make, args, dtype, device)


def _constant(make: Callable[..., Tensor], args: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    return _placed(make, args, dtype, device)


# As torch.compiler.assume_constant_result does, loading the compiler for seconds; a cached function cannot be so.
_constant._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=512)
@torch.inference_mode(False)
def _placed(make: Callable[..., Tensor], args: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    return make(*args).to(device=device, dtype=dtype)


def _cubic(x: Tensor, a: float) -> Tensor:
    """Keys 1981; a = -0.5 in MATLAB and Pillow, -0.75 in OpenCV and plain PyTorch."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


INTERPOLATIONS: dict[str, Callable[[Tensor], Tensor]] = {  # kernels of the distance in source pixels
    "nearest": lambda x: ((x >= -0.5) & (x < 0.5)).to(x),
    "bilinear": lambda x: (1 - x.abs()).clamp_min(0),
    "bicubic": lambda x: _cubic(x, -0.5),
    "bicubic-0.75": lambda x: _cubic(x, -0.75),
    "lanczos": lambda x: torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0),
}


def resize_matrix(size: int, new_size: int, interpolation: str, antialias: bool = True) -> Tensor:
    """The matrix ``[new_size, size]``, float64, that resamples one axis; pixel centres lie at half-integers. With
    ``antialias`` the kernel is stretched when shrinking, as in Pillow and MATLAB ("nearest" then means an area).
    Rows sum to 1, without taps outside, as in Pillow. ValueError: an unknown interpolation, a size below 1."""
    known("interpolation", interpolation, INTERPOLATIONS)
    if size < 1 or new_size < 1:
        raise ValueError(f"sizes must be at least 1, got {size} -> {new_size}")
    scale = size / new_size
    stretch = max(scale, 1.0) if antialias else 1.0
    source, target = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (size, new_size))
    weights = INTERPOLATIONS[interpolation]((source - target[:, None] * scale) / stretch)
    return weights / weights.sum(dim=1, keepdim=True)


def degrade_matrix(size: int, kernel: str, scale: int) -> Tensor:
    """The matrix ``[size / scale, size]``, float64, that shrinks one axis by a whole-number scale. ``bicubic``:
    antialiased, a = -0.5 (Pillow; MATLAB but for the border). ``lecture``: ``pyramid_reduce`` of scikit-image, as
    in the lecture project. ``area``: the mean of scale x scale pixels. ``decimate``: every scale-th pixel, the one
    at ``scale // 2``. ValueError for an unknown kernel or a size that is no multiple."""
    known("kernel", kernel, KERNELS)
    if scale < 1 or size % scale:
        raise ValueError(f"a side of {size} pixels is no multiple of the scale {scale}: crop it first")
    if kernel == "decimate":
        return torch.eye(size, dtype=torch.float64)[scale // 2 :: scale].clone()
    if kernel != "lecture":
        return resize_matrix(size, size // scale, "bicubic" if kernel == "bicubic" else "nearest")
    sigma = 2 * scale / 6  # pyramid_reduce: a Gaussian, then linear resampling
    radius = int(4 * sigma + 0.5)
    taps = torch.tensor([exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)], dtype=torch.float64)
    mirrored = torch.eye(size, dtype=torch.float64)[np.pad(np.arange(size), radius, "symmetric")]
    blur = sum(tap * mirrored[i : i + size] for i, tap in enumerate(taps / taps.sum()))
    return resize_matrix(size, size // scale, "bilinear", antialias=False) @ blur


def _apply(x: Tensor, make: Callable[..., Tensor], rows: tuple, columns: tuple) -> Tensor:
    """``A @ x @ B.T`` in full precision: autocast would round a picture to 8 bits of mantissa."""
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        left, right = (placed(make, args, x.dtype, x.device) for args in (rows, columns))
        return (left @ x) @ right.T  # rows first: BLAS likes the many small products better that way round


def resize(x: Tensor, size: tuple[int, int], interpolation: str = "bicubic", antialias: bool = True) -> Tensor:
    """Resample ``[..., H, W]`` to ``[..., *size]``; not clamped. See :func:`resize_matrix`."""
    return _apply(x, resize_matrix, *((*sizes, interpolation, antialias) for sizes in zip(x.shape[-2:], size)))


def upsample(lr: Tensor, scale: int, interpolation: str = "bicubic") -> Tensor:
    """Enlarge ``[..., H, W]`` by a whole-number scale; the baselines that every model must beat."""
    return resize(lr, (lr.shape[-2] * scale, lr.shape[-1] * scale), interpolation)


def round_8bit(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the 256 levels that a file can hold."""
    return (x.clamp(0, 1) * 255).round() / 255


def degrade(hr: Tensor, kernel: str, scale: int, *, round_lr: bool) -> Tensor:
    """LR ``[..., H / scale, W / scale]`` of HR ``[..., H, W]`` in [0, 1], errors as in :func:`degrade_matrix`. To
    round it to 8 bits, as a file does, costs up to 0.1 dB at high PSNR, and papers differ in it: be explicit."""
    lr = _apply(hr, degrade_matrix, *((size, kernel, scale) for size in hr.shape[-2:]))
    return round_8bit(lr) if round_lr else lr


def _inverse_matrix(size: int, kernel: str, scale: int) -> Tensor:
    inverse = torch.linalg.pinv(degrade_matrix(size * scale, kernel, scale))
    apart = (torch.arange(size * scale)[:, None] // scale - torch.arange(size)).abs()
    return inverse.masked_fill(apart > 8, 0)


def least_norm(lr: Tensor, kernel: str, scale: int) -> Tensor:
    """The smallest HR picture (by its squares) that :func:`degrade` shrinks to ``lr``, ``[..., h, w]``: by each
    axis's pseudo-inverse, without what is over 8 LR pixels away, which for bicubic changes LR by 2e-5."""
    return _apply(lr, _inverse_matrix, *((size, kernel, scale) for size in lr.shape[-2:]))
