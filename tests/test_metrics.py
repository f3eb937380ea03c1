"""PSNR and SSIM against scikit-image; the library's metrics against second implementations; losses against both;
the meters of grids, calibrated: they give back what was put in and stay quiet about what is no grid.

Of four the library itself has a slow float64 transcription of the paper or of the authors' code, which shares
nothing with the fast one; the other two are written here."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from frame_analytics import reference
from scipy.ndimage import convolve, gaussian_filter
from skimage.color import rgb2ycbcr, rgb2yuv
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from srlib.images.color import to_gray, to_ycbcr
from srlib.images.degrade import degrade, upsample
from srlib.images.tasks import pair
from srlib.measure import grids, metrics
from srlib.measure.grids import add_grid, line_excess
from srlib.measure.library import LIBRARY_METRICS, lpips
from srlib.models import Interpolation
from srlib.train import losses

PLAIN = {"crop_border": 0, "channels": "as-is"}
PSNR, SSIM = partial(metrics.psnr, **PLAIN, average="images"), partial(metrics.ssim, **PLAIN)
METRICS = PSNR, SSIM, metrics.patch_distance, lpips
WINDOWS = {"gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}, "uniform": {}}


@pytest.fixture(scope="module")
def photos(sample):
    """Two bundled photos' tiles of 176 x 176 and their bicubic enlargements."""
    lr, hr = pair(sample.tensor("val", limit=2), "bicubic", 4)
    return upsample(lr, 4).clamp(0, 1), hr


@pytest.fixture(scope="module")
def small(photos):
    """A part of them, darkened; neither square nor a multiple of 16."""
    return [0.9 * x[..., :48, :40].double() for x in photos]


@pytest.mark.parametrize("crop", [0, 4])
@pytest.mark.parametrize(
    ("channels", "convert"),
    [("as-is", np.array), ("y", lambda x: rgb2ycbcr(x)[..., :1] / 255), ("y-full", lambda x: rgb2yuv(x)[..., :1])],
)
def test_psnr_and_ssim_equal_scikit_image(small, crop, channels, convert):
    inner = [x[..., crop : 48 - crop, crop : 40 - crop].permute(0, 2, 3, 1).numpy() for x in small]
    pairs, how = [(convert(y), convert(x)) for x, y in zip(*inner)], {"crop_border": crop, "channels": channels}
    psnr = [peak_signal_noise_ratio(*both, data_range=1) for both in pairs]
    assert metrics.psnr(*small, **how, average="none").tolist() == pytest.approx(psnr, abs=1e-5)
    for window, options in WINDOWS.items():
        ssim = [structural_similarity(*both, data_range=1, channel_axis=-1, **options) for both in pairs]
        assert metrics.ssim(*small, **how, window=window).tolist() == pytest.approx(ssim, abs=1e-5)


def test_averages_clamp_peak_and_chroma(small):
    target = small[1]
    each, values = metrics.mse(*small, **PLAIN), metrics.psnr(*small, **PLAIN, average="none")
    assert float(PSNR(*small)) == pytest.approx(float(values.mean()))
    of_mse = float(metrics.psnr(*small, **PLAIN, average="mse"))
    assert 1 / 10 ** (of_mse / 10) == pytest.approx(float(each.mean()))
    assert PSNR(target, target) == math.inf
    assert torch.equal(metrics.mse(target + 9, target, **PLAIN), metrics.mse(target * 0 + 1, target, **PLAIN))
    by_image = metrics.psnr(*small, **PLAIN, average="none", max_value="image")
    torch.testing.assert_close(values - by_image, -20 * torch.log10(target.amax((1, 2, 3))), atol=1e-5, rtol=0)
    error = (to_ycbcr(small[0], limited=False) - to_ycbcr(target, limited=False)).square().mean((2, 3))[:, 1:]
    chroma = [metrics.mse(*small, crop_border=0, channels=name) for name in ("cb", "cr")]
    torch.testing.assert_close(torch.stack(chroma, dim=1), error.double())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: PSNR(x, x, channels="luma"), "unknown channels 'luma': choose from as-is"),
        (lambda x: PSNR(x, x, average="median"), "unknown average 'median'"),
        (lambda x: PSNR(x, x, crop_border=20), r"crop_border 20 leaves nothing of \(48, 40\) pixels"),
        (lambda x: PSNR(x, x, crop_border=-1), "crop_border -1"),
        (lambda x: PSNR(x, x, max_value="image", average="mse"), "use average='images'"),
        (lambda x: SSIM(x, x, window="box"), "unknown window 'box'"),
        (lambda x: SSIM(x[..., :10], x[..., :10]), "looks at 11 pixels at once, and there are 10"),
        (lambda x: PSNR(x.byte(), x.byte()), "floats in .*torch.uint8 and torch.uint8"),
        *((lambda x, metric=metric: metric(x[:, :1], x), "two equal shapes") for metric in METRICS),
        *((lambda x, metric=metric: metric(x[0], x[0]), "two equal shapes") for metric in METRICS),
        (lambda x: grids.phases(x, 3), "3 does not divide"),
        (lambda x: grids.ripple(Interpolation(), 1, 4, margin=12), "margin of 12 leaves nothing of 24 LR pixels"),
        (lambda x: line_excess(x[..., :42, :], 4), "multiples of 4"),
        (lambda x: line_excess(x[..., :28, :], 4), "at least 32"),
    ],
)
def test_what_cannot_be_measured_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 3, 48, 40))


