"""The networks of the course: one body, many ways to make pixels, and what they cost.

A network here is ``Upscaler(body, head, skip)``: a stack of convolutions at LR size, a head that turns
channels into scale x scale pixels, and optionally an interpolation of the input to which it all is added.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from srlib.color import from_ycbcr, to_ycbcr
from srlib.degrade import INTERPOLATIONS, upsample

# ---------------------------------------------------------------- initialisation


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


# ---------------------------------------------------------------- heads: channels to pixels


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


class TiedConv2d(nn.Conv2d):
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

    def tied(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as they are used."""
        area, kernel = self.scale**2, self.kernel_size
        projection = self.projection
        if self.weight.dtype == torch.float64:  # the buffer was rounded to float32
            projection = tying(self.scale, kernel[0], self.order).to(self.weight)
        taps = self.weight.unflatten(0, (-1, area)).transpose(1, 2).flatten(2)  # out, in, phase and tap
        taps = (taps @ projection).unflatten(2, (area, *kernel)).transpose(1, 2)
        bias = self.bias.unflatten(0, (-1, area)).mean(dim=1)
        return taps.flatten(0, 1), bias.repeat_interleave(area)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round the condition away
            weight, bias = self.tied()
        return self._conv_forward(x, weight, bias)

    def folded(self) -> nn.Conv2d:
        """The plain convolution that computes the same."""
        weight, bias = self.tied()
        conv = nn.Conv2d(self.in_channels, self.out_channels, self.kernel_size, padding=self.padding)
        conv = conv.to(weight)
        conv.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return conv


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

