"""Bodies make features at LR size, heads turn channels into pixels; some layers train larger and are folded."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from srlib.errors import UsageError
from srlib.images.degrade import placed

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
    """The lecture's stack: 5x5 to ``width``, ``depth`` times 3x3, 3x3 to ``width // 2``, and a ReLU after each."""
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
    """The convolution before a pixel shuffle, tied so that it prints no grid on constants, or ramps, however it is
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
