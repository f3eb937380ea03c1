"""A blind test: of two pictures one is the photo. Which one? With buttons where they work, else on paper."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from IPython import get_ipython
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor

from course import plots


class Trial(NamedTuple):
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
    return "__vsc_ipynb_file__" in getattr(get_ipython(), "user_ns", ())


class BlindTest:
    """Trials in a random order, answers (``right`` or not), and the curve that they make.

    Args:
        photo: ``[3, H, W]`` in [0, 1].
        distorted: triples (kind, dB, picture). seed: of the order and the sides.
    """

    def __init__(self, photo: Tensor, distorted: Sequence[tuple[str, float, Tensor]], *, seed: int) -> None:
        random = np.random.default_rng(seed)
        order, sides = random.permutation(len(distorted)), random.integers(2, size=len(distorted))
        self.photo, self.right = photo, list[bool]()
        self.trials = [Trial(*distorted[i], bool(side)) for i, side in zip(order, sides)]  # type: ignore[call-arg]

    def answer(self, text: str) -> None:
        """Add answers, ``L`` or ``R`` for the side on which the photo stands; other signs are passed over.

        ValueError: more answers than questions.
        """
        sides = [sign == "L" for sign in text.upper() if sign in "LR"]
        if (answers := len(self.right) + len(sides)) > len(self.trials):
            raise ValueError(f"{answers} answers to {len(self.trials)} questions")
        self.right += [left == trial.photo_is_left for left, trial in zip(sides, self.trials[len(self.right) :])]

    def key(self) -> str:
        """The true answers, in groups of five."""
        sides = ["L" if trial.photo_is_left else "R" for trial in self.trials]
        return " ".join("".join(sides[i : i + 5]) for i in range(0, len(sides), 5))

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
        """Share of right answers against PSNR, a line for each kind, with Wilson's 1927 intervals of 68 %."""
        scores: dict[str, dict[float, list[bool]]] = {}
        for trial, right in zip(self.trials, self.right):
            scores.setdefault(trial.kind, {}).setdefault(trial.decibel, []).append(right)
        figure, axis = plt.subplots(figsize=(7.5, 3.4))
        for kind, row in sorted(scores.items()):
            levels = sorted(row)
            tests = [binomtest(sum(row[level]), len(row[level])) for level in levels]
            share = np.array([test.statistic for test in tests])
            low, high = np.array([test.proportion_ci(0.6827, "wilson") for test in tests]).T
            axis.errorbar(levels, share, [share - low, high - share], marker="o", capsize=3, label=kind)
        axis.axhline(0.5, color="gray", linestyle="--", linewidth=1.2, label="guessing")
        axis.set(xlabel="PSNR (dB)", ylabel="share of right answers", ylim=(-0.05, 1.05))
        axis.legend(loc="lower left", ncols=2)
        return figure

    def widget(self, zoom: int = 2) -> Any:
        """The test with buttons (ipywidgets); after the last question the curve takes the pictures' place."""
        text = widgets.Label()
        buttons = {side: widgets.Button(description=f"{side} is the photo") for side in ("Left", "Right")}
        picture = widgets.Image(format="png", layout=widgets.Layout(align_self="flex-start", width="auto"))

        def draw(answer: str = "") -> None:
            if len(self.right) < len(self.trials):
                self.answer(answer)
            done, number = len(self.right), len(self.trials)
            if done < number:
                text.value = f"Question {done + 1} of {number}: which one is the photo?"
                picture.value = plots.as_png(plots.gallery([self.pair(done)], [""], zoom=zoom))
                return
            text.value = f"{sum(self.right)} of {number} right. Your curve:"
            picture.value = plots.as_png(self.curve())
            for button in buttons.values():
                button.layout.display = "none"

        for side, button in buttons.items():
            button.on_click(lambda _, letter=side[0]: draw(letter))
        draw()
        return widgets.VBox([text, picture, widgets.HBox([*buttons.values()])])
