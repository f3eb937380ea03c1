"""The figures that more than one page draws: one style, one palette, pictures at whole-number zoom."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from srlib.measure.grids import power_spectrum

# Okabe and Ito 2008: eight colours that stay apart under every common colour blindness.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A800")
DPI = 100  # one figure pixel per picture pixel and zoom step
_STYLE: dict[str, Any] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.figsize": (8.0, 3.6),
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "font.size": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "image.interpolation": "nearest",
    "image.cmap": "gray",
}


def use_style() -> None:
    """Set matplotlib to the style of the series; ``open_page`` calls it."""
    mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]


def show(figure: Figure, alt: str) -> None:
    """Display a figure as PNG with its alternative text, and close it.

    Raises:
        ValueError: no alternative text.
    """
    from IPython.display import display

    if not alt.strip():
        raise ValueError("a figure needs an alternative text that says what it shows")
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    # Without the alpha channel, which is 1 everywhere, an eighth of a page's size goes.
    Image.open(drawn).convert("RGB").save(buffer, format="png", optimize=True)
    display(
        {"image/png": buffer.getvalue(), "text/plain": f"Figure: {alt}"},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


def as_array(picture: Tensor | np.ndarray) -> np.ndarray:
    """``[C, H, W]`` or ``[H, W]``, uint8 or float in [0, 1], to uint8 ``[H, W, 3]`` for drawing."""
    array = torch.as_tensor(picture).detach().cpu()
    array = array if array.ndim == 3 else array[None]
    if array.dtype != torch.uint8:
        array = (array.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return array.expand(3, -1, -1).permute(1, 2, 0).numpy()


def gallery(
    pictures: Sequence[Tensor | np.ndarray],
    captions: Sequence[str],
    *,
    zoom: int = 1,
    columns: int | None = None,
    title: str = "",
) -> Figure:
    """Pictures of one size, each pixel drawn as ``zoom`` x ``zoom`` screen pixels, with a caption under each.

    Args:
        pictures: as :func:`as_array` takes them. captions: one each, may hold line breaks.
        columns: pictures in a row; all in one row by default.
    """
    arrays = [as_array(p) for p in pictures]
    if len(arrays) != len(captions):
        raise ValueError(f"{len(arrays)} pictures need as many captions, got {len(captions)}")
    height, width = (zoom * n for n in arrays[0].shape[:2])
    columns = columns or len(arrays)
    rows = -(-len(arrays) // columns)
    gap = 8
    below = 15 * max(c.count("\n") + 1 for c in captions) + 8
    above = 26 if title else 4
    total_w = columns * width + (columns + 1) * gap
    total_h = above + rows * (height + below)
    figure = plt.figure(figsize=(total_w / DPI, total_h / DPI), layout="none")
    for i, (array, caption) in enumerate(zip(arrays, captions)):
        row, column = divmod(i, columns)
        left, top = gap + column * (width + gap), above + row * (height + below)
        figure.figimage(np.kron(array, np.ones((zoom, zoom, 1), dtype=np.uint8)), left, total_h - top - height)
        figure.text(
            (left + width / 2) / total_w, 1 - (top + height + 4) / total_h, caption,
            ha="center", va="top", fontsize=8.5, linespacing=1.25,
        )  # fmt: skip
    if title:
        figure.text(gap / total_w, 1 - 6 / total_h, title, va="top", fontsize=10, weight="bold")
    return figure


def crop(picture: Tensor, top: int, left: int, size: int) -> Tensor:
    """The same square of ``[..., H, W]`` for every method of a comparison."""
    if top < 0 or left < 0 or top + size > picture.shape[-2] or left + size > picture.shape[-1]:
        raise ValueError(f"a square of {size} at ({top}, {left}) leaves the picture {tuple(picture.shape[-2:])}")
    return picture[..., top : top + size, left : left + size]


def error_picture(output: Tensor, target: Tensor, full_scale: float = 0.2) -> Tensor:
    """The error's magnitude as a gray picture, ``[C, H, W]`` to ``[1, H, W]``: black 0, white ``full_scale``."""
    return ((output - target).abs().mean(dim=0, keepdim=True) / full_scale).clamp(0, 1)


