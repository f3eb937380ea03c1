"""Intervals that say what a mean over pictures and seeds is worth."""

from typing import Any

import numpy as np


def bootstrap(
    values: np.ndarray, *, repeats: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval (low, high) of a mean over images and, in two dimensions, over training seeds.

    ``values`` are ``[images]`` or ``[seeds, images]``; for a paired comparison, the differences. Both axes are
    drawn with replacement, so the interval holds for new images and seeds (Efron and Tibshirani 1993, chapter 13).
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"need values of shape [images] or [seeds, images], got {values.shape}")
    rng = np.random.default_rng(seed)
    # A mean over a resampled grid is a bilinear form in how often each row and column was drawn.
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), size=repeats) / n for n in values.shape)
    means = np.einsum("rs,si,ri->r", rows, values, columns, optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference(a: np.ndarray, b: np.ndarray, **options: Any) -> dict[str, float | bool]:
    """The paired difference ``a - b``: ``mean``, ``low``, ``high`` and ``decided`` (zero lies outside)."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"a paired difference needs equal shapes, got {np.shape(a)} and {np.shape(b)}")
    delta = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    low, high = bootstrap(delta, **options)
    return {"mean": float(delta.mean()), "low": low, "high": high, "decided": bool(low > 0 or high < 0)}
