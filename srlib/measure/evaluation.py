"""A network over a split to a table with one row per image, and intervals that say what a mean is worth."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from srlib.measure import metrics
from srlib.images.color import saturation
from srlib.images.degrade import pair
from srlib.train.trainer import as_task

Score = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def run_model(
    model: nn.Module,
    photos: Tensor,
    task: str,
    *,
    kernel: str,
    scale: int,
    device: torch.device,
    batch: int = 16,
) -> tuple[Tensor, Tensor, Tensor]:
    """``(lr, output, target)`` on the CPU for uint8 RGB photos ``[N, 3, H, W]``, output clamped to [0, 1].

    LR is made by ``kernel`` and rounded to 8 bits; gray inputs and targets are the BT.601 luma.
    """
    model = model.to(device).eval()
    parts = []
    for chunk in photos.split(batch):
        lr, hr = as_task(*pair(chunk.to(device), kernel, scale), task)
        parts.append((lr.cpu(), model(lr).float().clamp(0, 1).cpu(), hr.cpu()))
    lr, output, target = (torch.cat(column) for column in zip(*parts))
    return lr, output, target


def score(
    output: Tensor, target: Tensor, *, crop_border: int = 0, perceptual: bool = False
) -> dict[str, np.ndarray]:
    """Every number that the tables print, one value per image, for pictures ``[N, 1 or 3, H, W]``.

    ``psnr``, ``mse``, ``ssim``: all channels together. For RGB also ``y_psnr``, ``y_mse``, ``y_ssim``
    (limited range), ``cb_psnr``, ``cr_psnr``, ``saturation`` (8-bit levels of chroma) and, with
    ``perceptual``, ``lpips``.
    """
    table: dict[str, Tensor] = {}

    def add(prefix: str, channels: str) -> None:
        error = metrics.mse(output, target, crop_border=crop_border, channels=channels)
        table[f"{prefix}mse"], table[f"{prefix}psnr"] = error, metrics.to_decibel(error)

    add("", "as-is")
    table["ssim"] = metrics.ssim(output, target, crop_border=crop_border, channels="as-is")
    if output.shape[1] == 3:
        add("y_", "y")
        table["y_ssim"] = metrics.ssim(output, target, crop_border=crop_border, channels="y")
        add("cb_", "cb")
        add("cr_", "cr")
        table["saturation"] = saturation(output.double())
        if perceptual:
            table["lpips"] = metrics.lpips(output, target)
    return {name: values.numpy() for name, values in table.items()}


def evaluate(
    model: nn.Module, photos: Tensor, task: str, *, kernel: str, scale: int, device: torch.device, **scoring
) -> dict[str, np.ndarray]:
    """:func:`score` of :func:`run_model`, one value per image; chunk by chunk, so any number of photos fits."""
    tables = []
    for chunk in photos.split(64):
        _, output, target = run_model(model, chunk, task, kernel=kernel, scale=scale, device=device)
        tables.append(score(output, target, **scoring))
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def bootstrap(
    values: np.ndarray, *, repeats: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean over images and, in two dimensions, over training seeds.

    Args:
        values: ``[images]`` or ``[seeds, images]``; for a paired comparison, the differences. Both axes are
            drawn with replacement, independently, so the interval holds for new images and new seeds.
    Returns:
        (low, high). (Efron and Tibshirani 1993, chapter 13.)
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"need values of shape [images] or [seeds, images], got {values.shape}")
    rng = np.random.default_rng(seed)
    seeds, images = values.shape
    # A mean over a resampled grid is a bilinear form in how often each row and column was drawn.
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=repeats) / seeds
    columns = rng.multinomial(images, np.full(images, 1 / images), size=repeats) / images
    means = np.einsum("rs,si,ri->r", rows, values, columns, optimize=True)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def difference(a: np.ndarray, b: np.ndarray, **options) -> dict[str, float | bool]:
    """The paired difference ``a - b``: ``mean``, ``low``, ``high`` and ``decided`` (zero lies outside)."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"a paired difference needs equal shapes, got {np.shape(a)} and {np.shape(b)}")
    delta = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    low, high = bootstrap(delta, **options)
    return {"mean": float(delta.mean()), "low": low, "high": high, "decided": bool(low > 0 or high < 0)}


def milliseconds(model: nn.Module, lr: Tensor, *, repeats: int = 15) -> float:
    """Median time of one forward pass in float32 without gradients, in milliseconds, after a warm-up."""
    return milliseconds_of([model], lr, repeats=repeats)[0]


@torch.no_grad()
def milliseconds_of(models: Iterable[nn.Module], lr: Tensor, *, repeats: int = 15) -> list[float]:
    """As :func:`milliseconds` for several networks, interleaved so that a slow moment hits all alike."""
    from time import perf_counter

    models = [m.eval() for m in models]
    times: list[list[float]] = [[] for _ in models]
    for repeat in range(repeats + 2):
        for model, column in zip(models, times):
            if lr.device.type == "cuda":
                torch.cuda.synchronize(lr.device)
            start = perf_counter()
            model(lr)
            if lr.device.type == "cuda":
                torch.cuda.synchronize(lr.device)
            if repeat >= 2:
                column.append(1e3 * (perf_counter() - start))
    return [float(np.median(column)) for column in times]
