"""Predictions, checks and work sheets: what is right is accepted, what is plausibly wrong is not, None passes."""

import ast
from importlib import import_module
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from conftest import tiny_page
from page_code import code_cells, definitions

from course import notebooks as pages
from course.__main__ import main
from course.exercises import check, predict, reveal
from srlib.images.color import from_ycbcr, to_gray, to_ycbcr
from srlib.images.degrade import upsample

CHECKED = [name for name in pages.NAMES if (pages.FOLDER.parent / f"course/checks/page_{name[:2]}.py").exists()]
KEYS = [(name, key) for name in CHECKED for key in import_module(f"course.checks.page_{name[:2]}").CHECKS]


def shuffled(y: torch.Tensor, scale: int, *order: int) -> torch.Tensor:
    """The phases of a picture as channels, its axes n, c, i, a, j, b put into another order."""
    n, c, height, width = y.shape
    y = y.reshape(n, c, height // scale, scale, width // scale, scale).permute(*order)
    return y.reshape(n, c * scale**2, height // scale, width // scale)


def with_chroma(luma, rgb):
    """Luma of one picture, chroma of another."""
    return from_ycbcr(torch.cat([luma, to_ycbcr(rgb, limited=False)[:, 1:]], dim=1), limited=False)


def root_mean_square(output, target):
    return float((output - target).square().mean().sqrt())


def shared_and_single(random):
    """Tiles that share one photo's effect, and photos that have one each."""
    return random.normal(0, 1) + random.normal(0, 0.2, size=9), random.normal(0, 1, size=9)


def centred(random):
    """Photos whose mean was taken off, so that no interval can miss 0."""
    tiles, photos = shared_and_single(random)
    return tiles, photos - photos.mean()


# Answers that a reader might give; none of them is what a check was written against.
WRONG = {
    "01.area_matrix": [
        lambda size, scale: torch.eye(size)[scale // 2 :: scale],  # one pixel of each block
        lambda size, scale: torch.eye(size // scale).repeat_interleave(scale, 1),  # sums, no means
        lambda size, scale: torch.eye(size // scale).repeat_interleave(scale, 0) / scale,  # transposed
        lambda size, scale: torch.eye(size // 3).repeat_interleave(3, 1) / 3,  # this one scale
        lambda size, scale: np.kron(np.eye(size // scale), np.ones(scale) / scale).T,
        lambda size, scale: torch.full((size // scale, size), 1 / size),  # the mean of all
        lambda size, scale: torch.eye(size // scale).repeat(1, scale) / scale,  # every fourth column
        lambda size, scale: (torch.eye(size // scale).repeat_interleave(scale, 1) / scale).roll(1, 1),
        torch.eye(44).repeat_interleave(4, 1) / 4,  # the matrix, no function
        lambda size, scale: "the matrix of area",
    ],
    "01.fold": [
        lambda f: f % 1,
        lambda f: min(f, 0.5),
        lambda f: 1 - f,
        lambda f: abs(1 - f) if f > 0.5 else f,
        lambda f: f % 0.5,
        lambda f: f / 4,
        lambda f: f - round(f),
        lambda f: min(abs(f - n) for n in (0, 1, 2)),  # as far as the slider goes
        lambda f: f if f <= 0.5 else None,
        lambda f: (f, 1 - f),
        0.3,
    ],
    "01.faults": [
        {"A": "stretched", "B": "unsorted", "C": "swapped"},
        {"A": "swapped", "B": "unsorted", "C": "stretched"},
        {"A": "swapped", "B": "stretched", "C": None},
        {"A": "swapped", "B": "swapped", "C": "swapped"},
        "swapped, stretched, unsorted",
        {"A": ["swapped"], "B": "stretched", "C": "unsorted"},
    ],
    "01.decibels": [3.01, 6.02, 12.04, "9 dB", True, np.nan, (3.01, 6.02)],
    "01.square": [176, 178, 144, 12],
    "01.rounding": [48.13, 54.15, 10.79, 34.78],
    "02.pixel_unshuffle": [
        lambda y, r: torch.nn.functional.pixel_shuffle(y, r) if not y.shape[1] % r**2 else y,
        lambda y, r: y.reshape(len(y), y.shape[1] * r**2, y.shape[2] // r, y.shape[3] // r),  # no permute
        lambda y, r: shuffled(y, r, 0, 1, 5, 3, 2, 4),  # row and column of the phase exchanged
        lambda y, r: shuffled(y, r, 0, 3, 5, 1, 2, 4),  # phases of all colours first
        lambda y, r: torch.cat([y[..., a::r, b::r] for a in range(r) for b in range(r)], dim=1),
        lambda y, r: y[..., ::r, ::r].repeat(1, r**2, 1, 1),
        lambda y, r: torch.nn.functional.pixel_unshuffle(y, r).int(),
        lambda y, r: torch.nn.functional.pixel_unshuffle(y[:1], r),  # one picture of the batch
        lambda y, r: (torch.nn.functional.pixel_unshuffle(y, r), y.zero_())[0],  # wipes its input
    ],
    "02.psnr": [
        lambda output, target, peak: 10 * np.log10(peak / root_mean_square(output, target)),
        lambda output, target, peak: 20 * np.log(peak / root_mean_square(output, target)),
        lambda output, target, peak: -20 * np.log10(root_mean_square(output, target)),  # forgets the peak
        lambda output, target, peak: 20 * np.log10(float(target.max()) / root_mean_square(output, target)),
        lambda output, target, peak: 20 * np.log10(peak / float((output - target).abs().mean())),
        lambda output, target, peak: 20 * np.log10(peak / abs(float((output - target).mean()))),
        lambda output, target, peak: 20 * np.log10(root_mean_square(output, target) / peak),
        lambda output, target, peak: 10 * torch.log10(peak**2 / (output - target).square().mean(dim=(1, 2))),
        lambda output, target, peak: 20 * np.log10(peak / root_mean_square(output[:, 1:-1], target[:, 1:-1])),
        lambda output, target, peak: 20 * np.log10((255 if peak > 1 else 1) / root_mean_square(output, target)),
        lambda output, target, peak: (  # of three colours only
            10 * torch.log10(3 * target[0].numel() * peak**2 / (output - target).square().sum())
        ),
        lambda output, target, peak: 10 * torch.log10(peak**2 / output.sub_(target).square().mean()),  # in place
    ],
    "02.tenth": [0.458, 1.0, 20.0, -0.915, 10.0],
    "03.luma_only": [
        lambda network, lr: network(lr),  # all three channels through the network
        lambda network, lr: network(to_gray(lr)).expand(-1, 3, -1, -1),  # a gray picture
        lambda network, lr: upsample(lr, 4),
        lambda network, lr: with_chroma(network(to_gray(lr)), upsample(lr, 4, "nearest")),
        lambda network, lr: with_chroma(network(lr[:, 1:2]), upsample(lr, 4)),  # green for luma
        lambda network, lr: with_chroma(network(upsample(to_gray(lr), 4)), upsample(lr, 16)),
        # luma in 16 to 235
        lambda network, lr: with_chroma(network(to_ycbcr(lr, limited=True)[:, :1]), upsample(lr, 4)),
        lambda network, lr: with_chroma(network(to_ycbcr(lr, limited=False))[:, :1], upsample(lr, 4)),
        lambda network, lr: with_chroma(network(to_gray(lr)[:, 0])[:, None], upsample(lr, 4)),
        lambda network, lr: (with_chroma(network(to_gray(lr)), upsample(lr, 4)), lr.zero_())[0],
        lambda network, lr: [with_chroma(network(to_gray(lr)), upsample(lr, 4))[0]],  # one photo of the batch
    ],
    "03.draw": [
        lambda random: (random.normal(0, 1, size=9), random.normal(0, 1, size=9)),
        lambda random: (random.normal(1, 0.2, size=9), random.normal(0, 1, size=9)),  # the truth is 1
        lambda random: (random.normal(0, 0.1, size=9), random.normal(0, 1, size=9)),  # narrow, and rightly
        lambda random: (random.normal(0, 1) + random.normal(0, 0.2, size=(2, 9))),  # neither holds it
        lambda random: (np.zeros(9), random.normal(0, 1, size=9)),
        lambda random: random.normal(0, 1, size=9),
        lambda random: (random.normal(0, 1, size=9), random.normal(0, 1) + random.normal(0, 0.2, size=9)),
        lambda random: (random.normal(0, 1) + random.normal(0, 0.2, size=8), random.normal(0, 1, size=9)),
        lambda random: shared_and_single(np.random.default_rng(0)),  # one draw for ever
        centred,
    ],
    "03.absolute": [
        *([0.62, 0.4564, 0.412], [0.2, 0.556, 1.0], [0.55, 0.473, 0.51], [0.5] * 3, [230, 99, 5]), 0.6, "orange"
    ],
    "03.averages": [-7.03, 22.97, 30.0, 3.01],
}  # fmt: skip

# Right answers in another style than the page's solution.
RIGHT = {
    "01.area_matrix": [
        lambda size, scale: np.kron(np.eye(size // scale), np.ones(scale) / scale),
        lambda size, scale: torch.nn.functional.avg_pool1d(torch.eye(size)[None], scale)[0].T,
    ],
    "01.fold": [
        lambda f: min(f % 1, 1 - f % 1),
        lambda f: torch.tensor(2 * np.pi * f).cos().acos() / (2 * np.pi),
    ],
    "01.faults": [{"C": "unsorted", "B": "stretched", "A": "swapped"}],
    "01.decibels": [9, torch.log10(torch.tensor(8.0)) * 10],
    "01.square": [max(s for s in range(179) if s % 3 == s % 4 == 0), 168.0],
    "01.rounding": [59, np.float32(58.92)],
    "02.pixel_unshuffle": [
        lambda y, r: torch.stack([y[..., a::r, b::r] for a in range(r) for b in range(r)], dim=2).flatten(1, 2),
        lambda y, r: torch.nn.functional.unfold(y, r, stride=r).unflatten(-1, [side // r for side in y.shape[2:]]),
    ],
    "02.psnr": [
        lambda output, target, peak: 20 * np.log10(peak / root_mean_square(output, target)),
        lambda output, target, peak: -10 * ((output - target) / peak).square().mean().log10(),
    ],
    "02.tenth": [0.92, torch.tensor(1 / 0.81).log10() * 10],
    "03.luma_only": [
        lambda network, lr: upsample(lr, 4) + network(to_gray(lr)) - upsample(to_gray(lr), 4),
        lambda network, lr: torch.cat([with_chroma(network(to_gray(x)), upsample(x, 4)) for x in lr.split(1)]),
    ],
    "03.draw": [
        shared_and_single,
        lambda random: [np.full(9, random.choice([-1, 1])).tolist(), random.choice([-1, 1], size=9).tolist()],
    ],
    "03.absolute": [torch.tensor([0.9, 0.39, 0.02]), np.array([230, 99, 5]) / 255],
    "03.averages": [7, torch.tensor(7.03)],
}


def solutions(name: str) -> list[str]:
    return [cell.source for cell in code_cells(name) if pages.has_tag(cell, pages.SOLUTION)]


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_a_check_accepts_the_pages_solution(name, key, capsys):
    (source,) = [source for source in solutions(name) if f'check("{key}"' in source]
    exec(source, vars(definitions(name)))
    assert capsys.readouterr().out.count(f"{key}: right\n") == 1


@pytest.mark.parametrize(("key", "answer"), [(key, answer) for _, key in KEYS for answer in WRONG[key]])
def test_a_check_refuses_what_is_wrong_and_says_which_property_fails(key, answer, capsys):
    assert check(key, answer) is False
    assert capsys.readouterr().out.startswith(f"{key}: not yet: ")


@pytest.mark.parametrize(("key", "answer"), [(key, answer) for _, key in KEYS for answer in RIGHT[key]])
def test_a_check_accepts_what_is_right_in_another_style(key, answer, capsys):
    assert check(key, answer) is True
    assert capsys.readouterr().out == f"{key}: right\n"


@pytest.mark.parametrize("key", [key for _, key in KEYS])
def test_every_check_has_wrong_answers_and_lets_none_pass(key, capsys):
    assert len(WRONG[key]) >= 3
    empty = [None, lambda *arguments: None] if callable(WRONG[key][0]) else [None]
    for answer in empty:
        assert check(key, answer) is False
        assert capsys.readouterr().out == f"{key}: not tried yet\n"


def test_a_mistake_in_the_readers_code_is_not_hidden():
    with pytest.raises(ZeroDivisionError) as mistake:
        check("01.area_matrix", lambda size, scale: 1 / 0)
    assert mistake.value.__notes__ == ["The check called your function with 12 and 3."]
    assert {Path(frame.path).name for frame in mistake.traceback} == {"test_exercises.py"}


@pytest.mark.parametrize(
    ("answer", "form", "truth", "noted", "revealed"),
    [
        (None, "dB", 26.618, "not answered: put a number (dB), in place of None", "not answered; it is 26.6 dB"),
        (24, "dB", 26.618, "noted: 24 dB", "24 dB; it is 26.6 dB, so you are off by -2.6"),
        (
            None,
            ("up", "down"),
            "up",
            "not answered: put one of: up, down, in place of None",
            "not answered; it is up",
        ),
        ("up", ("up", "down"), "up", "noted: up", "up; right"),
        ("down", ("up", "down"), "up", "noted: down", "down; it is up"),
        (3, "", 4, "noted: 3", "3; it is 4, so you are off by -1"),
        (np.float32(24.5), "dB", 26.5, "noted: 24.5 dB", "24.5 dB; it is 26.5 dB, so you are off by -2"),
        (torch.tensor(3), "", 4, "noted: 3", "3; it is 4, so you are off by -1"),
    ],
)
def test_a_prediction_is_entered_and_then_compared(answer, form, truth, noted, revealed, capsys):
    predict("01.a", answer, form)
    reveal("01.a", truth)
    assert capsys.readouterr().out == f"{noted}\nyour prediction: {revealed}\n"


@pytest.mark.parametrize(
    ("answer", "form", "asked"),
    [
        *(
            (answer, "%", "a number (%)")
            for answer in ("30 %", "30", (20, 30), [30], np.arange(2), np.nan, True, 1j)
        ),
        *(
            (answer, ("up", "down"), "one of: up, down")
            for answer in ("Up", 3, np.arange(2), ("up", "down"), True)
        ),
    ],
)
def test_a_prediction_of_another_form_is_answered_in_a_sentence_and_forgets_the_last(answer, form, asked, capsys):
    predict("01.a", 5 if isinstance(form, str) else "up", form)
    capsys.readouterr()
    predict("01.a", answer, form)
    assert capsys.readouterr().out == f"not answered: put {asked}, in place of {answer!r}\n"
    reveal("01.a", "up")
    assert capsys.readouterr().out == "your prediction: not answered; it is up\n"


# ---------------------------------------------------------------- work sheets


def test_work_sheets_hold_no_solution_and_no_output(tiny_series, tmp_path, capsys):
    folder = tiny_series()
    path = folder / f"{pages.NAMES[0]}.ipynb"
    page = pages.stamp(tiny_page(pages.NAMES[0], ["answer = None", "# Check\nassert 1 + 1 == 2"]), 1.0)
    page.cells[3].metadata["tags"] = [pages.SOLUTION]
    prose = page.cells[2].source
    page.cells[2].source += "\n\n<details><summary>Solution</summary>\n\n42\n\n</details>\n\nMore."
    page.cells[4].outputs = [nbformat.v4.new_output("stream", text="2\n")]
    page.cells[4].execution_count = 3
    pages.write(path, page)
    before, out = path.read_bytes(), tmp_path / "sheets"
    assert main(["exercises", str(out)]) == 0
    assert sorted(file.stem for file in out.iterdir()) == sorted(pages.NAMES)
    sheet = pages.read(out / path.name)
    assert [cell.source for cell in sheet.cells if "answer" in cell.source or "42" in cell.source] == []
    assert sheet.cells[2].source == f"{prose}\n\nMore."
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in sheet.cells)
    assert "srlib" not in sheet.metadata
    assert path.read_bytes() == before

    (out / "01_mine.ipynb").write_text("my answers")
    assert main(["exercises", str(out)]) == 2
    assert "new or empty folder" in capsys.readouterr().err
    assert main(["exercises", str(out / "01_mine.ipynb")]) == 2


@pytest.mark.parametrize("name", CHECKED)
def test_the_rest_of_a_page_needs_no_solution(name):
    """Names that only solutions define are used nowhere else, so a work sheet runs; and solutions are folded."""

    def nodes(cells, *kinds):
        return [node for cell in cells for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)]

    def made(cells):
        named = {node.name for node in nodes(cells, ast.FunctionDef, ast.ClassDef)}
        assigned = {node.id for node in nodes(cells, ast.Name) if isinstance(node.ctx, ast.Store)}
        return named | assigned | {node.arg for node in nodes(cells, ast.arg)}

    cells = code_cells(name)
    solved = [cell for cell in cells if pages.has_tag(cell, pages.SOLUTION)]
    rest = [cell for cell in cells if cell not in solved]
    assert solved
    assert (made(solved) - made(rest)) & {node.id for node in nodes(rest, ast.Name)} == set()
    for cell in solved:
        assert cell.source.splitlines()[0] in ("# Solution", "# Solution, continued"), "seen while folded"
        assert cell.metadata.get("jupyter") == {"source_hidden": True, "outputs_hidden": True}
