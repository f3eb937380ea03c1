"""Intervals that say what a mean over pictures and seeds is worth."""

from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
MARGIN = 0.05  # dB within which two networks are called equal, in both directions


def bootstrap(values: np.ndarray, *, repeats: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile interval (low, high) of a mean over ``values``, ``[images]`` or ``[seeds, images]``; of a paired
    comparison, the differences. Both axes are drawn with replacement, so it holds for new images and new seeds
    (Efron and Tibshirani 1993, chapter 13). ValueError: values of another shape."""
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"need values of shape [images] or [seeds, images], got {values.shape}")
    rng = np.random.default_rng(seed)
    # A mean over a resampled grid is a bilinear form in how often each row and column was drawn.
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), size=repeats) / n for n in values.shape)
    means = np.einsum("rs,si,ri->r", rows, values, columns, optimize=True)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference(a: np.ndarray, b: np.ndarray) -> dict[str, float | bool]:
    """The paired difference ``a - b``: ``mean``, ``low``, ``high`` and ``decided`` (zero lies outside)."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"a paired difference needs equal shapes, got {np.shape(a)} and {np.shape(b)}")
    delta = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    low, high = bootstrap(delta)
    return {"mean": float(delta.mean()), "low": low, "high": high, "decided": low > 0 or high < 0}


def verdict(low: float, high: float, margin: float = MARGIN) -> str:
    """What an interval allows to say, by one rule in both directions: *equal* if it lies within the margin, else
    *ahead* or *behind* if it excludes zero, else *open*."""
    if -margin < low and high < margin:
        return "equal"
    return "ahead" if low > 0 else "behind" if high < 0 else "open"


def verdicts(differences: dict[str, np.ndarray], *, margin: float = MARGIN) -> dict[str, dict[str, Any]]:
    """What several paired differences ``[seeds, images]`` allow to say together: of each ``mean``, ``low``,
    ``high`` and its :func:`verdict`; of an open one also ``seeds``, how many would settle it if mean and variances
    stayed (0: not even 1000, it takes more images). Seeds and images count as drawn at random; the interval is
    Student's with a degree of freedom per seed but one. Holm's correction: of k differences the clearest has to
    hold at 1 - 0.05 / k, the next at 1 - 0.05 / (k - 1), until one does not."""
    found = {}
    for name, values in differences.items():
        delta = np.atleast_2d(np.asarray(values, dtype=np.float64))
        (seeds, images), mean = delta.shape, float(delta.mean())
        of_seeds = float(delta.mean(axis=1).var(ddof=1)) if seeds > 1 else 0.0
        of_images = float(delta.mean(axis=0).var(ddof=1)) / images if images > 1 else 0.0
        error, freedom = (of_seeds / seeds + of_images) ** 0.5, (seeds if seeds > 1 else images) - 1
        p = 2 * stats.t.sf(abs(mean) / error, freedom) if error else float(not delta.any())
        found[name] = p, mean, error, freedom, of_seeds, of_images
    left, rows = len(found), dict[str, dict[str, Any]]()
    for name, (_, mean, error, freedom, of_seeds, of_images) in sorted(found.items(), key=lambda item: item[1]):
        share = 1 - (1 - LEVEL) / (2 * left)
        half = float(stats.t.ppf(share, freedom)) * error
        low, high = mean - half, mean + half
        rows[name] = {"mean": mean, "low": low, "high": high, "verdict": verdict(low, high, margin)}
        if rows[name]["verdict"] == "open":
            more = np.arange(2, 1001)
            halves = stats.t.ppf(share, more - 1) * np.sqrt(of_seeds / more + of_images)
            settled = [verdict(mean - half, mean + half, margin) != "open" for half in halves]
            rows[name]["seeds"] = int(more[settled.index(True)]) if any(settled) else 0
        left -= low > 0 or high < 0
    return {name: rows[name] for name in differences}
