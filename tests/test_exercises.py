"""Predictions, checks and work sheets: what is right is accepted, what is plausibly wrong is not, None passes.

That each page's own solution is accepted, the page asserts itself."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import code_cells
from torch.nn.functional import pixel_unshuffle

from course import pages
from course.__main__ import main
from course.exercises import check, predict, reveal
from srlib.images.color import from_ycbcr, to_gray, to_ycbcr
from srlib.images.degrade import upsample

CODE = "\n".join(cell.source for name in pages.NAMES for cell in code_cells(name))
KEYS = sorted(set(re.findall(r'\bcheck\("(.*?)"', CODE)))


def repeated(size, scale, axis=1):
    return torch.eye(size // scale).repeat_interleave(scale, axis) / scale


def slices(y, r):
    """The phases of all colours, place by place."""
    return torch.stack([y[..., a::r, b::r] for a in range(r) for b in range(r)], dim=1)


def with_chroma(luma, rgb):
    """Luma of one picture, chroma of another."""
    return from_ycbcr(torch.cat([luma, to_ycbcr(rgb, limited=False)[:, 1:]], dim=1), limited=False)


def centred(random):
    """Tiles that share their photo's effect; and photos without their mean, so that no interval can miss 0."""
    photos = random.normal(0, 1, size=9)
    return random.normal(0, 1) + random.normal(0, 0.2, size=9), photos - photos.mean()


