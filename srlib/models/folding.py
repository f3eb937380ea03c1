"""Layers that train in a larger form than they are used in, and how they become plain convolutions."""

from copy import deepcopy

from torch import Tensor, nn


class Folding(nn.Module):
    """A layer that amounts to one convolution of odd size with padding; ``kernel`` says to which."""

    def kernel(self) -> tuple[Tensor, Tensor]:
        """The weight ``[out, in, k, k]`` and the bias ``[out]`` that all of it amounts to."""
        raise NotImplementedError

    def folded(self) -> nn.Conv2d:
        """The plain convolution that computes the same."""
        weight, bias = self.kernel()
        conv = nn.utils.skip_init(nn.Conv2d, weight.shape[1], weight.shape[0], weight.shape[2:], padding="same")
        conv = conv.to(weight)
        conv.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return conv


def folded(model: nn.Module) -> nn.Module:
    """A copy for use: every layer that was trained in a larger form is the plain convolution that it equals."""
    model = deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Folding):
                setattr(parent, name, layer.folded())
    return model
