"""PSNR and SSIM against scikit-image and frame-analytics; library metrics against second implementations."""

import math
from functools import partial

import frame_analytics
import pytest
import torch
from second_implementations import SECOND
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srlib.images.color import to_ycbcr
from srlib.images.degrade import round_8bit, upsample
from srlib.images.tasks import pair
from srlib.measure import metrics
from srlib.measure.library import LIBRARY_METRICS, lpips

PLAIN = {"crop_border": 0, "channels": "as-is"}
frame_analytics.set_compile_enabled(False)


@pytest.fixture(scope="module")
def small():
    """Two RGB pictures of 48 x 40, waves, and the same with noise; neither square nor a multiple of 16."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    waves = torch.stack([0.5 + 0.4 * torch.sin(x / (3 + c) + y / 7) * torch.cos(y / (5 - c)) for c in range(3)])
    target = torch.stack([waves, waves.flip(-1) * 0.8])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    return round_8bit(target + 0.05 * noise), round_8bit(target)


@pytest.fixture(scope="module")
def photos(sample):
    """Two bundled photos' tiles of 176 x 176 and their bicubic enlargements."""
    lr, hr = pair(sample.tensor("val", limit=2), "bicubic", 4)
    return upsample(lr, 4).clamp(0, 1), hr


def tight(values, expected):
    return values.tolist() == pytest.approx(expected, abs=1e-5)


def test_psnr_and_ssim_equal_scikit_image(small):
    output, target = (x.double().permute(0, 2, 3, 1).numpy() for x in small)
    psnr = [peak_signal_noise_ratio(*both, data_range=1) for both in zip(target, output)]
    assert tight(metrics.psnr(*small, **PLAIN, average="none"), psnr)
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for window, options in {"gaussian": wang, "uniform": {}}.items():
        ssim = [
            structural_similarity(*both, data_range=1, channel_axis=-1, **options) for both in zip(target, output)
        ]
        assert tight(metrics.ssim(*small, **PLAIN, window=window), ssim)


@pytest.mark.parametrize(("channels", "luma"), [("as-is", None), ("y", "matlab"), ("y-full", "bt601")])
@pytest.mark.parametrize("crop", [0, 4])
def test_psnr_and_ssim_equal_frame_analytics(small, channels, luma, crop):
    pictures, how = [x.double() for x in small], {"crop_border": crop, "channels": channels}
    options = {"data_range": 1.0, "luma": luma, "crop_border": crop, "reduction": "none", "dtype": torch.float64}
    theirs = [metric(*pictures, **options).tolist() for metric in (frame_analytics.psnr, frame_analytics.ssim)]
    assert tight(metrics.psnr(*pictures, **how, average="none"), theirs[0])
    assert tight(metrics.ssim(*pictures, **how), theirs[1])


def test_averages_clamp_peak_and_chroma(small):
    target = small[1]
    each, values = metrics.mse(*small, **PLAIN), metrics.psnr(*small, **PLAIN, average="none")
    of_images, of_mse = (metrics.psnr(*small, **PLAIN, average=average) for average in ("images", "mse"))
    assert float(of_images) == pytest.approx(float(values.mean()))
    assert float(of_mse) == pytest.approx(10 * math.log10(1 / float(each.mean())))
    assert metrics.psnr(target, target, **PLAIN, average="images") == math.inf
    assert float(metrics.to_decibel(metrics.mse_of_decibel(27.5))) == pytest.approx(27.5)
    assert torch.equal(metrics.mse(target + 9, target, **PLAIN), metrics.mse(target * 0 + 1, target, **PLAIN))
    by_image = metrics.psnr(*small, **PLAIN, average="none", max_value="image")
    assert tight(values - by_image, (-20 * torch.log10(target.amax((1, 2, 3)))).tolist())
    error = (to_ycbcr(small[0], limited=False) - to_ycbcr(target, limited=False)).square().mean((2, 3))[:, 1:]
    chroma = [metrics.mse(*small, crop_border=0, channels=name) for name in ("cb", "cr")]
    torch.testing.assert_close(torch.stack(chroma, dim=1), error.double())


PSNR, SSIM = partial(metrics.psnr, **PLAIN, average="images"), partial(metrics.ssim, **PLAIN)


@pytest.mark.parametrize(
    ("metric", "change", "message"),
    [
        (PSNR, {"channels": "luma"}, "unknown channels 'luma': choose from as-is"),
        (PSNR, {"average": "median"}, "unknown average 'median': choose from none"),
        (PSNR, {"crop_border": 20}, r"crop_border 20 leaves nothing of \(48, 40\) pixels"),
        (PSNR, {"crop_border": -1}, "crop_border -1"),
        (PSNR, {"max_value": "image", "average": "mse"}, "use average='images'"),
        (SSIM, {"window": "box"}, "unknown window 'box': choose from gaussian, uniform"),
    ],
)
def test_what_is_wrong_is_said(small, metric, change, message):
    output, target = small
    with pytest.raises(ValueError, match=message):
        metric(output, target, **change)
    for call in (PSNR, SSIM, metrics.patch_distance, lpips):
        for pictures in ((output[:, :1], target), (output[0], target[0])):
            with pytest.raises(ValueError, match="two equal shapes"):
                call(*pictures)


@pytest.mark.parametrize("name", LIBRARY_METRICS)
def test_library_metric_equals_a_second_implementation_and_knows_its_direction(photos, name):
    metric, (output, target) = LIBRARY_METRICS[name], photos
    values = metric(output, target)
    assert values.dtype == torch.float64
    again = [SECOND[name](*both) for both in zip(output, target)]
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
