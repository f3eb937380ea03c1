"""Heads: the ways to turn channels into scale x scale pixels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from srlib.images.degrade import INTERPOLATIONS, upsample
from srlib.models.folding import Folding
from srlib.models.initialisation import icnr_


class BoxFilter(nn.Module):
    """The mean over scale x scale pixels at every HR position, a zero-order hold.

    Its frequency response is zero at every multiple of 1 / scale, where a grid would stand, so no weights
    can bring the grid back (Sugawara, Shiota and Kiya 2018; Kinoshita and Kiya 2020, arXiv 2002.02117).
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.scale // 2
        after = self.scale - 1 - before
        x = nn.functional.pad(x, (before, after, before, after), mode="replicate")
        return nn.functional.avg_pool2d(x, self.scale, stride=1)


class Resize(nn.Module):
    """Enlarge by interpolation; ``nearest``, ``bilinear``, ``bicubic`` ... as in ``degrade``."""

    def __init__(self, scale: int, interpolation: str) -> None:
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"unknown interpolation {interpolation!r}: choose from {', '.join(INTERPOLATIONS)}")
        self.scale, self.interpolation = scale, interpolation

    def forward(self, x: Tensor) -> Tensor:
        if self.interpolation == "nearest":
            return nn.functional.interpolate(x, scale_factor=self.scale, mode="nearest-exact")
        if self.interpolation == "bilinear":  # PyTorch's own keeps the memory layout and is faster
            return nn.functional.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return upsample(x, self.scale, self.interpolation).to(x.dtype)


def tying(scale: int, kernel: int, order: int) -> Tensor:
    """The projection of the sub-kernels before a pixel shuffle onto those that keep polynomials, float64.

    Takes the ``[scale^2, kernel, kernel]`` taps of one input and one output channel, flattened, to the nearest
    taps under which a constant (order 0), and a ramp too (order 1), comes out as one. In numbers: the sums of
    the taps are equal for all phases, and for order 1 so is the first moment less place times sum, where
    place is how far the phase's pixel lies from the middle of its LR pixel. Symmetric, ``[n, n]``.

    Raises:
        ValueError: another order.
    """
    if order not in (0, 1):
        raise ValueError(f"order must be 0 (constants) or 1 (ramps too), got {order}")
    place = (torch.arange(scale, dtype=torch.float64) - (scale - 1) / 2) / scale
    tap = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    down = tap.view(1, 1, -1, 1) - place.view(-1, 1, 1, 1)
    across = tap.view(1, 1, 1, -1) - place.view(1, -1, 1, 1)
    shape = (scale, scale, kernel, kernel)
    moments = [torch.ones_like(down), down, across][: 1 + 2 * order]
    moments = torch.stack([m.expand(shape).reshape(scale**2, kernel**2) for m in moments])
    deviation = torch.eye(scale**2, dtype=torch.float64) - 1 / scale**2
    conditions = (deviation[None, :, :, None] * moments[:, None]).flatten(2).flatten(0, 1)
    return torch.eye(conditions.shape[1], dtype=torch.float64) - torch.linalg.pinv(conditions) @ conditions


class TiedConv2d(nn.Conv2d, Folding):
    """The convolution before a pixel shuffle, tied so that it prints no grid on constants, or on ramps.

    The weights in use are those stored, projected by :func:`tying`, so that no training can leave the
    condition; one bias serves all phases. Starts from ICNR. A network in use is :meth:`folded` into a plain
    convolution: no cost is left.
    """

    def __init__(self, width: int, out: int, scale: int, kernel: int = 3, order: int = 1) -> None:
        super().__init__(width, out * scale**2, kernel, padding=kernel // 2)
        self.scale = scale
        self.register_buffer("projection", tying(scale, kernel, order).float(), persistent=False)
        self.order = order
        icnr_(self.weight, scale)
        nn.init.zeros_(self.bias)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as they are used."""
        area, size = self.scale**2, self.kernel_size
        projection = self.projection
        if self.weight.dtype == torch.float64:  # the buffer was rounded to float32
            projection = tying(self.scale, size[0], self.order).to(self.weight)
        taps = self.weight.unflatten(0, (-1, area)).transpose(1, 2).flatten(2)  # out, in, phase and tap
        taps = (taps @ projection).unflatten(2, (area, *size)).transpose(1, 2)
        bias = self.bias.unflatten(0, (-1, area)).mean(dim=1)
        return taps.flatten(0, 1), bias.repeat_interleave(area)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round the condition away
            weight, bias = self.kernel()
        return self._conv_forward(x, weight, bias)


def _subpixel(width: int, out: int, scale: int, kernel: int = 3, icnr: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(width, out * scale**2, kernel, padding=kernel // 2)
    if icnr:
        icnr_(conv.weight, scale)
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.PixelShuffle(scale))


def _tied(width: int, out: int, scale: int, order: int) -> nn.Sequential:
    return nn.Sequential(TiedConv2d(width, out, scale, order=order), nn.PixelShuffle(scale))


def _two_steps(width: int, out: int, scale: int) -> nn.Sequential:
    if scale != 4:
        raise ValueError(f"the head subpixel-2x2 is made for scale 4, got {scale}")
    return nn.Sequential(_subpixel(width, width, 2), nn.ReLU(), _subpixel(width, out, 2))


def _transposed(width: int, out: int, scale: int, kernel: int) -> nn.ConvTranspose2d:
    spare = kernel - scale  # the output is (h - 1) * scale + kernel - 2 * padding + output_padding
    padding = (spare + 1) // 2
    return nn.ConvTranspose2d(width, out, kernel, scale, padding, output_padding=2 * padding - spare)


def _resize_conv(width: int, out: int, scale: int, interpolation: str) -> nn.Sequential:
    return nn.Sequential(Resize(scale, interpolation), nn.Conv2d(width, out, 3, padding=1))


HEADS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "subpixel": _subpixel,
    "subpixel-icnr": lambda w, o, s: _subpixel(w, o, s, icnr=True),
    "subpixel-tied": lambda w, o, s: _tied(w, o, s, order=0),
    "subpixel-ramp": lambda w, o, s: _tied(w, o, s, order=1),
    "subpixel-icnr-box": lambda w, o, s: nn.Sequential(_subpixel(w, o, s, icnr=True), BoxFilter(o, s)),
    "subpixel-2x2": _two_steps,
    "transposed-divisible": lambda w, o, s: _transposed(w, o, s, 3 * s),
    "transposed-overlap": lambda w, o, s: _transposed(w, o, s, 2 * s + 1),
    "nearest-conv": lambda w, o, s: _resize_conv(w, o, s, "nearest"),
    "bilinear-conv": lambda w, o, s: _resize_conv(w, o, s, "bilinear"),
}
