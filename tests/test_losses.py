"""Training losses: values, gradients, and the adversarial loss that brings its own opponent."""

import pytest
import torch

from srlib.measure import library, metrics
from srlib.train import losses


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 64, 64, generator=generator)
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def test_losses_equal_the_metrics_of_their_name(pictures):
    output, target = pictures
    plain, lpips = {"crop_border": 0, "channels": "as-is"}, library.lpips(output, target)
    wanted = {
        "mse": metrics.mse(output, target, **plain).mean(),
        "l1": (output - target).abs().mean(),
        "charbonnier": ((output - target) ** 2 + 1e-6).sqrt().mean(),
        "ssim": 1 - metrics.ssim(output, target, **plain).mean(),
        "lpips": lpips.mean(),
        "perceptual": (metrics.mse(output, target, **plain) + 0.003 * lpips).mean(),
    }
    for name, loss in losses.LOSSES.items():
        assert float(loss(output, target)) == pytest.approx(float(wanted[name]), abs=1e-5), name


@pytest.mark.parametrize("name", [*losses.LOSSES, "adversarial"])
def test_a_step_down_the_gradient_lowers_the_loss(pictures, name):
    output, target = pictures
    loss = losses.LOSSES.get(name) or losses.Adversarial(0.0)
    output = output.clone().requires_grad_()
    before = loss(output, target)
    (gradient,) = torch.autograd.grad(before, output)
    assert torch.isfinite(gradient).all()
    after = loss(output.detach() - 0.05 * gradient / gradient.norm(), target)
    assert after < before


def test_the_discriminator_learns_to_tell_the_two_apart(pictures):
    _, target = pictures
    output = torch.nn.functional.interpolate(target[..., ::4, ::4], scale_factor=4, mode="bilinear")
    loss = losses.Adversarial(0.01, learning_rate=3e-3)
    for _ in range(40):
        loss(output, target)
    first, last = loss.history[0], loss.history[-1]
    assert len(loss.history) == 40
    assert last["loss"] < first["loss"]
    assert last["photo"] > 0.6
    assert last["output"] < 0.4


def test_adversarial_gradient_reaches_the_output_alone(pictures):
    output, target = pictures
    loss = losses.Adversarial(1.0)
    output = output.clone().requires_grad_()
    value = loss(output, target)
    before = [p.grad.clone() for p in loss.judge.parameters()]  # of the discriminator's own step
    value.backward()
    assert output.grad.abs().sum() > 0
    assert all(torch.equal(p.grad, b) for p, b in zip(loss.judge.parameters(), before))


def test_adversarial_is_repeatable_and_leaves_the_random_state_alone(pictures):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    values = [float(losses.Adversarial(0.1, seed=3)(*pictures)) for _ in range(2)]
    assert values[0] == values[1]
    assert torch.equal(torch.rand(1), expected)
    assert repr(losses.Adversarial(0.1, seed=3)) == "Adversarial(0.1, 0.0005, 32, 3)"


def test_detail_is_what_a_low_resolution_picture_lacks():
    detail = losses.Detail()
    assert detail(torch.full((1, 3, 32, 32), 0.7)).abs().max() < 1e-5
    checker = 0.1 * (1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)).float().expand(1, 3, -1, -1)
    assert torch.allclose(detail(0.5 + checker), 10 * checker, atol=1e-5)