def haarpsi(target: np.ndarray, output: np.ndarray, peak: float) -> float:
    """Reisenhofer et al. 2018, section 2, colour version, after its authors' published listing."""
    c, alpha, box = 30, 4.2, np.full((2, 2), 0.25)
    same = partial(convolve, mode="constant")  # begins where MATLAB's "same" does
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

    def coefficients(x: np.ndarray) -> list[np.ndarray]:
        """Across and down at three scales, then both chroma planes."""
        yiq = [same(p, box)[::2, ::2] for p in np.einsum("oc,chw->ohw", to_yiq, 255 / peak * x)]
        haar = [np.kron([[-1], [1]], np.full((m, 2 * m), 0.5 / m)) for m in (1, 2, 4)]
        return [same(yiq[0], each) for k in haar for each in (k, k.T)] + [same(p, box) for p in yiq[1:]]

    a, b = np.abs([coefficients(x) for x in (output, target)])
    alike = (2 * a * b + c) / (a * a + b * b + c)
    similarity = np.array([(alike[0] + alike[2]) / 2, (alike[1] + alike[3]) / 2, alike[6:].mean(axis=0)])
    edges = np.maximum(a, b)[4:6]
    weights = np.array([*edges, edges.mean(axis=0)])
    pooled = (weights / (1 + np.exp(-alpha * similarity))).sum() / weights.sum()
    return float((np.log(pooled / (1 - pooled)) / alpha) ** 2)


def vif(x: np.ndarray, y: np.ndarray, _: float) -> float:
    """Sheikh and Bovik 2006, in the pixel domain as in their released ``vifp_mscale``."""
    noise, above, below = 2.0, 0.0, 0.0
    for radius in (8, 4, 2, 1):
        sigma, inner = (2 * radius + 1) / 5, slice(radius, -radius)
        blurred = partial(gaussian_filter, sigma=sigma, radius=radius)
        if radius < 8:
            x, y = (blurred(z)[inner, inner][::2, ::2] for z in (x, y))
        mx, my, xx, yy, xy = (blurred(z)[inner, inner] for z in (x, y, x * x, y * y, x * y))
        sx, sy, sxy = (xx - mx**2).clip(0), (yy - my**2).clip(0), xy - mx * my
        nothing = (np.minimum(sx, sy) < 1e-10) | (sxy < 0)
        gain = np.where(nothing, 0, sxy / (sx + 1e-10))
        above += np.log10(1 + gain**2 * sx / ((sy - gain * sxy).clip(1e-10) + noise)).sum()
        below += np.log10(1 + sx / noise).sum()
    return float(above / below)


SECOND = {  # of target and output, gray where the name is in GRAY, and the largest value
    "MS-SSIM": reference.ms_ssim_reference,
    "GMSD": reference.gmsd_reference,
    "HaarPSI": haarpsi,
    "VIF": vif,
    "LPIPS": lambda *pictures: reference.lpips_reference(*pictures)[0],
    "SSIMULACRA2": reference.ssimulacra2_reference,
}
GRAY = ("MS-SSIM", "GMSD", "VIF")


