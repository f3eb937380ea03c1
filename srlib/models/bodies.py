"""Bodies: stacks of convolutions that make features at LR size. Some train in a larger form than they are used in:
each :class:`Folding` layer becomes a plain convolution by :func:`folded`."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

BODIES = ("plain", "residual", "collapsible", "wide", "wide-collapsible")
conv3 = partial(nn.Conv2d, kernel_size=3, padding=1)  # keeps the size


class Folding(nn.Module):
    """A convolution of odd size with padding whose kernel is computed from what is trained."""

    def kernel(self) -> tuple[Tensor, Tensor]:
        """The weight ``[out, in, k, k]`` and the bias ``[out]`` in use."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round away what ties a kernel
            weight, bias = self.kernel()
        return nn.functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def folded(self) -> nn.Conv2d:
        """The plain convolution that computes the same."""
        weight, bias = (nn.Parameter(part.detach().clone()) for part in self.kernel())
        conv = nn.Conv2d(weight.shape[1], len(weight), (*weight.shape[2:],), padding="same", device="meta")
        conv.weight, conv.bias = weight, bias
        return conv


def folded(model: nn.Module) -> nn.Module:
    """A copy for use, in which every :class:`Folding` layer is the plain convolution that it amounts to."""
    model = deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Folding):
                setattr(parent, name, layer.folded())
    return model


class CollapsibleConv2d(Folding):
    """A 3x3 convolution that trains as two: 3x3 to twice the channels, and 1x1 back (SESR, Bhardwaj et al. 2022).
    Both are one linear map, so their kernels are multiplied before they meet the image: no cost in use."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = 2 * max(in_channels, out_channels)
        self.expand = nn.Parameter(nn.init.kaiming_normal_(torch.empty(hidden, in_channels, 3, 3)))
        # The product starts with the spread that PyTorch gives a convolution.
        self.squeeze = nn.Parameter(torch.randn(out_channels, hidden) * (1 / (6 * hidden)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def kernel(self) -> tuple[Tensor, Tensor]:
        return (self.squeeze @ self.expand.flatten(1)).unflatten(1, self.expand.shape[1:]), self.bias


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation (EDSR, Lim et al. 2017, figure 2c)."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


def plain_body(channels: int, width: int, depth: int, batch_norm: bool, dropout: float, leak: float) -> nn.Module:
    """The lecture's stack: 5x5 to ``width``, ``depth`` times 3x3, 3x3 to ``width // 2``; after each a ReLU, whose
    slope below zero is ``leak``."""
    layers: list[nn.Module] = []
    for out, kernel in [(width, 5), *[(width, 3)] * depth, (width // 2, 3)]:
        layers += [nn.Conv2d(channels, out, kernel, padding=kernel // 2)] + [nn.BatchNorm2d(out)] * batch_norm
        layers += [nn.LeakyReLU(leak) if leak else nn.ReLU()] + [nn.Dropout2d(dropout)] * bool(dropout)
        channels = out
    return nn.Sequential(*layers)


def residual_body(in_channels: int, width: int, blocks: int, kind: str) -> nn.Sequential:
    """A 3x3 convolution to ``width`` channels, then ``blocks``: ``residual``, or ``wide``, with twice the channels
    inside, where the ReLU is, beside a narrow sum that meets none (WDSR, Yu et al. 2018). ``collapsible`` and
    ``wide-collapsible`` are the same two of convolutions that train in a larger form."""
    conv: Callable[[int, int], nn.Module] = CollapsibleConv2d if kind.endswith("collapsible") else conv3
    inside, start = (2 * width, []) if kind.startswith("wide") else (width, [nn.ReLU()])
    layers = [conv(in_channels, width), *start]
    layers += [ResidualBlock(conv(width, inside), conv(inside, width)) for _ in range(blocks)]
    return nn.Sequential(*layers)
