"""Predictions that a reader enters, exercises that check themselves, and the pages as work sheets.

An answer that is still None passes, so that Run All goes through a page that nobody has filled in.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Any

from course import notebooks as pages
from srlib.errors import UsageError

# A check tries an answer on one property after the other: what must be, and whether it is.
Check = Callable[[Any], Iterator[tuple[str, bool]]]
FOLDED = re.compile(r"<details>.*?</details>\s*", re.DOTALL)

_entered: dict[str, tuple[Any, str]] = {}


class NotTried(Exception):
    """The reader's function still returns None."""


def predict(key: str, answer: Any, form: str | Sequence[str]) -> None:
    """Take a prediction, before the experiment: a number in the unit ``form``, or one of the choices ``form``.

    ValueError: the answer is neither None nor of that form.
    """
    unit = form if isinstance(form, str) else ""
    if isinstance(form, str):
        asked, fits = f"a number ({form})" if form else "a number", isinstance(answer, Real)
    else:
        asked, fits = f"one of: {', '.join(form)}", answer in form
    if answer is not None and not fits:
        raise ValueError(f"{key}: the answer must be {asked}; got {answer!r}")
    _entered[key] = answer, unit
    print(f"not answered: put {asked}, in place of None" if answer is None else f"noted: {answer} {unit}".rstrip())


def reveal(key: str, truth: Any) -> None:
    """Print, after the experiment, what came out and how near the prediction ``key`` was."""
    answer, unit = _entered.get(key, (None, ""))
    unit = f" {unit}" * bool(unit)
    result = f"{truth:.3g}{unit}" if isinstance(truth, Real) else str(truth)
    if answer is None:
        print(f"your prediction: not answered; it is {result}")
    elif isinstance(truth, Real):
        print(f"your prediction: {answer:g}{unit}; it is {result}, so you are off by {answer - truth:+.2g}")
    else:
        print(f"your prediction: {answer}; {'right' if answer == truth else f'it is {result}'}")


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the reader's function returns; NotTried where that is None."""
    if (answer := function(*arguments)) is None:
        raise NotTried
    return answer


def number(truth: float, tolerance: float, hint: str) -> Check:
    """The check of a single number; ``hint`` is printed where it is wrong."""

    def judge(answer: Any) -> Iterator[tuple[str, bool]]:
        yield "the answer must be a number", isinstance(answer, Real)
        yield hint, abs(answer - truth) <= tolerance

    return judge


def check(key: str, answer: Any) -> bool:
    """Say whether an answer, a value or a function, is right, or the first property that it lacks; no solution.

    ``key`` is an entry of ``CHECKS`` in ``course/checks/page_NN.py``, NN being what it starts with.
    """
    judge: Check = import_module(f"course.checks.page_{key[:2]}").CHECKS[key]
    try:
        if answer is None:
            raise NotTried
        failed = next((must for must, is_so in judge(answer) if not is_so), "")
    except NotTried:
        print(f"{key}: not tried yet")
        return False
    print(f"{key}: not yet: {failed}" if failed else f"{key}: right")
    return not failed


def sheet(page: Any) -> Any:
    """A page as a work sheet: without solutions, folded texts, outputs and stamp. The page itself is changed."""
    page.cells = [cell for cell in page.cells if not pages.has_tag(cell, pages.SOLUTION)]
    for cell in page.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = FOLDED.sub("", cell.source).rstrip()
    page.metadata.pop("srlib", None)
    return page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``exercises``."""
    parser.add_argument("out", metavar="OUT", type=Path, help="a folder, new or empty")


def main(args: argparse.Namespace) -> int:
    """Write all pages as work sheets. UsageError: OUT holds files."""
    if args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        raise UsageError(f"{args.out}: needs a new or empty folder, so that nobody's answers are overwritten")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, page in pages.read_all(pages.FOLDER).items():
        pages.write(args.out / f"{name}.ipynb", sheet(page))
    print(f"Work sheets: {args.out}")
    return 0
