"""The library's metrics once more: test_metrics.py holds them together.

Of four the library itself has a slow float64 transcription of the paper or of the authors' code, which shares
nothing with the fast one; the other two are written here.
"""

import numpy as np
import torch
from frame_analytics import reference
from scipy.signal import convolve2d, fftconvolve

from srlib.images.color import to_gray


def gray_levels(x: torch.Tensor) -> np.ndarray:
    return 255 * to_gray(x[None])[0, 0].double().numpy()


def moments(a: np.ndarray, b: np.ndarray, size: int, sigma: float) -> tuple[np.ndarray, ...]:
    """Both means, both variances and the covariance under a Gaussian window, wherever it fits."""
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    x, y, xx, yy, xy = (fftconvolve(z, window, "valid") for z in (a, b, a * a, b * b, a * b))
    return x, y, xx - x**2, yy - y**2, xy - x * y


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


def by_the_library(function, prepare=gray_levels, data_range=255.0):
    return lambda output, target: float(function(prepare(target), prepare(output), data_range))


def colour(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy()


SECOND = {
    "MS-SSIM": by_the_library(reference.ms_ssim_reference),
    "GMSD": by_the_library(reference.gmsd_reference),
    "HaarPSI": haarpsi_again,
    "VIF": vif_again,
    "LPIPS": by_the_library(lambda *both: reference.lpips_reference(*both)[0], colour, 1.0),
    "SSIMULACRA2": by_the_library(reference.ssimulacra2_reference, colour, 1.0),
}
