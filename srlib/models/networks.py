"""Whole networks: ``Upscaler(body, head, skip)`` by name, the baseline, and what is wrapped around them."""

from functools import partial

import torch
from torch import Tensor, nn

from srlib.errors import UsageError, known
from srlib.images.color import from_ycbcr, split_channels, to_ycbcr
from srlib.images.degrade import degrade, least_norm, resize, upsample
from srlib.images.tasks import TASKS
from srlib.models.bodies import BODIES, FROM_ICNR, HEADS, plain_body, residual_body

INITIALISATIONS = {
    "default": None,  # PyTorch's own
    "orthogonal": partial(nn.init.orthogonal_, gain=2**0.5),  # the lecture's
    "kaiming": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
}


class Upscaler(nn.Module):
    """``[N, in, h, w]`` in [0, 1] to ``[N, out, h * scale, w * scale]``, not clamped; with ``skip``, added to that
    interpolation of the input, so that the network learns only what it lacks (VDSR, Kim et al. 2016)."""

    def __init__(self, body: nn.Module, head: nn.Module, scale: int, skip: str | None) -> None:
        super().__init__()
        self.body, self.head, self.scale, self.skip = body, head, scale, skip

    def forward(self, lr: Tensor) -> Tensor:
        out = self.head(self.body(lr))
        return out if self.skip is None else upsample(lr, self.scale, self.skip) + out.to(lr.dtype)


class Interpolation(nn.Module):
    """A baseline with the interface of a network; its output is clamped to [0, 1]."""

    def __init__(self, interpolation: str = "bicubic", scale: int = 4) -> None:
        super().__init__()
        self.interpolation, self.scale = interpolation, scale

    def forward(self, lr: Tensor) -> Tensor:
        return upsample(lr, self.scale, self.interpolation).clamp(0, 1)


class _Around(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class PerChannel(_Around):
    """A gray-to-gray network applied to R, G and B in turn and merged: the lecture's final model."""

    def forward(self, lr: Tensor) -> Tensor:
        return self.model(split_channels(lr)).unflatten(0, lr.shape[:2]).squeeze(2)


class LumaOnly(_Around):
    """Full-range luma through a gray-to-gray network, chroma by bicubic, as most papers do it."""

    def forward(self, lr: Tensor) -> Tensor:
        luma, chroma = to_ycbcr(lr, limited=False).split((1, 2), dim=1)
        luma = self.model(luma)
        chroma = resize(chroma, luma.shape[-2:]).to(luma.dtype)
        return from_ycbcr(torch.cat([luma, chroma], dim=1), limited=False)


class SelfEnsemble(_Around):
    """The mean over 8 flips and rotations of the input, each turned back (Timofte et al. 2016); 8x the cost."""

    def forward(self, lr: Tensor) -> Tensor:
        total = torch.zeros((), device=lr.device)
        for turns in range(4):
            turned = torch.rot90(lr, turns, dims=(-2, -1))
            for output in (self.model(turned), self.model(turned.flip(-1)).flip(-1)):
                total = total + torch.rot90(output, -turns, dims=(-2, -1))
        return total / 8


class Consistent(_Around):
    """A network whose output, shrunk again by bicubic, gives the input: projected onto all pictures that do, which
    brings it no farther from the original where that is one of them. Clamping may undo a little of it."""

    def forward(self, lr: Tensor) -> Tensor:
        hr = self.model(lr)
        scale = hr.shape[-1] // lr.shape[-1]
        return hr + least_norm(lr - degrade(hr, "bicubic", scale, round_lr=False), "bicubic", scale)


def upscaler(in_channels: int, out_channels: int, *, scale: int = 4, body: str = "residual", width: int = 64,
             depth: int = 3, head: str = "subpixel", skip: str | None = "bicubic", init: str = "default",
             batch_norm: bool = False, dropout: float = 0.0, leak: float = 0.0) -> Upscaler:  # fmt: skip
    """A network from its parts; every named model is one call of this. UsageError for an unknown name. ``body`` is
    ``plain`` (the lecture's) or a kind of :func:`srlib.models.bodies.residual_body`; ``depth`` counts its inner
    3x3 layers or its blocks, ``width`` their channels; ``leak`` is the slope of a plain body's ReLUs below zero.
    ``init`` is for all heads but ``FROM_ICNR``."""
    for what, name, choices in (("head", head, HEADS), ("body", body, BODIES), ("init", init, INITIALISATIONS)):
        known(what, name, choices)
    if body == "plain":
        trunk, features = plain_body(in_channels, width, depth, batch_norm, dropout, leak), width // 2
    elif batch_norm or dropout or leak:
        raise UsageError(f"BatchNorm, Dropout and a leaky ReLU belong to the plain body only, not to {body!r}")
    else:
        trunk, features = residual_body(in_channels, width, depth, body), width
    network, fill = Upscaler(trunk, HEADS[head](features, out_channels, scale), scale, skip), INITIALISATIONS[init]
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            in_head = name.startswith("head")
            if fill and not (in_head and head in FROM_ICNR):
                fill(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            if in_head and skip is not None:
                layer.weight.data.mul_(0.1)  # close to the interpolation: the first steps improve on it at once
    return network


_LECTURE = {"body": "plain", "width": 64, "depth": 1, "skip": None, "init": "orthogonal"}
MODELS: dict[str, dict] = {
    "subpixel": _LECTURE,
    "subpixel-bn": {**_LECTURE, "batch_norm": True},
    "subpixel-dropout": {**_LECTURE, "dropout": 0.1},
    "subpixel-bn-dropout": {**_LECTURE, "batch_norm": True, "dropout": 0.1},
    "residual": {"body": "residual", "width": 64, "depth": 3, "head": "subpixel-icnr", "skip": "bicubic"},
    # Better than the lecture's: as small, and larger. Parameters once folded: 51,760 and 273,488.
    "small": {"body": "residual", "width": 32, "depth": 2, "head": "subpixel-ramp", "skip": "bicubic"},
    "base": {"body": "wide", "width": 32, "depth": 7, "head": "subpixel-ramp", "skip": "bicubic"},
}


def build(name: str, task: str = "rgb-rgb", scale: int = 4, **options) -> nn.Module:
    """A named network for a task, with any argument of :func:`upscaler` changed by ``options``."""
    known("model", name, MODELS)
    known("task", task, TASKS)
    return upscaler(*TASKS[task], **{"scale": scale, **MODELS[name], **options})
