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


def haarpsi_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """Reisenhofer et al. 2018, section 2, colour version, after its authors' published listing."""
    c, alpha, box = 30, 4.2, np.full((2, 2), 0.25)
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

    def same(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        first = len(kernel) // 2  # where MATLAB's "same" begins; SciPy's begins one pixel earlier
        return convolve2d(x, kernel)[first:, first:][: x.shape[0], : x.shape[1]]

    def coefficients(x: torch.Tensor) -> list[np.ndarray]:
        """Across and down at three scales, then both chroma planes."""
        yiq = [same(p, box)[::2, ::2] for p in np.einsum("oc,chw->ohw", to_yiq, 255 * x.double().numpy())]
        haar = [np.kron([[-1], [1]], np.full((m, 2 * m), 0.5 / m)) for m in (1, 2, 4)]
        return [same(yiq[0], each) for k in haar for each in (k, k.T)] + [same(p, box) for p in yiq[1:]]

    a, b = np.abs([coefficients(x) for x in (output, target)])
    alike = (2 * a * b + c) / (a * a + b * b + c)
    similarity = np.array([(alike[0] + alike[2]) / 2, (alike[1] + alike[3]) / 2, alike[6:].mean(axis=0)])
    edges = np.maximum(a, b)[4:6]
    weights = np.array([*edges, edges.mean(axis=0)])
    pooled = (weights / (1 + np.exp(-alpha * similarity))).sum() / weights.sum()
    return float((np.log(pooled / (1 - pooled)) / alpha) ** 2)


def vif_again(output: torch.Tensor, target: torch.Tensor) -> float:
    """Sheikh and Bovik 2006, in the pixel domain as in their released ``vifp_mscale``."""
    x, y, noise, above, below = gray_levels(target), gray_levels(output), 2.0, 0.0, 0.0
    for n in (17, 9, 5, 3):
        taps = np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * (n / 5) ** 2))
        window = np.outer(taps, taps) / taps.sum() ** 2
        if n < 17:
            x, y = (fftconvolve(z, window, "valid")[::2, ::2] for z in (x, y))
        mx, my, xx, yy, xy = (fftconvolve(z, window, "valid") for z in (x, y, x * x, y * y, x * y))
        sx, sy, sxy = (xx - mx**2).clip(0), (yy - my**2).clip(0), xy - mx * my
        nothing = (np.minimum(sx, sy) < 1e-10) | (sxy < 0)
        gain = np.where(nothing, 0, sxy / (sx + 1e-10))
        above += np.log10(1 + gain**2 * sx / ((sy - gain * sxy).clip(1e-10) + noise)).sum()
        below += np.log10(1 + sx / noise).sum()
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
