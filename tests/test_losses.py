"""Training losses: values, gradients, and the adversarial loss that brings its own opponent."""

import pytest
import torch

from srlib.measure import library, metrics
from srlib.train import losses


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth ones, and what they are smoothed from."""
    target = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(target[..., ::4, ::4], scale_factor=4, mode="bilinear")
    return smooth, target


def test_losses_equal_the_metrics_of_their_name(pictures):
    output, target = pictures
    error = output - target
    luma = 0.299 * error[:, 0] + 0.587 * error[:, 1] + 0.114 * error[:, 2]
    plain, lpips = {"crop_border": 0, "channels": "as-is"}, library.lpips(output, target)
    wanted = {
        "mse": metrics.mse(output, target, **plain).mean(),
        "l1": error.abs().mean(),
        "charbonnier": (error**2 + 1e-6).sqrt().mean(),
        "luma": ((error**2 + 1e-6).sqrt().mean() + 2 * (luma**2 + 1e-6).sqrt().mean()) / 3,
        "ssim": 1 - metrics.ssim(output, target, **plain).mean(),
        "lpips": lpips.mean(),
        "perceptual": (metrics.mse(output, target, **plain) + 0.003 * lpips).mean(),
    }
    for name, loss in losses.LOSSES.items():
        assert float(loss(output, target)) == pytest.approx(float(wanted[name]), abs=1e-5), name
    gray = output[:, :1], target[:, :1]
    assert losses.luma_loss(*gray) == losses.charbonnier_loss(*gray)


def test_the_discriminator_learns_by_itself_alone_and_repeatably(pictures):
    output, target = pictures[0].requires_grad_(), pictures[1]
    before = torch.get_rng_state()
    loss, other = (losses.Adversarial(1.0, 3e-3, seed=3) for _ in "ab")
    value = loss(output, target)
    assert value == other(output, target)
    assert torch.equal(torch.get_rng_state(), before), "the random state is left alone"
    gradients = [p.grad.clone() for p in loss.judge.parameters()]  # of the discriminator's own step
    value.backward()
    assert output.grad.abs().sum() > 0
    assert all(torch.equal(p.grad, own) for p, own in zip(loss.judge.parameters(), gradients))
    for _ in range(39):
        loss(output, target)
    assert loss.judge(target).sigmoid().mean() > 0.6
    assert loss.judge(output).sigmoid().mean() < 0.4
    assert repr(loss) == "Adversarial(1.0, 0.003, 32, 3)", "of which the key of an experiment is made"
