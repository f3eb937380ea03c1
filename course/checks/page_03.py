"""Checks of page 03."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from course import intervals
from course.exercises import Properties, Refused, ask, near, number, numbers
from srlib.images.color import to_gray, to_ycbcr
from srlib.images.degrade import upsample

averages = number(7.03, 0.05, "take the logarithm of each, then the mean; and the logarithm of the mean")


def luma_only(answer: Any) -> Properties:
    """A function (gray network, LR ``[N, 3, h, w]``) to HR, of which the network draws the luma."""

    def network(gray: Tensor) -> Tensor:  # not linear, so that it matters what it is given
        if gray.shape[1:] != (1, 6, 5):
            raise Refused(f"the network takes the luma of LR, here [2, 1, 6, 5], and was given {list(gray.shape)}")
        return upsample(gray, 4, "nearest").square()

    lr = 0.4 + 0.2 * torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    hr = numbers(ask(answer, network, lr)).float()
    yield "two colour photos of 6 x 5 pixels must become two of 24 x 20", tuple(hr.shape) == (2, 3, 24, 20)
    yield "the luma must be the network's answer to the luma of LR", near(to_gray(hr), network(to_gray(lr)), 1e-4)
    found, wanted = (to_ycbcr(rgb, limited=False)[:, 1:] for rgb in (hr, upsample(lr, 4)))
    yield "the chroma must be that of bicubic interpolation", near(found, wanted, 1e-4)


def draw(answer: Any) -> Properties:
    """A function (random generator) to nine differences from tiles of one photo and nine from as many photos."""
    random = np.random.default_rng(0)
    drawn = [numbers(ask(answer, random)).numpy() for _ in range(300)]
    yield "two rows of nine numbers are needed", all(rows.shape == (2, 9) for rows in drawn)
    means = np.mean(drawn, axis=2)
    yield "every draw must be another", bool(means.std(axis=0).min() > 0)
    off = np.abs(means.mean(axis=0)) / (means.std(axis=0) / len(means) ** 0.5)
    yield "the truth must be 0 for both: so must be their mean over many draws", bool(off.max() < 4)
    ends = np.array([[intervals.bootstrap(row, repeats=200) for row in rows] for rows in drawn])
    tiles, photos = ((ends[..., 0] > 0) | (ends[..., 1] < 0)).mean(axis=0)
    yield "the interval over nine photos must hold 0 about as often as it promises", 0 < photos < 0.25
    yield "the interval over nine tiles must miss 0 in most draws: what do the tiles share?", tiles > 0.5


def absolute(answer: Any) -> Properties:
    """The colour of smallest expected absolute error, orange in 60 % of the cases and blue in 40 %."""
    colour = numbers(answer).numpy()
    yield "three numbers from 0 to 1 are needed", colour.shape == (3,) and 0 <= colour.min() <= colour.max() <= 1
    cases = np.array([[0.9, 0.39, 0.02]] * 6 + [[0.2, 0.556, 1.0]] * 4)
    error, least = (np.abs(cases - c).mean(axis=0) for c in (colour, np.median(cases, axis=0)))
    yield "another answer has a smaller error in some channel: try both ends", bool((error - least).max() < 0.005)
