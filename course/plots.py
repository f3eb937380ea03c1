"""The figures that more than one page draws: one style, one palette, pictures at whole-number zoom."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from IPython import display
from PIL import Image
from torch import Tensor

from srlib.measure.grids import power_spectrum

# Okabe and Ito 2008: eight colours that stay apart under every common colour blindness.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A800")
Picture = Tensor | np.ndarray  # [C, H, W] or [H, W], uint8 or float in [0, 1]
DPI = 100  # one figure pixel per picture pixel and zoom step


def use_style() -> None:
    """Set matplotlib to the style of the series; ``open_page`` calls it."""
    plt.rc("figure", dpi=DPI, figsize=(8.0, 3.6))
    plt.rc("figure.constrained_layout", use=True)
    plt.rc("axes", prop_cycle=cycler(color=PALETTE), grid=True, axisbelow=True, titlesize=10, labelsize=10)
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("grid", color="#dddddd", linewidth=0.6)
    plt.rc("font", size=9.5)
    plt.rc("legend", frameon=False)
    plt.rc("lines", linewidth=1.8)
    plt.rc("image", interpolation="nearest", cmap="gray")


def show(figure: plt.Figure, alt: str) -> None:
    """Display a figure as PNG and close it; ValueError without an alternative text."""
    if not alt.strip():
        raise ValueError("a figure needs an alternative text that says what it shows")
    drawn, png = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    Image.open(drawn).convert("RGB").save(png, format="png", optimize=True)  # no alpha: an eighth less to load
    content = {"image/png": png.getvalue(), "text/plain": f"Figure: {alt}"}
    display.display(content, metadata={"image/png": {"alt": alt}}, raw=True)


def as_array(picture: Picture) -> np.ndarray:
    """A picture as uint8 ``[H, W, 3]`` for drawing; one with a single channel becomes gray."""
    array = torch.as_tensor(picture).detach().cpu()
    if array.dtype != torch.uint8:
        array = (array.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return array.expand(3, *array.shape[-2:]).permute(1, 2, 0).numpy()


def gallery(
    pictures: Sequence[Picture], captions: Sequence[str], *, zoom: int = 1, columns: int = 0, title: str = ""
) -> plt.Figure:
    """Pictures of one size, each pixel drawn as ``zoom`` x ``zoom`` screen pixels, with a caption, which may hold
    line breaks, under each; ``columns`` = 0 puts all into one row."""
    arrays = [as_array(p) for p in pictures]
    if len(arrays) != len(captions):
        raise ValueError(f"{len(arrays)} pictures need as many captions, got {len(captions)}")
    columns = columns or len(arrays)
    height, width = (zoom * n for n in arrays[0].shape[:2])
    gap, above, below = 8, 26 if title else 4, 15 * max(c.count("\n") + 1 for c in captions) + 8
    right, top = columns * (width + gap) + gap, above + -(-len(arrays) // columns) * (height + below)
    figure = plt.figure(figsize=(right / DPI, top / DPI), layout="none")
    pixels: dict[str, Any] = {"transform": None, "va": "top"}  # no transform: places are in pixels
    for i, (array, caption) in enumerate(zip(arrays, captions)):
        x = gap + i % columns * (width + gap)
        y = top - above - i // columns * (height + below) - height
        figure.figimage(np.kron(array, np.ones((zoom, zoom, 1), dtype=np.uint8)), x, y)
        figure.text(x + width / 2, y - 4, caption, ha="center", fontsize=8.5, linespacing=1.25, **pixels)
    if title:
        figure.text(gap, top - 6, title, fontsize=10, weight="bold", **pixels)
    return figure


def crop(picture: Tensor, top: int, left: int, size: int) -> Tensor:
    """The same square of ``[..., H, W]`` for every method of a comparison."""
    if top < 0 or left < 0 or top + size > picture.shape[-2] or left + size > picture.shape[-1]:
        raise ValueError(f"a square of {size} at ({top}, {left}) leaves the picture {tuple(picture.shape[-2:])}")
    return picture[..., top : top + size, left : left + size]


def curves(axis: plt.Axes, series: Mapping[str, tuple[Any, Any]], xlabel: str, ylabel: str) -> None:
    """One labelled line for each name of ``series``, a name to (x, y)."""
    for name, (x, y) in series.items():
        axis.plot(x, y, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend()


def radial_spectrum(pictures: Tensor, bins: int = 44) -> tuple[np.ndarray, np.ndarray]:
    """Frequency in cycles per pixel, 0 to 0.5, and power in dB, mean over directions and ``[N, C, H, W]``."""
    power = power_spectrum(pictures).mean(dim=0).cpu().numpy()
    radius = np.hypot.outer(*map(np.fft.fftfreq, power.shape))
    inside = radius < 0.5
    total, edges = np.histogram(radius[inside], bins, (0, 0.5), weights=power[inside])
    count, _ = np.histogram(radius[inside], bins, (0, 0.5))
    return (edges[:-1] + edges[1:]) / 2, 10 * np.log10(total / np.maximum(count, 1) + 1e-12)


def table(rows: Sequence[Mapping[str, str]], caption: str = "", hidden: Mapping[str, Any] = {}) -> None:
    """Display rows of texts as a table whose first column is a label, and unseen, by MIME type, what is
    ``hidden``. The keys of the first row are the columns; ValueError: a row has others."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    if any(list(row) != lines[0] for row in rows):
        raise ValueError(f"every row needs exactly the columns {', '.join(lines[0])}")
    side = "right" if all(len(cell) <= 24 for line in lines[1:] for cell in line[1:]) else "left"
    sides, widths = ["left", *[side] * (len(lines[0]) - 1)], [max(map(len, column)) for column in zip(*lines)]
    html = f"<caption>{escape(caption)}</caption>" * bool(caption)
    for line in lines:
        tag = "th" if line is lines[0] else "td"  # and an interval in brackets is not broken
        texts = [re.sub(r"\[[^]]*\]", lambda part: part[0].replace(" ", "&nbsp;"), escape(text)) for text in line]
        cells = [f'<{tag} style="text-align:{to}">{text}</{tag}>' for to, text in zip(sides, texts)]
        html += f"<tr>{''.join(cells)}</tr>"
    plain = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    display.display({"text/html": f"<table>{html}</table>", "text/plain": plain, **hidden}, raw=True)
