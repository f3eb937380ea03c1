"""A transposed convolution is a convolution and a pixel shuffle, and back again, exactly.

Shi et al. 2016, arXiv 1609.07009, state the equivalence; here it is as an index map. With weight
``W[c, o, t, u]``, stride r and padding p, output row ``r i + a`` of phase a reads input row ``i + j - d``
through tap ``t = r (d - j) + a + p``. So the sub-kernel of phase (a, b) is
``V[o r^2 + a r + b, c, j, l] = W[c, o, r (d - j) + a + p, r (d - l) + b + p]``, zero where no such tap exists.
Rows and columns are independent: each has its own :class:`Axis`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Axis:
    """The geometry of a transposed convolution along one axis, and of the convolution that replaces it."""

    kernel: int
    stride: int
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1

    @property
    def before(self) -> int:
        """d: rows of zeros before the LR picture (negative: rows that are never read)."""
        return (self.dilation * (self.kernel - 1) - self.padding) // self.stride

    @property
    def taps(self) -> int:
        """Taps of each phase's sub-kernel, the zeros that fill up the shorter ones included."""
        return self.before + (self.stride - 1 + self.padding) // self.stride + 1

    @property
    def growth(self) -> int:
        """The output has ``stride * size + growth`` rows."""
        reach = self.dilation * (self.kernel - 1) + 1
        return reach - self.stride - 2 * self.padding + self.output_padding

    @property
    def after(self) -> int:
        """Rows of zeros after the LR picture: enough for the last row of the output."""
        return self.taps - 1 - self.before + -(-self.growth // self.stride)

    def index(self) -> Tensor:
        """Which tap phase a reads through column j: ``[stride, taps]``, -1 where none exists."""
        phases, columns = torch.arange(self.stride), torch.arange(self.taps)
        position = self.stride * (self.before - columns[None, :]) + phases[:, None] + self.padding
        tap = torch.div(position, self.dilation, rounding_mode="floor")
        exists = (position % self.dilation == 0) & (tap >= 0) & (tap < self.kernel)
        return torch.where(exists, tap, -1)


def taps_per_phase(kernel: int, stride: int, padding: int = 0) -> list[int]:
    """How many taps of a transposed convolution reach an output pixel of each phase, along one axis.

    Equal counts mean even overlap: true if and only if the stride divides the kernel.
    """
    return (Axis(kernel, stride, padding).index() >= 0).sum(dim=1).tolist()


def shuffle(x: Tensor, scale: tuple[int, int]) -> Tensor:
    """``[N, C * sy * sx, H, W]`` to ``[N, C, H * sy, W * sx]``: a pixel shuffle with a scale per axis."""
    n, channels, h, w = x.shape
    sy, sx = scale
    if channels % (sy * sx):
        raise ValueError(f"{channels} channels are no multiple of {sy} x {sx}")
    blocks = x.reshape(n, -1, sy, sx, h, w)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(n, -1, h * sy, w * sx)


class SubPixelConv(nn.Module):
    """Zeros around the picture, a convolution to ``out * stride^2`` channels, a pixel shuffle, a crop.

    Args:
        conv: the convolution, without padding of its own.
        rows, columns: the geometry of the transposed convolution that it stands for.
    """

    def __init__(self, conv: nn.Conv2d, rows: Axis, columns: Axis) -> None:
        super().__init__()
        self.conv, self.rows, self.columns = conv, rows, columns

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.rows, self.columns
        height, width = (a.stride * n + a.growth for a, n in zip((rows, columns), x.shape[-2:]))
        x = nn.functional.pad(x, (columns.before, columns.after, rows.before, rows.after))
        return shuffle(self.conv(x), (rows.stride, columns.stride))[..., :height, :width]

    def exists(self) -> Tensor:
        """Which entries of ``conv.weight`` stand for a tap, as a mask that broadcasts over it."""
        both = (self.rows.index() >= 0)[:, None, :, None] & (self.columns.index() >= 0)[None, :, None, :]
        mask = both.flatten(0, 1)[:, None]
        return mask.repeat(self.conv.out_channels // len(mask), 1, 1, 1)


def _axes(layer: nn.ConvTranspose2d) -> tuple[Axis, Axis]:
    names = ("kernel_size", "stride", "padding", "output_padding", "dilation")
    rows, columns = zip(*(getattr(layer, name) for name in names))
    return Axis(*rows), Axis(*columns)


def to_subpixel_weight(weight: Tensor, rows: Axis, columns: Axis, groups: int = 1) -> Tensor:
    """The re-indexing itself, differentiable: ``[c, o / groups, ky, kx]`` to ``[o sy sx, c / groups, ty, tx]``."""
    padded = nn.functional.pad(weight, (0, 1, 0, 1))  # index -1 then reads a zero
    picked = padded[:, :, rows.index()[:, None, :, None], columns.index()[None, :, None, :]]
    picked = picked.unflatten(0, (groups, -1))  # group, c, o, a, b, j, l
    return picked.permute(0, 2, 3, 4, 1, 5, 6).flatten(0, 3)


def to_subpixel(layer: nn.ConvTranspose2d) -> SubPixelConv:
    """The convolution and pixel shuffle that compute what a transposed convolution computes.

    Any kernel, stride, padding, output padding, dilation, groups and bias, the two axes apart. The twin may
    hold more numbers than the layer: zeros where a phase has fewer taps than the others, and a bias for
    each phase. They start equal to the layer; what keeps them so in training is shown on page 04.

    Raises:
        TypeError: not an ``nn.ConvTranspose2d``.
    """
    if not isinstance(layer, nn.ConvTranspose2d):
        raise TypeError(f"only nn.ConvTranspose2d can be converted, got {type(layer).__name__}")
    rows, columns = _axes(layer)
    weight = to_subpixel_weight(layer.weight.detach(), rows, columns, layer.groups)
    conv = nn.Conv2d(
        layer.in_channels, len(weight), (rows.taps, columns.taps), groups=layer.groups,
        bias=layer.bias is not None, device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        conv.weight.copy_(weight)
        if layer.bias is not None:
            conv.bias.copy_(layer.bias.repeat_interleave(rows.stride * columns.stride))
    return SubPixelConv(conv, rows, columns)


def _from_sequential(layer: nn.Sequential) -> SubPixelConv:
    """A convolution and ``nn.PixelShuffle`` as a :class:`SubPixelConv`, its geometry deduced."""
    kinds = [type(part).__name__ for part in layer]
    if len(layer) != 2 or not isinstance(layer[0], nn.Conv2d) or not isinstance(layer[1], nn.PixelShuffle):
        raise TypeError(f"only a convolution followed by nn.PixelShuffle can be converted, got {kinds}")
    conv, scale = layer[0], layer[1].upscale_factor
    if conv.stride != (1, 1) or conv.dilation != (1, 1):
        raise ValueError(f"only stride 1 and dilation 1 can be converted, got {conv.stride} and {conv.dilation}")
    if conv.padding_mode != "zeros":
        raise ValueError(f"a transposed convolution pads with zeros only, this one with {conv.padding_mode!r}")
    if isinstance(conv.padding, str):
        raise ValueError(f"padding as numbers is needed, got {conv.padding!r}")
    axes = []
    for kernel, padding in zip(conv.kernel_size, conv.padding):
        if padding > kernel - 1:
            raise ValueError(f"padding {padding} is more than kernel - 1 = {kernel - 1}: rows made of zeros alone")
        axes.append(Axis(scale * kernel, scale, scale * (kernel - 1 - padding)))
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, groups=conv.groups,
        bias=conv.bias is not None, device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
    plain.load_state_dict(conv.state_dict())
    return SubPixelConv(plain, *axes)


def to_transposed(layer: SubPixelConv | nn.Sequential) -> nn.ConvTranspose2d:
    """The transposed convolution that computes what a convolution and a pixel shuffle compute.

    Takes a :class:`SubPixelConv`, or ``nn.Sequential(nn.Conv2d, nn.PixelShuffle)``.

    Raises:
        TypeError: another kind of layer.
        ValueError: what no transposed convolution can do: a bias that differs between phases, a weight
            where it has no tap, padding by something else than zeros or beyond the kernel; a stride or a
            dilation of the convolution.
    """
    if isinstance(layer, nn.Sequential):
        layer = _from_sequential(layer)
    if not isinstance(layer, SubPixelConv):
        raise TypeError(f"only a convolution with a pixel shuffle can be converted, got {type(layer).__name__}")
    conv, rows, columns = layer.conv, layer.rows, layer.columns
    weight, area = conv.weight.detach(), rows.stride * columns.stride
    if bool((weight * ~layer.exists().to(weight.device)).any()):
        raise ValueError("a weight is not zero where the transposed convolution has no tap")
    if conv.bias is not None:
        per_phase = conv.bias.detach().unflatten(0, (-1, area))
        if not torch.equal(per_phase, per_phase[:, :1].expand_as(per_phase)):
            raise ValueError("the bias differs between phases: a transposed convolution has one for all of them")
    out = conv.out_channels // area
    result = nn.ConvTranspose2d(
        conv.in_channels, out, (rows.kernel, columns.kernel), (rows.stride, columns.stride),
        (rows.padding, columns.padding), (rows.output_padding, columns.output_padding), conv.groups,
        conv.bias is not None, (rows.dilation, columns.dilation), device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    # Number the taps, send the numbers through the map, and put each entry back where it came from.
    index_y, index_x = rows.index(), columns.index()
    phase_y, column_y = (index_y >= 0).nonzero(as_tuple=True)
    phase_x, column_x = (index_x >= 0).nonzero(as_tuple=True)
    tap_y, tap_x = index_y[phase_y, column_y], index_x[phase_x, column_x]
    v = weight.reshape(conv.groups, out // conv.groups, rows.stride, columns.stride, -1, rows.taps, columns.taps)
    v = v.permute(0, 4, 1, 2, 3, 5, 6).flatten(0, 1)  # c, o, a, b, j, l
    with torch.no_grad():
        result.weight[:, :, tap_y[:, None], tap_x[None, :]] = v[
            :, :, phase_y[:, None], phase_x[None, :], column_y[:, None], column_x[None, :]
        ]
        if conv.bias is not None:
            result.bias.copy_(conv.bias[::area])
    return result
