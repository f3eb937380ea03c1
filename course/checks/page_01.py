"""Checks of page 01."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course.exercises import NotTried, Properties, ask, near, number, numbers

FAULTS = ("stretched", "unsorted", "swapped")
_PLANTED = {"A": "swapped", "B": "stretched", "C": "unsorted"}
decibels = number(9.03, 0.05, "3.01 dB for half the squared error; half the error is a quarter of it")
square = number(168, 0, "the side must be a multiple of 2, of 3 and of 4, and fit into 178")
rounding = number(58.92, 0.1, "the error is spread evenly: its mean square is 1/12 of a level squared")


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