def curves(
    axis: plt.Axes, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str
) -> None:
    """One labelled line for each name of ``series``, a name to (x, y)."""
    for name, (x, y) in series.items():
        axis.plot(x, y, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend()


def history(histories: Mapping[str, list[dict]], reference: tuple[str, float] | None = None) -> Figure:
    """Training loss and validation PSNR against steps, for one or more trainings.

    Args:
        reference: a (name, dB) to draw as a dashed line, such as bicubic.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for name, rows in histories.items():
        steps = [r["step"] for r in rows]
        left.plot(steps, [r["loss"] for r in rows], label=name)
        right.plot(steps, [r["val_psnr"] for r in rows], label=name)
    if reference:
        right.axhline(reference[1], color="gray", linestyle="--", linewidth=1.2, label=reference[0])
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    right.set(xlabel="step", ylabel="validation PSNR (dB)")
    right.legend()
    return figure


def radial_spectrum(pictures: Tensor, bins: int = 44) -> tuple[np.ndarray, np.ndarray]:
    """Power against spatial frequency, averaged over directions and pictures ``[N, C, H, W]``.

    Returns:
        (frequency in cycles per pixel, 0 to 0.5; power in dB).
    """
    power = power_spectrum(pictures).mean(dim=0).cpu().numpy()
    fy, fx = np.meshgrid(*(np.fft.fftfreq(n) for n in power.shape), indexing="ij")
    radius = np.hypot(fy, fx).ravel()
    edges = np.linspace(0, 0.5, bins + 1)
    which = np.digitize(radius, edges) - 1
    inside = which < bins
    total = np.bincount(which[inside], weights=power.ravel()[inside], minlength=bins)
    count = np.bincount(which[inside], minlength=bins)
    return (edges[:-1] + edges[1:]) / 2, 10 * np.log10(total / np.maximum(count, 1) + 1e-12)


def spectrum_picture(picture: Tensor) -> Tensor:
    """The log power spectrum of ``[C, H, W]`` as a gray picture ``[1, H, W]``, zero frequency in the middle.

    Black is 70 dB below the strongest frequency.
    """
    power = torch.fft.fftshift(power_spectrum(picture[None])[0])
    level = 10 * torch.log10(power + 1e-20)
    return ((level - level.max()) / 70 + 1).clamp(0, 1).float()[None]


def table(rows: Sequence[Mapping[str, str]], caption: str = "") -> None:
    """Display rows as a table; the keys of the first row are the columns. The first column is a label.

    Values are texts: the page decides how a number is rounded.

    Raises:
        ValueError: a row with other columns.
    """
    from html import escape

    from IPython.display import display

    columns = list(rows[0])
    if any(list(row) != columns for row in rows):
        raise ValueError(f"every row needs exactly the columns {', '.join(columns)}")
    numeric = all(len(row[c]) <= 24 for row in rows for c in columns[1:])

    def line(cells: Sequence[str], tag: str) -> str:
        aligns = ["left"] + ["right" if numeric else "left"] * (len(cells) - 1)
        return "".join(f'<{tag} style="text-align:{a}">{escape(c)}</{tag}>' for a, c in zip(aligns, cells))

    head = f"<caption>{escape(caption)}</caption><tr>{line(columns, 'th')}</tr>"
    body = "".join(f"<tr>{line(list(row.values()), 'td')}</tr>" for row in rows)
    widths = [max(len(c), *(len(row[c]) for row in rows)) for c in columns]
    lines = [columns, *(list(row.values()) for row in rows)]
    plain = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(cells, widths)).rstrip() for cells in lines)
    display({"text/html": f"<table>{head}{body}</table>", "text/plain": plain}, raw=True)
