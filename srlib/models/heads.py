"""Heads, the ways to turn channels into scale x scale pixels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from srlib.errors import UsageError
from srlib.images.degrade import placed
from srlib.models.bodies import Folding, conv3


def icnr_(weight: Tensor, scale: int) -> Tensor:
    """Fill ``[C * scale^2, in, k, k]`` so that the scale^2 sub-kernels of each channel are equal: it starts as
    nearest-neighbour upsampling, without a grid (Aitken et al. 2017, arXiv 1707.02937, section 3)."""
    if weight.shape[0] % scale**2:
        raise ValueError(f"{weight.shape[0]} output channels are no multiple of scale^2 = {scale**2}")
    with torch.no_grad():
        kernel = nn.init.kaiming_normal_(torch.empty_like(weight[:: scale**2]))
        return weight.copy_(kernel.repeat_interleave(scale**2, dim=0))


def tying(scale: int, kernel: int, order: int) -> Tensor:
    """The projection ``[n, n]``, float64, of the ``[scale^2, kernel, kernel]`` taps of two channels, flattened,
    onto the nearest under which a constant (order 0), and a ramp too (order 1), comes out as one. All phases then
    have the same sum of taps, and for order 1 the same first moment less place times sum, where place is how far
    the phase's pixel lies from the middle of its LR pixel."""
    if order not in (0, 1):
        raise ValueError(f"order must be 0 (constants) or 1 (ramps too), got {order}")
    place = (torch.arange(scale, dtype=torch.float64) - (scale - 1) / 2) / scale
    tap = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    down, across = tap[:, None] - place[:, None, None, None], tap - place[:, None, None]
    kept = [torch.ones_like(down), down, across][: 1 + 2 * order]
    moments = torch.stack([m.expand(scale, scale, kernel, kernel).reshape(scale**2, kernel**2) for m in kept])
    deviation = torch.eye(scale**2, dtype=torch.float64) - 1 / scale**2
    conditions = (deviation[None, :, :, None] * moments[:, None]).flatten(2).flatten(0, 1)
    return torch.eye(conditions.shape[1], dtype=torch.float64) - torch.linalg.pinv(conditions) @ conditions


class TiedConv2d(Folding, nn.Conv2d):
    """The convolution before a pixel shuffle, tied so that it prints no grid on constants, or on ramps, whatever is
    trained: in use are its weights projected by :func:`tying`, and one bias for all phases. Starts from ICNR."""

    bias: nn.Parameter

    def __init__(self, width: int, out: int, scale: int, kernel: int = 3, order: int = 1) -> None:
        super().__init__(width, out * scale**2, kernel, padding=kernel // 2)
        self.scale, self.order = scale, order
        icnr_(self.weight, scale)
        nn.init.zeros_(self.bias)

    def kernel(self) -> tuple[Tensor, Tensor]:
        area, size = self.scale**2, self.kernel_size
        # Wherever TF32 is allowed, CUDA would round a float32 product to 10 bits, and the sums would differ.
        exact = torch.float64 if self.weight.is_cuda else self.weight.dtype
        projection = placed(tying, (self.scale, size[0], self.order), exact, self.weight.device)
        taps = self.weight.unflatten(0, (-1, area)).transpose(1, 2).flatten(2)  # out, in, phase and tap
        taps = (taps.to(exact) @ projection).to(taps.dtype)
        bias = self.bias.unflatten(0, (-1, area)).mean(dim=1)
        return taps.unflatten(2, (area, *size)).transpose(1, 2).flatten(0, 1), bias.repeat_interleave(area)


def _subpixel(width: int, out: int, scale: int, icnr: bool = False) -> nn.Sequential:
    conv = conv3(width, out * scale**2)
    if icnr:
        icnr_(conv.weight, scale)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.PixelShuffle(scale))


def _box(scale: int) -> nn.Sequential:
    """The mean over scale x scale pixels, zero at every frequency where a grid would stand, so that no weights can
    bring it back (Sugawara, Shiota and Kiya 2018; Kinoshita and Kiya 2020, arXiv 2002.02117)."""
    return nn.Sequential(nn.ReplicationPad2d((scale // 2, (scale - 1) // 2) * 2), nn.AvgPool2d(scale, stride=1))


def _two_steps(width: int, out: int, scale: int) -> nn.Sequential:
    if scale != 4:
        raise UsageError(f"the head subpixel-2x2 is made for scale 4, got {scale}")
    return nn.Sequential(_subpixel(width, width, 2), nn.ReLU(), _subpixel(width, out, 2))


def _transposed(width: int, out: int, scale: int, kernel: int) -> nn.ConvTranspose2d:
    spare = kernel - scale  # the output is (h - 1) * scale + kernel - 2 * padding + output_padding
    return nn.ConvTranspose2d(width, out, kernel, scale, padding=(spare + 1) // 2, output_padding=spare % 2)


HEADS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "subpixel": _subpixel,
    "subpixel-icnr": lambda w, o, s: _subpixel(w, o, s, icnr=True),
    "subpixel-tied": lambda w, o, s: nn.Sequential(TiedConv2d(w, o, s, order=0), nn.PixelShuffle(s)),
    "subpixel-ramp": lambda w, o, s: nn.Sequential(TiedConv2d(w, o, s, order=1), nn.PixelShuffle(s)),
    "subpixel-icnr-box": lambda w, o, s: nn.Sequential(_subpixel(w, o, s, icnr=True), _box(s)),
    "subpixel-2x2": _two_steps,
    "transposed-divisible": lambda w, o, s: _transposed(w, o, s, 3 * s),
    "transposed-overlap": lambda w, o, s: _transposed(w, o, s, 2 * s + 1),
    "nearest-conv": lambda w, o, s: nn.Sequential(nn.Upsample(scale_factor=s, mode="nearest-exact"), conv3(w, o)),
    "bilinear-conv": lambda w, o, s: nn.Sequential(nn.Upsample(scale_factor=s, mode="bilinear"), conv3(w, o)),
}
FROM_ICNR = {"subpixel-icnr", "subpixel-tied", "subpixel-ramp", "subpixel-icnr-box"}  # whatever ``init`` says
