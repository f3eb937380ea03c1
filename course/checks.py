"""Checks of the exercises: that of "02.psnr" is ``psnr``, a function or a number; see :mod:`course.exercises`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course import intervals
from course.exercises import NotTried, Properties, Refused, ask, near, number, numbers
from srlib.images.color import to_gray, to_ycbcr
from srlib.images.degrade import upsample

FAULTS = ("stretched", "unsorted", "swapped")
_PLANTED = {"A": "swapped", "B": "stretched", "C": "unsorted"}
decibels = number(9.03, 0.05, "3.01 dB for half the squared error; half the error is a quarter of it")
square = number(168, 0, "the side must be a multiple of 2, of 3 and of 4, and fit into 178")
rounding = number(58.92, 0.1, "the error is spread evenly: its mean square is 1/12 of a level squared")
tenth = number(0.915, 0.01, "the squared error shrinks to 0.9 squared of what it was; give two decimals")
averages = number(7.03, 0.05, "take the logarithm of each, then the mean; and the logarithm of the mean")


def suspects(photos: Tensor, stretch: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Targets made from photos ``[N, 3, H, W]`` by three loaders, each with another of the ``FAULTS``."""
    made = {"stretched": stretch(photos), "unsorted": photos.roll(1, 0), "swapped": photos.flip(1)}
    return {name: made[fault] for name, fault in _PLANTED.items()}


def faults(answer: Any) -> Properties:
    """The fault of each loader, as a mapping."""
    if isinstance(answer, dict) and all(fault is None for fault in answer.values()):
        raise NotTried
    named = isinstance(answer, dict) and set(answer) == set(_PLANTED)
    yield f"give a fault for each of {', '.join(_PLANTED)}", named
    yield "some are still None", all(fault is not None for fault in answer.values())
    yield f"choose from {', '.join(FAULTS)}, each once", sorted(map(str, answer.values())) == sorted(FAULTS)
    right = sum(answer[name] == fault for name, fault in _PLANTED.items())
    yield f"{right} of {len(_PLANTED)} are right", right == len(_PLANTED)


def area_matrix(answer: Any) -> Properties:
    """A function (size, scale) to the matrix of the kernel ``area``."""
    matrix = numbers(ask(answer, 12, 3))
    yield "for size 12 and scale 3 the matrix must be 4 x 12", tuple(matrix.shape) == (4, 12)
    yield "a white picture must stay white: each row must sum to 1", near(matrix.sum(dim=1), torch.ones(4))
    inside = torch.arange(12) // 3 == torch.arange(4)[:, None]
    yield "an LR pixel must look at its own block and at nothing else", near(matrix[~inside], torch.zeros(36))
    yield "all pixels of a block must count alike", near(matrix[inside], torch.full((12,), 1 / 3))
    other = numbers(ask(answer, 20, 4))
    right = torch.eye(5).repeat_interleave(4, dim=1) / 4
    yield "it must do for other sizes and scales too", other.shape == right.shape and near(other, right)


def fold(answer: Any) -> Properties:
    """A function from a frequency in periods per sample to that of the slowest wave through the samples."""
    yield "of one frequency the answer must be one number", numbers(ask(answer, 0.1)).ndim == 0
    for must, truths in {
        "below half a period per sample nothing may change": {0.0: 0.0, 0.1: 0.1, 0.45: 0.45},
        "one period per sample: all samples are equal, which is no wave at all": {1.0: 0.0},
        "between a half and one the drawn wave gets slower as the true one gets faster": {0.6: 0.4, 0.9: 0.1},
        "past one it goes on in the same way, up and down": {1.2: 0.2, 1.8: 0.2, 2.3: 0.3, 3.0: 0.0, 5.75: 0.25},
    }.items():
        yield must, all(near(numbers(ask(answer, f)), torch.tensor(truth)) for f, truth in truths.items())


def pixel_unshuffle(answer: Any) -> Properties:
    """A function (picture ``[N, C, H, W]``, scale) to ``[N, C * scale^2, H / scale, W / scale]``."""
    one = torch.arange(48.0).reshape(1, 1, 8, 6) / 64
    two = torch.arange(2 * 3 * 9 * 12.0).reshape(2, 3, 9, 12)
    x = numbers(ask(answer, one, 2)).float()
    yield "8 x 6 pixels at scale 2 must become 4 channels of 4 x 3", tuple(x.shape) == (1, 4, 4, 3)
    moved, wanted = torch.equal(x.flatten().sort()[0], one.flatten()), nn.functional.pixel_unshuffle(one, 2)
    yield "numbers may only move: none may change, vanish or appear twice", moved
    yield "channel 0 must hold every other pixel from the upper left corner on", torch.equal(x[0, 0], wanted[0, 0])
    yield "channel 1 must start one column to the right, not one row below", torch.equal(x[0, 1], wanted[0, 1])
    x, wanted = numbers(ask(answer, two, 3)).float(), nn.functional.pixel_unshuffle(two, 3)
    shapes = "two pictures of 3 colours and 9 x 12 pixels at scale 3 must become two of 27 channels of 3 x 4"
    yield shapes, x.shape == wanted.shape
    yield "the channels of one colour must lie side by side: the colour is the first digit", torch.equal(x, wanted)


def psnr(answer: Any) -> Properties:
    """A function (output, target, peak) to decibels."""

    def gives(truth: float, output: Tensor, target: Tensor, peak: float = 1.0) -> bool:
        return bool(abs(numbers(ask(answer, output, target, peak)) - truth) < 1e-3)

    target = torch.full((2, 8, 6), 0.5)  # neither three colours nor a square
    uneven = target + 0.1
    uneven[0, 0] += 0.2  # 6 of 96 errors are 0.3
    yield "the answer must be one number", numbers(ask(answer, target + 0.1, target, 1.0)).ndim == 0
    yield "an error of 0.1 everywhere, Max = 1: 20 dB", gives(20, target + 0.1, target)
    yield "a tenth of that error: 20 dB more", gives(40, target + 0.01, target)
    yield "the sign of an error must not matter", gives(20, target - 0.1, target)
    peaks = [gives(20, peak * (target + 0.1), peak * target, peak) for peak in (255.0, 1023.0)]
    yield "Max = 255 on pixels from 0 to 255 must give the same, and so must any other Max", all(peaks)
    yield "average the squares over all colours and pixels before the logarithm", gives(18.2391, uneven, target)


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