# Of each check: a right answer in another style than the page's, and to words of each property that it asks for an
# answer that a reader might give and that lacks it.
ANSWERS = {
    "01.area_matrix": (lambda size, scale: np.kron(np.eye(size // scale), np.ones(scale) / scale), {
        "must be a function": repeated(44, 4),
        "must be 4 x 12": lambda size, scale: repeated(size, scale, 0),  # transposed
        "must stay white": lambda size, scale: scale * repeated(size, scale),  # sums, no means
        "its own block": lambda size, scale: torch.eye(size // scale).repeat(1, scale) / scale,
        "must count alike": lambda size, scale: torch.eye(size)[scale // 2 :: scale],  # one pixel of each block
        "other sizes and scales": lambda size, scale: repeated(size, 3),
    }),
    "01.fold": (lambda f: torch.tensor(2 * np.pi * f).cos().acos() / (2 * np.pi), {
        "must be one number": lambda f: (f, 1 - f),
        "nothing may change": lambda f: 1 - f,
        "which is no wave": lambda f: min(f, 0.5),
        "gets slower": lambda f: f - round(f),
        "up and down": lambda f: min(abs(f - n) for n in (0, 1, 2)),  # as far as the slider goes
        "returns None for 1.0": lambda f: f if f <= 0.5 else None,
    }),
    "01.faults": ({"C": "unsorted", "B": "stretched", "A": "swapped"}, {
        "give a fault": "swapped, stretched, unsorted",
        "still None": {"A": "swapped", "B": "stretched", "C": None},
        "each once": {"A": ["swapped"], "B": "swapped", "C": "swapped"},
        "1 of 3 are right": {"A": "swapped", "B": "unsorted", "C": "stretched"},
    }),
    "01.decibels": (torch.log10(torch.tensor(8.0)) * 10, {"a number": (3.01, 6.02), "half the error is": 3.01}),
    "01.square": (168.0, {"must be a number": "168", "fit into 178": 180}),
    "01.rounding": (np.float32(58.92), {"must be a number": True, "a level squared": 48.13}),
    "02.pixel_unshuffle": (lambda y, r: slices(y, r).transpose(1, 2).flatten(1, 2), {
        "4 channels of 4 x 3": lambda y, r: y,
        "numbers may only move": lambda y, r: y[..., ::r, ::r].repeat(1, r**2, 1, 1),
        "channel 0 must": lambda y, r: y.reshape(len(y), y.shape[1] * r**2, y.shape[2] // r, y.shape[3] // r),
        "channel 1 must": lambda y, r: pixel_unshuffle(y.mT, r).mT,  # row and column of the phase exchanged
        "must become two of 27": lambda y, r: pixel_unshuffle(y[:1], r),
        "lie side by side": lambda y, r: slices(y, r).flatten(1, 2),
        "must not change the tensor": lambda y, r: (pixel_unshuffle(y, r), y.zero_())[0],
    }),
    "02.psnr": (lambda x, y, peak: -20 * np.log10(np.sqrt(np.mean(np.square((x - y).numpy()))) / peak), {
        "must be one number": lambda x, y, peak: 10 * torch.log10(peak**2 / (x - y).square().mean(dim=(1, 2))),
        "Max = 1: 20 dB": lambda x, y, peak: 10 * torch.log10(peak / (x - y).square().mean().sqrt()),
        "20 dB more": lambda x, y, peak: 200 * (x - y).abs().mean() / peak,  # no logarithm
        "the sign": lambda x, y, peak: 20 * torch.log10(peak / (x - y).mean()),
        "any other Max": lambda x, y, peak: 10 * torch.log10(min(peak, 255) ** 2 / (x - y).square().mean()),
        "average the squares": lambda x, y, peak: 20 * torch.log10(peak / (x - y).abs().mean()),
    }),
    "02.tenth": (0.92, {"must be a number": np.nan, "0.9 squared": 0.458}),
    "03.luma_only": (lambda network, lr: upsample(lr, 4) + network(to_gray(lr)) - upsample(to_gray(lr), 4), {
        "the network takes the luma": lambda network, lr: network(lr),
        "two of 24 x 20": lambda network, lr: with_chroma(network(to_gray(lr)), upsample(lr, 4))[:1],
        "answer to the luma": lambda network, lr: with_chroma(network(lr[:, 1:2]), upsample(lr, 4)),  # green
        "the chroma must be": lambda network, lr: with_chroma(network(to_gray(lr)), upsample(lr, 4, "nearest")),
    }),
    "03.draw": (lambda random: [np.full(9, random.choice([-1, 1])).tolist(), random.choice([-1, 1], 9).tolist()], {
        "two rows of nine": lambda random: random.normal(0, 1, size=9),
        "must be another": lambda random: (np.zeros(9), random.normal(0, 1, size=9)),
        "must be 0 for both": lambda random: (random.normal(1, 0.2, size=9), random.normal(0, 1, size=9)),
        "as often as it promises": centred,
        "in most draws": lambda random: random.normal(0, 1, size=(2, 9)),
    }),
    "03.absolute": (torch.tensor([0.9, 0.39, 0.02]), {"0 to 1": [230, 99, 5], "smaller error": [0.6, 0.5, 0.4]}),
    "03.averages": (7, {"must be a number": "7 dB", "the logarithm of the mean": -7.03}),
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_check_accepts_another_style_refuses_by_each_property_and_lets_none_pass(key, capsys):
    right, wrong = ANSWERS[key]
    assert check(key, right) is True
    assert capsys.readouterr().out == f"{key}: right\n"
    for must, answer in wrong.items():
        assert check(key, answer) is False
        assert re.match(f"{key}: not yet: .*{re.escape(must)}", capsys.readouterr().out)
    for answer in [None, lambda *arguments: None] if callable(right) else [None]:
        assert check(key, answer) is False
        assert capsys.readouterr().out == f"{key}: not tried yet\n"


def test_a_mistake_in_the_readers_code_is_not_hidden():
    with pytest.raises(ZeroDivisionError) as mistake:
        check("01.area_matrix", lambda size, scale: 1 / 0)
    assert mistake.value.__notes__ == ["The check called your function with 12 and 3."]
    assert {Path(frame.path).name for frame in mistake.traceback} == {"test_exercises.py"}


CHOICE = ("up", "down")
TRUTH = {"dB": 26.618, CHOICE: "up", "": 4}
PREDICTED = [
    (24, "dB", "noted: 24 dB", "24 dB; it is 26.6 dB, so you are off by -2.6"),
    (np.float32(24.5), "dB", "noted: 24.5 dB", "24.5 dB; it is 26.6 dB, so you are off by -2.1"),
    (torch.tensor(3), "", "noted: 3", "3; it is 4, so you are off by -1"),
    ("up", CHOICE, "noted: up", "up; right"),
    ("down", CHOICE, "noted: down", "down; it is up"),
]
for form, asked, truth, answers in (
    ("dB", "a number (dB)", "26.6 dB", (None, "30", [30], np.arange(2), np.nan, True, 1j)),
    (CHOICE, "one of: up, down", "up", (None, "Up", 3, np.arange(2), CHOICE)),
):
    for answer in answers:
        note = f"not answered: put {asked}, in place of {answer!r}"
        PREDICTED.append((answer, form, note, f"not answered; it is {truth}"))


@pytest.mark.parametrize(("answer", "form", "noted", "revealed"), PREDICTED)
def test_a_prediction_is_compared_and_one_of_another_form_forgets_the_last(answer, form, noted, revealed, capsys):
    predict("01.a", "up" if form == CHOICE else 5, form)
    capsys.readouterr()
    predict("01.a", answer, form)
    reveal("01.a", TRUTH[form])
    assert capsys.readouterr().out == f"{noted}\nyour prediction: {revealed}\n"


def test_work_sheets_hold_no_solution_and_no_output_and_run_without(tmp_path, capsys):
    out = tmp_path / "sheets"
    assert main(["exercises", str(out)]) == 0
    sheets = pages.read_all(out)
    for name, page in pages.read_all(pages.FOLDER).items():
        cells = [cell for cell in page.cells if not pages.has_tag(cell, pages.SOLUTION)]
        for cell, left in zip(cells, sheets[name].cells, strict=True):
            folds = "<details>|</details>" if cell.cell_type == "markdown" else "$^"
            assert left.source.split() == "".join(re.split(folds, cell.source)[::2]).split()
            assert not any(left.get(made) for made in ("outputs", "execution_count"))
        assert "srlib" not in sheets[name].metadata
    words = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F821", str(out)]
    undefined = subprocess.run(words, capture_output=True, text=True)
    assert undefined.returncode == 0, undefined.stdout
    (out / "01_mine.ipynb").write_text("my answers")
    for given in (out, out / "01_mine.ipynb"):
        assert main(["exercises", str(given)]) == 2
        assert "new or empty folder" in capsys.readouterr().err
