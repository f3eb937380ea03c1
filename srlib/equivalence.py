"""A transposed convolution is a convolution and a pixel shuffle, and back again, exactly.

Shi et al. 2016, arXiv 1609.07009, state the equivalence; here it is as an index map. With weight
``W[c, o, t, u]``, kernel k, stride r and padding p, output row ``r * i + a`` of phase a reads input row
``i + j - d`` through tap ``t = r (d - j) + a + p``, so the sub-kernel of phase (a, b) is
``V[o r^2 + a r + b, c, j, l] = W[c, o, r (d - j) + a + p, r (d - l) + b + p]``, zero where a tap lies outside.
"""

import torch
from torch import Tensor, nn


class SubPixelConv(nn.Module):
    """Zero padding, a convolution to ``out * stride^2`` channels, a pixel shuffle, a crop.

    Args:
        pad: rows (and columns) of zeros before and after the LR picture.
        crop: HR pixels kept, as the difference from ``stride * size``: the output has
            ``stride * h + crop`` rows.
    """

    def __init__(self, conv: nn.Conv2d, stride: int, pad: tuple[int, int], extra: int, crop: int) -> None:
        super().__init__()
        self.conv, self.stride, self.pad, self.extra, self.crop = conv, stride, pad, extra, crop

    def forward(self, x: Tensor) -> Tensor:
        height, width = (self.stride * n + self.crop for n in x.shape[-2:])
        before, after = self.pad
        x = nn.functional.pad(x, (before, after + self.extra, before, after + self.extra))
        out = nn.functional.pixel_shuffle(self.conv(x), self.stride)
        return out[..., :height, :width]


def tap_index(kernel: int, stride: int, padding: int) -> tuple[Tensor, int]:
    """Which tap each phase reads through each column of its sub-kernel, in one dimension.

    Returns:
        ``index[a, j] = stride (d - j) + a + padding``, ``[stride, taps]``, with -1 where no tap exists,
        and d, the rows of left padding.
    """
    phases = torch.arange(stride)
    d = int(torch.div(kernel - 1 - phases - padding, stride, rounding_mode="floor").max())
    first = int(torch.div(-phases - padding, stride, rounding_mode="trunc").min())  # lowest d - j with a tap
    steps = torch.arange(d, first - 1, -1)
    index = stride * steps[None, :] + phases[:, None] + padding
    return torch.where((index >= 0) & (index < kernel), index, -1), d


def taps_per_phase(kernel: int, stride: int, padding: int = 0) -> list[int]:
    """How many taps of a transposed convolution reach an output pixel of each phase, in one dimension.

    Equal counts mean even overlap: true if and only if the stride divides the kernel.
    """
    index, _ = tap_index(kernel, stride, padding)
    return (index >= 0).sum(dim=1).tolist()


def _single(layer: nn.Module, name: str) -> int:
    value = getattr(layer, name)
    if isinstance(value, tuple):
        if len(set(value)) != 1:
            raise ValueError(f"{name} must be the same in both directions, got {value}")
        value = value[0]
    return int(value)


def to_subpixel(layer: nn.ConvTranspose2d) -> SubPixelConv:
    """The convolution + pixel shuffle that computes what a transposed convolution computes.

    Raises:
        ValueError: dilation other than 1, sides that differ, or groups other than 1.
    """
    if _single(layer, "dilation") != 1:
        raise ValueError(f"only dilation 1 can be converted, got {layer.dilation}")
    if layer.groups != 1:
        raise ValueError(f"only groups = 1 can be converted, got {layer.groups}")
    kernel, stride, padding = (_single(layer, name) for name in ("kernel_size", "stride", "padding"))
    index, d = tap_index(kernel, stride, padding)
    taps = index.shape[1]
    weight = layer.weight.detach()
    padded = nn.functional.pad(weight, (0, 1, 0, 1))  # index -1 now reads a zero
    v = padded[:, :, index[:, None, :, None], index[None, :, None, :]]  # c, o, a, b, j, l
    c, o = weight.shape[:2]
    conv = nn.Conv2d(c, o * stride**2, taps, bias=layer.bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        conv.weight.copy_(v.permute(1, 2, 3, 0, 4, 5).reshape(o * stride**2, c, taps, taps))
        if layer.bias is not None:
            conv.bias.copy_(layer.bias.repeat_interleave(stride**2))
    # The output is (h - 1) r + k - 2 p + q rows. Past r h rows the shuffle needs more LR rows.
    crop = kernel - stride - 2 * padding + _single(layer, "output_padding")
    extra = max(0, -(-crop // stride))
    return SubPixelConv(conv, stride, (d, taps - 1 - d), extra, crop)
