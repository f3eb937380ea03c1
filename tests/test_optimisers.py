"""Muon: orthogonal steps, equal to PyTorch's where that one exists, kernels taken as matrices."""

import pytest
import torch
from torch import nn

from srlib.train.optimisers import Muon, make_optimisers


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
def test_steps_are_those_of_pytorch():
    """PyTorch iterates in bfloat16, hence the tolerance; the sides of the matrix differ on purpose."""
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(24, 10)) for _ in range(2))
    one = Muon([ours], lr=0.01, weight_decay=2.0)
    other = torch.optim.Muon([theirs], lr=0.01, weight_decay=2.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(24, 10)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    moved = (theirs - 1).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() < 0.02 * moved


def test_kernels_of_one_shape_step_as_each_would_alone():
    torch.manual_seed(0)
    kernels = [nn.Parameter(torch.randn(6, 4, 3, 3)) for _ in range(3)]
    kernels[1].data = kernels[1].data.to(memory_format=torch.channels_last)
    matrices = [nn.Parameter(kernel.detach().flatten(1)) for kernel in kernels]
    together, alone = Muon(kernels, lr=0.1), [Muon([matrix], lr=0.1) for matrix in matrices]
    for _ in range(3):
        for kernel, matrix in zip(kernels, matrices):
            kernel.grad = torch.randn_like(kernel)
            matrix.grad = kernel.grad.flatten(1)
        together.step()
        for one in alone:
            one.step()
    for kernel, matrix in zip(kernels, matrices):
        torch.testing.assert_close(kernel.flatten(1), matrix, rtol=1e-4, atol=1e-5)


def test_every_weight_has_one_optimiser():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    for name, count in (("adam", 1), ("muon", 2)):
        made = make_optimisers(name, model, 1e-3)
        held = [id(w) for optimiser in made for group in optimiser.param_groups for w in group["params"]]
        assert len(made) == count
        assert sorted(held) == sorted(id(w) for w in model.parameters())
    assert {w.ndim for w in made[0].param_groups[0]["params"]} == {4}
