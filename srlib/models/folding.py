"""Layers that train in a larger form than they are used in, and how they become plain convolutions."""

from copy import deepcopy

import torch
from torch import Tensor, nn


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
