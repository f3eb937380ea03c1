"""Page 05's test: which of three pictures differs? A staircase (Levitt 1971) for each kind of distortion.
``widgets/abx.js`` asks in a browser by the same rules; here they are tested with simulated readers."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from course import plots, widgets
from srlib.measure.grids import add_grid

KINDS = ("brightness", "blur", "noise", "lines")
RULES: dict[str, Any] = {
    "trials": 16,  # of each kind
    "fewest": 6,  # answers, below which every verdict is "open"
    "start": 27.0,  # dB
    "steps": (6.0, 1.5),  # dB: the first, and the smallest
    "lowest": 18.0,
    "highest": 54.0,
    "grid": (15.0, 60.0, 0.25),  # thresholds that are weighed: from, to, step; flat before the first answer
    "spreads": (0.5, 1.0, 2.0, 4.0),  # dB from seeing to guessing; unknown of a reader, so all are tried
    "lapse": 0.03,  # wrong clicks
}


class Staircase:
    """The next PSNR to show, in dB, and all (dB, right) so far. Harder by a step after two right answers in a row,
    at first after each; easier after a wrong one. The step is halved where the direction turns."""

    def __init__(self) -> None:
        self.level, self.step = RULES["start"], RULES["steps"][0]
        self.streak, self.turn, self.answers = 0, 0, list[tuple[float, bool]]()

    def answer(self, right: bool) -> None:
        """Note an answer to a picture of this ``level``, and move."""
        self.answers.append((self.level, right))
        self.streak += right
        if right and self.streak < 2 and not all(good for _, good in self.answers):
            return
        self.streak, turn = 0, 1 if right else -1
        if turn == -self.turn:
            self.step = max(self.step / 2, RULES["steps"][1])
        self.turn = turn
        self.level = min(max(self.level + turn * self.step, RULES["lowest"]), RULES["highest"])


def chance(shown: Any, threshold: Any, spread: Any) -> np.ndarray:
    """Probability of a right answer to three pictures: 1/3 by guessing, and half-way up at the threshold."""
    return 1 / 3 + (2 / 3 - RULES["lapse"]) / (1 + np.exp((np.asarray(shown) - threshold) / spread))


def threshold(answers: Sequence[tuple[float, bool]]) -> tuple[float, float, float]:
    """The PSNR in dB up to which a difference is seen in every second try: median, and interval of 95 %."""
    first, last, width = RULES["grid"]
    places = np.arange(first, last + width / 2, width)
    logs = np.zeros((len(RULES["spreads"]), len(places)))
    for shown, right in answers:
        good = chance(shown, places, np.array(RULES["spreads"])[:, None])
        logs += np.log(good if right else 1 - good)
    weights = np.exp(logs - logs.max()).sum(axis=0).cumsum()
    middle, low, high = (float(places[np.argmax(weights / weights[-1] >= p)]) for p in (0.5, 0.025, 0.975))
    return middle, low, high


def verdict(low: float, high: float, answers: int) -> str:
    """What an interval says of 30 dB: ``open`` as long as it holds 30, or there are too few answers."""
    if answers < RULES["fewest"] or low <= 30 <= high:
        return "open"
    return "seen at 30 dB" if low > 30 else "not seen at 30 dB"


def simulate(threshold: float, spread: float, random: np.random.Generator) -> Staircase:
    """The staircase of a reader who sees up to ``threshold`` dB."""
    stairs = Staircase()
    for _ in range(RULES["trials"]):
        stairs.answer(bool(random.random() < chance(stairs.level, threshold, spread)))
    return stairs


def embed(photos: Sequence[Tensor], **more: Any) -> str:
    """The test as HTML with all that it needs, for photos ``[3, side, side]`` in [0, 1]; ``more`` is for tests."""
    pixels = [base64.b64encode(plots.as_array(photo).tobytes()).decode() for photo in photos]
    pattern = (255 * add_grid(torch.zeros(1, 4, 4), 4, 1.0)).flatten().tolist()
    data = {"side": photos[0].shape[-1], "kinds": KINDS, "rules": RULES, "photos": pixels, "pattern": pattern}
    style, script = ((widgets.FOLDER / f"abx.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    script = script.replace("__DATA__", json.dumps(data | more))
    note = "The test runs where scripts do: on the site, in a saved page, or after this cell has been run."
    return f'<style>\n{style}</style><div class="abx"><p>{note}</p></div><script>{script}</script>'


def sheet(
    photos: Sequence[Tensor], distort: Mapping[str, Callable], levels: Sequence[float], seed: int
) -> tuple[Figure, str]:
    """The test on paper: numbered triples, a kind and a level each, and the places of the odd ones; ``distort``
    maps a kind to a function of a photo ``[3, side, side]`` and a PSNR in dB."""
    random, triples, key = np.random.default_rng(seed), {}, ""
    asked, white = [(kind, level) for kind in distort for level in levels], torch.ones(3, photos[0].shape[1], 4)
    for number, which in enumerate(random.permutation(len(asked)), start=1):
        (kind, level), photo = asked[which], photos[(number - 1) % len(photos)]
        pair = photo, distort[kind](photo, level)
        odd, first = random.integers(3), random.integers(2)
        shown = [pair[first if i == odd else 1 - first] for i in range(3)]
        triples[f"{number}:  1, 2 or 3?"] = torch.cat([shown[0], white, shown[1], white, shown[2]], dim=2)
        key += f"{number}: {odd + 1} ({kind}, {level:g} dB)  "
    return plots.gallery([*triples.values()], [*triples], columns=2, zoom=2), key.strip()
