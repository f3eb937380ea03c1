"""Checks of page 02."""

from typing import Any

import torch
from torch import nn

from course.exercises import Properties, ask, number, numbers

tenth = number(0.915, 0.01, "the squared error shrinks to 0.9 squared of what it was; give two decimals")


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

    def gives(truth: float, output: torch.Tensor, target: torch.Tensor, peak: float = 1.0) -> bool:
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
