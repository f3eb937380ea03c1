"""Bodies: stacks of convolutions that make features at LR size."""

import torch
from torch import Tensor, nn

from srlib.models.folding import Folding


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation (EDSR, Lim et al. 2017, figure 2c)."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


def _conv(cin: int, cout: int, kernel: int, batch_norm: bool, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(cin, cout, kernel, padding=kernel // 2)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(cout))
    layers.append(nn.ReLU())
    if dropout:
        layers.append(nn.Dropout2d(dropout))
    return layers


def plain_body(
    in_channels: int, width: int, depth: int, batch_norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """The lecture's stack: 5x5 to ``width``, ``depth`` times 3x3, 3x3 to ``width // 2``; ReLU after each."""
    layers = _conv(in_channels, width, 5, batch_norm, dropout)
    for _ in range(depth):
        layers += _conv(width, width, 3, batch_norm, dropout)
    layers += _conv(width, width // 2, 3, batch_norm, dropout)
    return nn.Sequential(*layers)


class CollapsibleConv2d(Folding):
    """A 3x3 convolution that trains as two: 3x3 to ``expansion`` times the channels, and 1x1 back.

    With nothing non-linear between them both are one linear map, so the two kernels are multiplied before they
    meet the image: the gradient walks in the larger space, and a network in use is :meth:`folded` into plain
    convolutions (SESR, Bhardwaj et al. 2022, arXiv 2103.09404).
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int = 2) -> None:
        super().__init__()
        hidden = expansion * max(in_channels, out_channels)
        self.expand = nn.Parameter(nn.init.kaiming_normal_(torch.empty(hidden, in_channels, 3, 3)))
        # The product starts with the spread that PyTorch gives a convolution.
        self.squeeze = nn.Parameter(torch.randn(out_channels, hidden) * (1 / (6 * hidden)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def kernel(self) -> tuple[Tensor, Tensor]:
        """The product of both."""
        return (self.squeeze @ self.expand.flatten(1)).unflatten(1, self.expand.shape[1:]), self.bias

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # the product of kernels keeps its precision
            weight, bias = self.kernel()
        return nn.functional.conv2d(x, weight, bias, padding=1)


def residual_body(in_channels: int, width: int, blocks: int, collapsible: bool = False) -> nn.Sequential:
    """A 3x3 convolution to ``width`` and ``blocks`` residual blocks, of plain or collapsible convolutions."""

    def conv(cin: int) -> nn.Module:
        return CollapsibleConv2d(cin, width) if collapsible else nn.Conv2d(cin, width, 3, padding=1)

    return nn.Sequential(
        conv(in_channels), nn.ReLU(), *(ResidualBlock(conv(width), conv(width)) for _ in range(blocks))
    )


def wide_body(in_channels: int, width: int, blocks: int) -> nn.Sequential:
    """A 3x3 convolution to ``width`` and residual blocks with twice the channels inside.

    The wide side is where the ReLU is, the narrow one is the sum that runs through all blocks, which no ReLU
    touches: the same parameters make more blocks (WDSR, Yu et al. 2018, arXiv 1808.08718).
    """

    def conv(cin: int, cout: int) -> nn.Conv2d:
        return nn.Conv2d(cin, cout, 3, padding=1)

    inside = 2 * width
    return nn.Sequential(
        conv(in_channels, width), *(ResidualBlock(conv(width, inside), conv(inside, width)) for _ in range(blocks))
    )
