"""What weights are before training: ICNR, orthogonal, Kaiming."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def icnr_(weight: Tensor, scale: int, init: Callable[[Tensor], Tensor] = nn.init.kaiming_normal_) -> Tensor:
    """Fill ``[C * scale^2, in, k, k]`` so that the scale^2 sub-kernels of each channel are equal.

    After a pixel shuffle the network then starts as nearest-neighbour upsampling: no grid at step 0.
    Aitken et al. 2017, arXiv 1707.02937, section 3.

    Raises:
        ValueError: the first dimension is no multiple of scale^2.
    """
    if weight.shape[0] % scale**2:
        raise ValueError(f"{weight.shape[0]} output channels are no multiple of scale^2 = {scale**2}")
    with torch.no_grad():
        kernel = init(torch.empty_like(weight[:: scale**2]))
        return weight.copy_(kernel.repeat_interleave(scale**2, dim=0))


def initialise_(module: nn.Module, scheme: str) -> nn.Module:
    """Initialise all convolutions: ``default`` (PyTorch's), ``orthogonal`` (the lecture's) or ``kaiming``.

    Raises:
        ValueError: unknown scheme.
    """
    if scheme not in ("default", "orthogonal", "kaiming"):
        raise ValueError(f"unknown initialisation {scheme!r}: choose default, orthogonal or kaiming")
    if scheme == "default":
        return module
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            if scheme == "orthogonal":
                nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
