"""How a step follows from gradients: Adam, or Muon for kernels; and the running average of the weights."""

from functools import partial

import torch
from torch import Tensor, nn


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest matrices with all singular values 1, roughly: ``[n, rows, columns]`` to the same. Five steps of
    a Newton-Schulz iteration with the coefficients of Jordan 2024, which are quick, not exact: singular values end
    between 0.7 and 1.2, and those below about 1e-3 of the norm lag behind."""
    a, b, c = 3.4445, -4.7750, 2.0315
    upright = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if upright else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if upright else x


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, for kernels (Jordan 2024, kellerjordan.github.io/posts/muon).
    A kernel ``[out, in, k, k]`` is taken as a matrix ``[out, in * k * k]``. Few directions dominate its gradients,
    which Adam evens only in part; :func:`orthogonalised` momentum moves all about equally far. Steps are scaled by
    0.2 sqrt(larger side), to the size of Adam's, so that its learning rates serve (Liu et al. 2025, arXiv
    2502.16982); before each, a kernel loses ``lr * weight_decay``. ``torch.optim.Muon`` takes matrices alone."""

    def __init__(self, kernels: list[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        shapes = dict.fromkeys(kernel.shape for kernel in kernels)  # each once, in order
        groups = [{"params": [kernel for kernel in kernels if kernel.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": 0.95, "weight_decay": weight_decay})
        self.state.update({kernel: {"momentum": torch.zeros_like(kernel)} for kernel in kernels})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step, with Nesterov's look ahead; a group holds the kernels of one shape, which go together."""
        for group in self.param_groups:
            kernels = group["params"]
            gradients, momenta = zip(*[(kernel.grad, self.state[kernel]["momentum"]) for kernel in kernels])
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
            steps = orthogonalised(torch.stack(ahead).flatten(2))
            moves = [step.reshape_as(kernel) for step, kernel in zip(steps, kernels)]
            torch._foreach_mul_(kernels, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(kernels, moves, alpha=-0.2 * max(steps.shape[-2:]) ** 0.5 * group["lr"])


def make_optimisers(name: str, model: nn.Module, lr: float, decay: float = 0.0) -> list[torch.optim.Optimizer]:
    """The optimisers that together step all weights of a model; ``name`` is ``adam`` or ``muon``. Kernels
    alone decay, decoupled from their gradients (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
    weights = list(model.parameters())
    kernels, rest = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim < 2]
    adam = partial(torch.optim.AdamW, lr=lr, weight_decay=0.0, fused=weights[0].device.type != "mps")
    if name == "muon":
        return [Muon(kernels, lr, decay), adam(rest)]
    return [adam([{"params": kernels, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}])]


class Average:
    """Exponential moving average of weights (Polyak), with a warm-up so that step 0 does not linger. PyTorch's own
    ``AveragedModel`` reads its count back from the device at every update, which makes a GPU wait."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model.requires_grad_(False), decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after step ``step``; buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.copy_(theirs)
