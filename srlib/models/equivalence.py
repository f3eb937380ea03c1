"""A transposed convolution is a convolution and a pixel shuffle, and back again, exactly (Shi et al. 2016, arXiv
1609.07009), by an index map. With stride r and padding p, output row ``r i + a``, of phase a, reads input row
``i + j - d`` through tap ``t = r (d - j) + a + p``, where there is one; columns likewise. See :class:`Axis`."""

from dataclasses import astuple, dataclass
from math import prod

import torch
from torch import Tensor, nn


@dataclass
class Axis:
    """The geometry of a transposed convolution along one axis, and of the convolution that replaces it."""

    kernel: int
    stride: int
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        reach, stride, padding = self.dilation * (self.kernel - 1), self.stride, self.padding
        self.before = (reach - padding) // stride  # d: rows of zeros before the LR picture (negative: never read)
        self.taps = self.before + (stride - 1 + padding) // stride + 1  # of a sub-kernel, its zeros included
        self.extra = reach + 1 - stride - 2 * padding + self.output_padding  # rows beyond stride * size
        self.front = -padding % stride  # where tap 0 stands among the phases that it is read by
        self.after = self.taps - 1 - self.before - -self.extra // stride  # rows of zeros after the LR picture

    def split(self, kernel: Tensor) -> Tensor:
        """``[..., kernel]`` to the sub-kernels of the phases ``[..., taps, stride]``, 0 where there is no tap."""
        spread = kernel.new_zeros(*kernel.shape[:-1], self.taps * self.stride)
        spread[..., self.front :: self.dilation][..., : self.kernel] = kernel
        return spread.unflatten(-1, (self.taps, self.stride)).flip(-2)


def taps_per_phase(kernel: int, stride: int) -> list[int]:
    """How many taps reach an output pixel of each phase, along an axis: equal if the stride divides the kernel."""
    return Axis(kernel, stride).split(torch.ones(kernel, dtype=torch.int)).sum(dim=0).tolist()


def to_subpixel_weight(weight: Tensor, rows: Axis, columns: Axis, groups: int = 1) -> Tensor:
    """The re-indexing itself, differentiable: ``[c, o / groups, ky, kx]`` to ``[o sy sx, c / groups, ty, tx]``."""
    parts = rows.split(columns.split(weight).movedim(2, -1)).unflatten(0, (groups, -1))  # group, c, o, l, b, j, a
    return parts.permute(0, 2, 6, 4, 1, 5, 3).flatten(0, 3)


class SubPixelConv(nn.Module):
    """Zeros around the picture, a convolution, a pixel shuffle, a crop: what a transposed convolution does."""

    def __init__(self, conv: nn.Conv2d, rows: Axis, columns: Axis) -> None:
        super().__init__()
        self.conv, self.rows, self.columns, self.area = conv, rows, columns, rows.stride * columns.stride

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.rows, self.columns
        height, width = (a.stride * n + a.extra for a, n in zip((rows, columns), x.shape[-2:]))
        x = self.conv(nn.functional.pad(x, (columns.before, columns.after, rows.before, rows.after)))
        x = x.unflatten(1, (-1, rows.stride, columns.stride)).permute(0, 1, 4, 2, 5, 3)  # n, c, y, a, x, b
        return x.flatten(4, 5).flatten(2, 3)[..., :height, :width]

    def source(self) -> Tensor:
        """Which number of the transposed convolution's weight each number of ``conv.weight`` is; -1 for none."""
        conv, rows, columns = self.conv, self.rows, self.columns
        shape = (conv.in_channels, conv.out_channels // self.area // conv.groups, rows.kernel, columns.kernel)
        numbers = torch.arange(1, prod(shape) + 1, device=conv.weight.device).view(shape)
        return to_subpixel_weight(numbers, rows, columns, conv.groups) - 1


def to_subpixel(layer: nn.ConvTranspose2d) -> SubPixelConv:
    """The convolution and pixel shuffle that compute what a transposed convolution of any geometry does, with more
    numbers: zeros where a phase has fewer taps, a bias for each phase. Page 04 keeps them equal in training."""
    if not isinstance(layer, nn.ConvTranspose2d):
        raise TypeError(f"only nn.ConvTranspose2d can be converted, got {type(layer).__name__}")
    names = ("kernel_size", "stride", "padding", "output_padding", "dilation")
    rows, columns = (Axis(*numbers) for numbers in zip(*(getattr(layer, name) for name in names)))
    weight = to_subpixel_weight(layer.weight.detach(), rows, columns, layer.groups)
    conv = nn.Conv2d(layer.in_channels, len(weight), (*weight.shape[2:],), groups=layer.groups, device="meta")
    twin = SubPixelConv(conv, rows, columns)
    conv.weight = nn.Parameter(weight)
    conv.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().repeat_interleave(twin.area))
    return twin


def _with_axes(conv: nn.Conv2d, shuffle: nn.PixelShuffle) -> SubPixelConv:
    scale = shuffle.upscale_factor
    if (conv.stride, conv.dilation, conv.padding_mode) != ((1, 1), (1, 1), "zeros"):
        raise ValueError(f"to be converted it needs stride 1, dilation 1 and padding with zeros only, got {conv}")
    if isinstance(conv.padding, str) or any(p >= k for p, k in zip(conv.padding, conv.kernel_size)):
        raise ValueError(f"padding must be numbers below {conv.kernel_size}, the kernel's, got {conv.padding!r}")
    axes = (Axis(scale * k, scale, scale * (k - 1 - p)) for k, p in zip(conv.kernel_size, conv.padding))
    return SubPixelConv(conv, *axes)  # to be read, not to be run


def to_transposed(layer: SubPixelConv | nn.Sequential) -> nn.ConvTranspose2d:
    """The transposed convolution that computes what a :class:`SubPixelConv`, or ``nn.Sequential(nn.Conv2d,
    nn.PixelShuffle)``, does. ValueError where none can: a bias differs between phases, a weight has no tap ..."""
    if isinstance(layer, nn.Sequential) and [*map(type, layer)] == [nn.Conv2d, nn.PixelShuffle]:
        layer = _with_axes(*layer)
    if not isinstance(layer, SubPixelConv):
        raise TypeError(f"only a convolution followed by nn.PixelShuffle can be converted, got {layer}")
    conv, area, source = layer.conv, layer.area, layer.source()
    weight, bias = conv.weight.detach(), conv.bias
    if bool(weight[source < 0].any()):
        raise ValueError("a weight is not zero where the transposed convolution has no tap")
    if bias is not None and bool(bias.unflatten(0, (-1, area)).diff().any()):
        raise ValueError("the bias differs between phases: a transposed convolution has one for all of them")
    kernel, stride, padding, output_padding, dilation = zip(astuple(layer.rows), astuple(layer.columns))
    result = nn.ConvTranspose2d(conv.in_channels, conv.out_channels // area, kernel, stride, padding,
                                output_padding, conv.groups, dilation=dilation, device="meta")  # fmt: skip
    taps = weight.new_zeros(result.weight.shape)
    taps.view(-1)[source[source >= 0]] = weight[source >= 0]
    result.weight = nn.Parameter(taps)
    result.bias = None if bias is None else nn.Parameter(bias.detach()[::area].clone())
    return result
