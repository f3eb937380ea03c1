"""The networks of the course, each an ``Upscaler(body, head, skip)``, and what they cost."""

from collections.abc import Iterable
from functools import partial
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from srlib.models.bodies import HEADS, TiedConv2d, folded, icnr_, tying
from srlib.models.networks import MODELS, Interpolation, LumaOnly, PerChannel, SelfEnsemble, build, upscaler


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def layer_table(model: nn.Module, input_shape: Iterable[int]) -> list[dict]:
    """One row per leaf layer of the folded network in the order of execution, for one input of ``[N, C, H, W]``;
    ``multiply_adds`` are those of convolutions, without biases, activations and interpolations, as is usual."""
    rows: list[dict] = []

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        pixels = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        taps = layer.weight[0].numel() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else 0
        row: dict = {"name": name, "layer": type(layer).__name__, "output": tuple(output.shape)}
        row |= {"multiply_adds": taps * pixels.numel(), "parameters": sum(p.numel() for p in layer.parameters())}
        rows.append(row)

    model = folded(model).eval()  # a copy, which may keep its hooks
    for name, layer in model.named_modules():
        if not list(layer.children()):
            layer.register_forward_hook(partial(record, name))
    with torch.no_grad():
        model(next(model.parameters(), torch.zeros(())).new_zeros(tuple(input_shape)))
    return rows


def count_multiply_adds(model: nn.Module, input_shape: Iterable[int]) -> int:
    """Multiply-adds of all convolutions for one input of ``[N, C, H, W]``."""
    return sum(row["multiply_adds"] for row in layer_table(model, input_shape))


@torch.no_grad()
def milliseconds(networks: Iterable[nn.Module], lr: Tensor, *, repeats: int = 15) -> list[float]:
    """Median time of a forward pass of each network in eval mode, in turns: a slow moment then hits all alike."""
    networks = [network.eval() for network in networks]
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(repeats + 2):  # two to warm up
        for network, column in zip(networks, times):
            start = perf_counter()
            network(lr)
            if lr.device.type != "cpu":
                torch.accelerator.synchronize(lr.device)
            column.append(1e3 * (perf_counter() - start))
    return [median(column[2:]) for column in times]