# ---------------------------------------------------------------- bodies: features at LR size


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation (EDSR, Lim et al. 2017, figure 2c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

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


def residual_body(in_channels: int, width: int, blocks: int) -> nn.Sequential:
    """A 3x3 convolution to ``width`` and ``blocks`` residual blocks."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), *(ResidualBlock(width) for _ in range(blocks))
    )


# ---------------------------------------------------------------- whole networks


class Upscaler(nn.Module):
    """``[N, in, h, w]`` in [0, 1] to ``[N, out, h * scale, w * scale]``; the output is not clamped.

    Args:
        skip: an interpolation to add to the output ("bicubic", ...), or None. With a skip the network
            learns only what the interpolation lacks (VDSR, Kim et al. 2016). A gray input is added to
            each of the output channels.
    """

    def __init__(self, body: nn.Module, head: nn.Module, scale: int, skip: str | None) -> None:
        super().__init__()
        self.body, self.head, self.scale, self.skip = body, head, scale, skip

    def forward(self, lr: Tensor) -> Tensor:
        out = self.head(self.body(lr))
        return out if self.skip is None else upsample(lr, self.scale, self.skip) + out.to(lr.dtype)


class Interpolation(nn.Module):
    """A baseline with the interface of a network: nothing to train, output clamped to [0, 1]."""

    def __init__(self, interpolation: str = "bicubic", scale: int = 4) -> None:
        super().__init__()
        self.interpolation, self.scale = interpolation, scale

    def forward(self, lr: Tensor) -> Tensor:
        return upsample(lr, self.scale, self.interpolation).clamp(0, 1)


class PerChannel(nn.Module):
    """A gray-to-gray network applied to R, G and B in turn and merged: the lecture's final model."""

    def __init__(self, gray_model: nn.Module) -> None:
        super().__init__()
        self.gray_model = gray_model

    def forward(self, lr: Tensor) -> Tensor:
        n, c, h, w = lr.shape
        out = self.gray_model(lr.reshape(n * c, 1, h, w))
        return out.reshape(n, c, *out.shape[-2:])


class LumaOnly(nn.Module):
    """Luma through a gray-to-gray network, chroma by bicubic interpolation: what the field's papers do.

    ``[N, 3, h, w]`` to ``[N, 3, h * scale, w * scale]``. Luma is full-range BT.601, the gray that the network
    was trained on. Not clamped.
    """

    def __init__(self, gray_model: nn.Module, scale: int = 4) -> None:
        super().__init__()
        self.gray_model, self.scale = gray_model, scale

    def forward(self, lr: Tensor) -> Tensor:
        ycbcr = to_ycbcr(lr, limited=False)
        luma = self.gray_model(ycbcr[:, :1])
        chroma = upsample(ycbcr[:, 1:], self.scale).to(luma.dtype)
        return from_ycbcr(torch.cat([luma, chroma], dim=1), limited=False)


class SelfEnsemble(nn.Module):
    """The mean over 8 flips and rotations of the input, each turned back (Timofte et al. 2016); 8x the cost."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, lr: Tensor) -> Tensor:
        outputs = []
        for turns in range(4):
            turned = torch.rot90(lr, turns, dims=(-2, -1))
            outputs.append(torch.rot90(self.model(turned), -turns, dims=(-2, -1)))
            mirrored = self.model(turned.flip(-1)).flip(-1)
            outputs.append(torch.rot90(mirrored, -turns, dims=(-2, -1)))
        return torch.stack(outputs).mean(dim=0)


def upscaler(
    in_channels: int,
    out_channels: int,
    *,
    scale: int = 4,
    body: str = "residual",
    width: int = 64,
    depth: int = 3,
    head: str = "subpixel",
    skip: str | None = "bicubic",
    init: str = "default",
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> Upscaler:
    """A network from its parts; every named model is one call of this.

    Args:
        body: ``plain`` (the lecture's) or ``residual``. head: a key of ``HEADS``.
        width: channels at LR size. depth: 3x3 layers between first and last (plain) or blocks (residual).
        init: ``default``, ``orthogonal`` or ``kaiming``, see :func:`initialise_`; a head that starts
            from ICNR keeps it.

    Raises:
        ValueError: unknown body, head or initialisation.
    """
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}: choose from {', '.join(HEADS)}")
    if body == "plain":
        trunk, features = plain_body(in_channels, width, depth, batch_norm, dropout), width // 2
    elif body == "residual":
        if batch_norm or dropout:
            raise ValueError("BatchNorm and Dropout belong to the plain body only")
        trunk, features = residual_body(in_channels, width, depth), width
    else:
        raise ValueError(f"unknown body {body!r}: choose plain or residual")
    top = HEADS[head](features, out_channels, scale)
    initialise_(trunk, init)
    if not head.endswith(("icnr", "box", "tied", "ramp")):  # these start from ICNR
        initialise_(top, init)
    if skip is not None:
        # Start close to the interpolation: the first steps then improve on it instead of finding it.
        for layer in top.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.data.mul_(0.1)
    return Upscaler(trunk, top, scale, skip)


_LECTURE = {"body": "plain", "width": 64, "depth": 1, "skip": None, "init": "orthogonal"}
MODELS: dict[str, dict] = {
    "subpixel": _LECTURE,
    "subpixel-bn": {**_LECTURE, "batch_norm": True},
    "subpixel-dropout": {**_LECTURE, "dropout": 0.1},
    "subpixel-bn-dropout": {**_LECTURE, "batch_norm": True, "dropout": 0.1},
    "residual": {"body": "residual", "width": 64, "depth": 3, "head": "subpixel-icnr", "skip": "bicubic"},
}
TASKS = {"rgb-rgb": (3, 3), "gray-rgb": (1, 3), "gray-gray": (1, 1)}


def build(name: str, task: str = "rgb-rgb", scale: int = 4, **options) -> Upscaler:
    """A named network for a task, with any argument of :func:`upscaler` changed by ``options``.

    Raises:
        ValueError: unknown model or task, or an option that :func:`upscaler` refuses.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
    return upscaler(*TASKS[task], **{"scale": scale, **MODELS[name], **options})


# ---------------------------------------------------------------- what a network costs


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def layer_table(model: nn.Module, input_shape: Iterable[int]) -> list[dict]:
    """One row per leaf layer in the order of execution, for one input of ``[N, C, H, W]``.

    Keys: ``name``, ``layer``, ``output`` (shape), ``parameters``, ``multiply_adds`` (of convolutions;
    biases, activations and interpolations are not counted, as is usual in the field's tables).
    """
    rows: list[dict] = []

    def hook(name: str) -> Callable:
        def record(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            multiply_adds = 0
            if isinstance(layer, nn.Conv2d):
                multiply_adds = layer.weight[0].numel() * output.numel()
            elif isinstance(layer, nn.ConvTranspose2d):
                multiply_adds = layer.weight[0].numel() * inputs[0].numel()
            rows.append(
                {
                    "name": name,
                    "layer": type(layer).__name__,
                    "output": tuple(output.shape),
                    "parameters": sum(p.numel() for p in layer.parameters()),
                    "multiply_adds": multiply_adds,
                }
            )

        return record

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    handles = [m.register_forward_hook(hook(n)) for n, m in leaves]
    parameter = next(model.parameters(), torch.zeros(()))
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(*input_shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return rows


def count_multiply_adds(model: nn.Module, input_shape: Iterable[int]) -> int:
    """Multiply-adds of all convolutions for one input of ``[N, C, H, W]``."""
    return sum(row["multiply_adds"] for row in layer_table(model, input_shape))