@pytest.mark.parametrize("name", LIBRARY_METRICS)
def test_library_metric_equals_a_second_implementation_and_knows_its_direction(photos, name):
    metric, (output, target) = LIBRARY_METRICS[name], photos
    values = metric(output, target)
    assert values.dtype == torch.float64
    peak, pictures = (255, map(to_gray, photos)) if name in GRAY else (1, photos)
    outputs, targets = (peak * x.squeeze(1).double().numpy() for x in pictures)
    again = [float(SECOND[name](*both, peak)) for both in zip(targets, outputs)]
    assert values.tolist() == pytest.approx(again, abs=1e-2 if name == "SSIMULACRA2" else 1e-5)
    perfect = {"LPIPS": 0, "GMSD": 0, "SSIMULACRA2": 100}.get(name, 1)
    assert metric(target, target).tolist() == pytest.approx([perfect] * 2, abs=1e-4)
    better = metric(0.5 * (output + target), target) > values
    assert bool((better == metric.higher_is_better).all())


def test_patch_distance_is_a_distance_between_distributions(photos):
    output, target = photos
    assert metrics.patch_distance(target, target).abs().max() < 1e-9
    # mirrored, every patch is somewhere else, yet about the same patches are there
    mirrored = metrics.patch_distance(target.flip(-1), target)
    assert bool((mirrored < 0.5 * metrics.patch_distance(output, target)).all())
    dimmed = metrics.patch_distance(0.5 * target + 0.2, 0.5 * target)
    assert dimmed.abs().max() < 1e-4, "brightness is not texture"


def test_losses_equal_the_metrics_of_their_name(small):
    output, target = small
    error = output - target
    luma = 0.299 * error[:, 0] + 0.587 * error[:, 1] + 0.114 * error[:, 2]
    mse, distance = metrics.mse(*small, **PLAIN), lpips(*small)
    wanted = {
        "mse": mse.mean(),
        "l1": error.abs().mean(),
        "charbonnier": (error**2 + 1e-6).sqrt().mean(),
        "luma": ((error**2 + 1e-6).sqrt().mean() + 2 * (luma**2 + 1e-6).sqrt().mean()) / 3,
        "ssim": 1 - SSIM(*small).mean(),
        "lpips": distance.mean(),
        "perceptual": (mse + 0.003 * distance).mean(),
    }
    for name, loss in losses.LOSSES.items():
        assert float(loss(*small)) == pytest.approx(float(wanted[name]), abs=1e-5), name
    gray = output[:, :1], target[:, :1]
    assert losses.luma_loss(*gray) == losses.charbonnier_loss(*gray)


def test_the_discriminator_learns_by_itself_alone_and_repeatably(small):
    output, target = (x.float() for x in small)
    output.requires_grad_()
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


def test_phases_of_a_grid_and_their_error():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert torch.equal(grids.phases(x, 4)[0, 0, 1 * 4 + 2], x[0, 0, 1::4, 2::4])
    flat = torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64)
    pattern = grids.phase_pattern(add_grid(flat, 4, 2.0), 4)
    assert float(pattern.mean()) == pytest.approx(0, abs=1e-12)
    assert 255 * float(pattern.std(correction=0)) == pytest.approx(2, abs=1e-9)
    output = flat.clone()
    output[..., 1::4, 2::4] += 0.1
    error = grids.phase_error(output, flat, 4)
    assert float(error[1, 2]) == pytest.approx(20, abs=1e-4)
    assert torch.isinf(error).sum() == 15


def test_a_grid_on_photos_gives_its_size_back_and_what_is_no_grid_stays_quiet(sample):
    photos = to_gray(torch.cat([sample.tensor("val"), sample.tensor("test")]).double() / 255)
    for levels in (1.0, 2.0, 8.0):
        found = grids.grid_levels(add_grid(photos, 4, levels), 4)
        assert float(found.square().mean().sqrt()) == pytest.approx(levels, abs=0.2)
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8 / 255
    blurred = nn.functional.avg_pool2d(photos, 5, stride=1)[..., 2:-2, 2:-2]
    for picture in (photos, photos + noise, noise, blurred):
        assert float(line_excess(picture[..., :168, :168], 4).mean()) < 1
    assert float(grids.power_spectrum(noise).mean()) == pytest.approx((8 / 255) ** 2, rel=0.05)
    small = degrade(photos, "bicubic", 4, round_lr=True)
    for smooth in ("bilinear", "bicubic"):
        assert float(line_excess(upsample(small, 4, smooth), 4).mean()) < -10
    none, half, one, two, four = (float(line_excess(add_grid(photos, 4, n), 4).mean()) for n in (0, 0.5, 1, 2, 4))
    assert none == pytest.approx(-0.9, abs=0.6)
    assert none < half < one < two < four
    assert one > 6
    assert four - two == pytest.approx(6, abs=1)  # twice the amplitude is 6.02 dB
