"""The one evaluator of loop, pages and command: uint8 RGB ``[N, 3, H, W]`` to scores, made in exact float32."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from srlib.device import exact_float32, seeded
from srlib.images.color import saturation, to_gray
from srlib.images.tasks import task_pair
from srlib.measure import library, metrics

CHUNK = 16  # photos per pass


@contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients and exact float32 inside; afterwards every layer is in the mode that it was in."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), exact_float32():
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def passes(take: Callable, model: nn.Module, pairs: Iterable[tuple[Tensor, Tensor]], device: Any) -> list:
    """``take(lr, output, target)`` for each ``(lr, target)`` on the device, the output clamped to [0, 1]."""
    with in_use(model.to(device)):
        bar = tqdm(pairs, unit="pass", leave=False, delay=2, disable=None)
        return [take(lr, model(lr).float().clamp(0, 1), target) for lr, target in bar]


def chunks(photos: Tensor, task: str, *, kernel: str, scale: int, device: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """:func:`task_pair` on the device, for :data:`CHUNK` photos at a time, by the same draws in each call."""
    for number, chunk in enumerate(photos.split(CHUNK)):
        with seeded(number, torch.device(device)) if kernel == "real" else nullcontext():
            both = task_pair(chunk.to(device), task, kernel, scale)
        yield both


def run_model(model: nn.Module, photos: Tensor, task: str, **how: Any) -> tuple[Tensor, ...]:
    """``(lr, output, target)`` of all photos on the CPU, to be drawn; ``how`` is kernel, scale and device."""
    columns = zip(*passes(lambda *pictures: pictures, model, chunks(photos, task, **how), how["device"]))
    return tuple(torch.cat(column).cpu() for column in columns)


def score(output: Tensor, target: Tensor, *, crop_border: int = 0, perceptual: bool = False) -> dict[str, Tensor]:
    """All that tables and ``srlib evaluate`` show, a number per image, for pictures ``[N, 1 or 3, H, W]``:
    ``mse``, ``psnr`` and ``ssim`` of all channels; for RGB also those of ``y_``, the first two of ``cb_`` and
    ``cr_``, ``saturation`` in levels and, if ``perceptual``, ``lpips``. Beside a gray target: ``y_`` alone."""
    if output.shape[1] > target.shape[1]:
        gray = score(to_gray(output), target, crop_border=crop_border)
        return {f"y_{key}": values for key, values in gray.items()}
    table, colour = {}, output.shape[1] == 3
    parts = {"": "as-is", "y_": "y", "cb_": "cb", "cr_": "cr"} if colour else {"": "as-is"}
    for prefix, channels in parts.items():
        error = metrics.mse(output, target, crop_border=crop_border, channels=channels)
        table[f"{prefix}mse"], table[f"{prefix}psnr"] = error, metrics.to_decibel(error)
        if channels in ("as-is", "y"):
            table[f"{prefix}ssim"] = metrics.ssim(output, target, crop_border=crop_border, channels=channels)
    if colour:
        table["saturation"] = saturation(metrics.wide(output))
    if colour and perceptual:
        table["lpips"] = library.lpips(output, target)
    return table


def joined(tables: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """The scores of many passes as one table in float64, NaN where a pass lacks some; one transfer for all."""
    names, shapes = max(tables, key=len), [next(iter(table.values())) for table in tables]
    rows = [[t.get(name, torch.full_like(x, torch.nan)) for t, x in zip(tables, shapes)] for name in names]
    return dict(zip(names, torch.stack([torch.cat(row) for row in rows]).cpu().double().numpy()))


def evaluate(model: nn.Module, photos: Tensor, task: str, *, crop_border: int = 0, perceptual: bool = False,
             **how: Any) -> dict[str, np.ndarray]:  # fmt: skip
    """:func:`score` of a network, one number per photo; ``how`` is kernel, scale and device."""
    take = lambda _, *both: score(*both, crop_border=crop_border, perceptual=perceptual)  # noqa: E731
    return joined(passes(take, model, chunks(photos, task, **how), how["device"]))


def mean_psnr(model: nn.Module, photos: Tensor, task: str, **how: Any) -> float:
    """Mean over the photos of their PSNR in dB, of the task's channels; ``how`` is kernel, scale and device."""
    take = lambda _, *both: metrics.mse(*both, crop_border=0, channels="as-is")  # noqa: E731
    errors = passes(take, model, chunks(photos, task, **how), how["device"])
    return float(metrics.to_decibel(torch.cat(errors)).mean())
