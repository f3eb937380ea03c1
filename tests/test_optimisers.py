"""Muon: orthogonal steps, equal to PyTorch's, kernels taken as matrices; the running average of weights."""

import pytest
import torch
from torch import nn

from srlib.train.optimisers import Average, Muon, make_optimisers


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
def test_steps_are_those_of_pytorch_on_each_kernel_as_a_matrix():
    """PyTorch iterates in bfloat16, hence the tolerance; kernels of one shape go together."""
    torch.manual_seed(0)
    kernels = [nn.Parameter(torch.randn(24, 10, 1, 1)) for _ in range(3)] + [nn.Parameter(torch.randn(6, 4, 3, 3))]
    kernels[3].data = kernels[3].data.to(memory_format=torch.channels_last)
    matrices = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in kernels]
    before, ours = [matrix.detach().clone() for matrix in matrices], Muon(kernels, lr=0.01, weight_decay=2.0)
    theirs = torch.optim.Muon(matrices, lr=0.01, weight_decay=2.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for kernel, matrix in zip(kernels, matrices):
            kernel.grad = torch.randn_like(kernel)
            matrix.grad = kernel.grad.flatten(1)
        ours.step()
        theirs.step()
    for kernel, matrix, start in zip(kernels, matrices, before):
        moved = (matrix - start).norm()
        assert moved > 0.02
        assert (kernel.flatten(1) - matrix).norm() < 0.02 * moved


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_every_weight_has_one_optimiser_and_kernels_alone_decay(name):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    groups = [group for made in make_optimisers(name, model, 1e-3, 0.1) for group in made.param_groups]
    decays = [(id(weight), group["weight_decay"]) for group in groups for weight in group["params"]]
    assert sorted(decays) == sorted((id(weight), 0.1 * (weight.ndim > 1)) for weight in model.parameters())


def test_average_is_the_running_mean_of_the_weights():
    model, average = nn.Linear(1, 1), Average(nn.Linear(1, 1), 0.9)
    average.model.load_state_dict(model.state_dict())
    expected = model.weight.item()
    for step in range(100):
        model.weight.data += 1
        average.update(model, step)
        expected += (model.weight.item() - expected) * (1 - min(0.9, (1 + step) / (10 + step)))
        assert average.model.weight.item() == pytest.approx(expected, rel=1e-5)
