"""What a network costs: parameters and multiply-adds, layer by layer."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


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
