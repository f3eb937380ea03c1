"""A blind test: of two pictures one is the photo. Which one? With buttons where they work, else on paper."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from course import plots


@dataclass(frozen=True)
class Trial:
    """One question: a distorted picture ``[3, H, W]`` of a kind at a PSNR in dB, and where the photo stands."""

    kind: str
    decibel: float
    picture: Tensor
    photo_is_left: bool


def live_frontend() -> bool:
    """Whether a person sits before this kernel in JupyterLab, Notebook, VS Code or Colab, where buttons work.

    A page that papermill, nbval or nbconvert runs has no such person, and its saved widgets would be dead.
    """
    if any(name in os.environ for name in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG")):
        return True
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns


class BlindTest:
    """Trials in a random order, answers, and the curve that they make.

    Args:
        photo: ``[3, H, W]`` in [0, 1].
        distorted: triples (kind, dB, picture). seed: of the order and the sides.
    """

    def __init__(self, photo: Tensor, distorted: Sequence[tuple[str, float, Tensor]], *, seed: int) -> None:
        random = np.random.default_rng(seed)
        order, sides = random.permutation(len(distorted)), random.integers(2, size=len(distorted))
        self.photo = photo
        self.trials = [Trial(*distorted[i][:3], bool(side)) for i, side in zip(order, sides)]  # type: ignore[call-arg]
        self.right: list[bool] = []

    @property
    def done(self) -> bool:
        """Whether every question has its answer."""
        return len(self.right) == len(self.trials)

    def answer(self, text: str) -> None:
        """Add answers, ``L`` or ``R`` for the side on which the photo stands; other signs are passed over.

        Raises:
            ValueError: more answers than questions.
        """
        sides = [sign == "L" for sign in text.upper() if sign in "LR"]
        if len(self.right) + len(sides) > len(self.trials):
            raise ValueError(f"{len(self.right) + len(sides)} answers to {len(self.trials)} questions")
        for left in sides:
            self.right.append(left == self.trials[len(self.right)].photo_is_left)

    def key(self) -> str:
        """The true answers, in groups of five."""
        sides = ["L" if trial.photo_is_left else "R" for trial in self.trials]
        return " ".join("".join(sides[i : i + 5]) for i in range(0, len(sides), 5))

    def share_right(self) -> dict[str, dict[float, tuple[int, int]]]:
        """For each kind and dB: how many answers were right, and how many were given."""
        table: dict[str, dict[float, tuple[int, int]]] = {}
        for trial, right in zip(self.trials, self.right):
            row = table.setdefault(trial.kind, {})
            found, asked = row.get(trial.decibel, (0, 0))
            row[trial.decibel] = (found + right, asked + 1)
        return {kind: dict(sorted(row.items())) for kind, row in sorted(table.items())}

    def pair(self, number: int) -> Tensor:
        """Question ``number``, ``[3, H, 2 W + 8]``: both pictures with a white gap between them."""
        trial = self.trials[number]
        sides = [self.photo, trial.picture] if trial.photo_is_left else [trial.picture, self.photo]
        return torch.cat([sides[0], torch.ones(3, self.photo.shape[1], 8), sides[1]], dim=2)

    def sheet(self, columns: int = 3, zoom: int = 2) -> Figure:
        """All questions on one sheet of paper, numbered from 1."""
        pairs = [self.pair(i) for i in range(len(self.trials))]
        return plots.gallery(pairs, [f"{i + 1}:  L or R?" for i in range(len(pairs))], columns=columns, zoom=zoom)

    def curve(self) -> Figure:
        """Share of right answers against PSNR, a line for each kind, with Wilson's 68 % intervals."""
        figure, axis = plt.subplots(figsize=(7.5, 3.4))
        for kind, row in self.share_right().items():
            share = np.array([found / asked for found, asked in row.values()])
            low, high = np.array([wilson(found, asked) for found, asked in row.values()]).T
            axis.errorbar(list(row), share, [share - low, high - share], marker="o", capsize=3, label=kind)
        axis.axhline(0.5, color="gray", linestyle="--", linewidth=1.2, label="guessing")
        axis.set(xlabel="PSNR (dB)", ylabel="share of right answers", ylim=(-0.05, 1.05))
        axis.legend(loc="lower left", ncols=2)
        return figure

    def widget(self, zoom: int = 2) -> Any:
        """The test with buttons (ipywidgets); after the last question the curve takes the pictures' place."""
        import ipywidgets as widgets

        picture = widgets.Image(format="png", layout=widgets.Layout(align_self="flex-start", width="auto"))
        text = widgets.Label()
        buttons = [widgets.Button(description=f"{side} is the photo") for side in ("Left", "Right")]

        def draw() -> None:
            if self.done:
                found = sum(self.right)
                text.value = f"{found} of {len(self.right)} right. Your curve:"
                picture.value = _png(self.curve())
                for button in buttons:
                    button.layout.display = "none"
            else:
                text.value = f"Question {len(self.right) + 1} of {len(self.trials)}: which one is the photo?"
                picture.value = _png(plots.gallery([self.pair(len(self.right))], [""], zoom=zoom))

        def on_click(button: Any) -> None:
            if not self.done:
                self.answer("L" if button is buttons[0] else "R")
                draw()

        for button in buttons:
            button.on_click(on_click)
        draw()
        return widgets.VBox([text, picture, widgets.HBox(buttons)])


def wilson(found: int, asked: int, z: float = 1.0) -> tuple[float, float]:
    """Wilson's 1927 interval of a share; z = 1 covers 68 %. It holds the observed share, 0 and 1 included."""
    share = found / asked
    middle = share + z * z / (2 * asked)
    half = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    scale = 1 + z * z / asked
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()
