"""Predictions that a reader enters, and exercises that check themselves. An answer that is still None passes, so
that Run All goes through a page that nobody has filled in."""

import reprlib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

# A check tries an answer on one property after the other: what must be, and whether it is.
Properties = Iterator[tuple[str, bool]]
Check = Callable[[Any], Properties]
_entered: dict[str, tuple[float | str | None, str]] = {}


class NotTried(Exception):
    """The reader's function returns None; the message says for what."""


class Refused(Exception):
    """The answer cannot be tried; the message says what it must be."""


def numbers(answer: Any) -> Tensor:
    """The numbers that an answer holds, in Python's, NumPy's or PyTorch's form; of anything else an empty row."""
    if isinstance(answer, Tensor):
        return answer.detach().cpu().double()
    try:
        array = np.asarray(answer)
    except (TypeError, ValueError, RuntimeError):  # rows of unequal length, say
        return torch.empty(0)
    return torch.as_tensor(array, dtype=torch.float64) if array.dtype.kind in "iuf" else torch.empty(0)


def one_number(answer: Any) -> float | None:
    """A single finite number, or None."""
    found = numbers(answer)
    return found.item() if found.ndim == 0 and found.isfinite() else None


def near(found: Tensor, wanted: Tensor, atol: float = 1e-6) -> bool:
    """Whether all numbers agree, within ``atol``."""
    return torch.allclose(found.double(), wanted.double(), atol=atol)


def predict(key: str, answer: Any, form: str | Sequence[str]) -> None:
    """Take a prediction, before the experiment: a number in the unit ``form``, or one of the choices ``form``."""
    taken: float | str | None
    if isinstance(form, str):
        asked, unit, taken = f"a number ({form})" if form else "a number", f" {form}".rstrip(), one_number(answer)
    else:
        asked, unit = f"one of: {', '.join(form)}", ""
        taken = answer if isinstance(answer, str) and answer in form else None
    _entered[key] = taken, unit
    if taken is None:
        print(f"not answered: put {asked}, in place of {reprlib.repr(answer)}")
    else:
        print(f"noted: {taken:g}{unit}" if isinstance(taken, float) else f"noted: {taken}")


def reveal(key: str, truth: Any) -> None:
    """Print, after the experiment, what came out and how near the prediction ``key`` was."""
    answer, unit = _entered.get(key, (None, ""))
    result = f"{truth:.3g}{unit}" if isinstance(truth, Real) else str(truth)
    if answer is None:
        print(f"your prediction: not answered; it is {result}")
    elif isinstance(truth, Real):
        print(f"your prediction: {answer:g}{unit}; it is {result}, so you are off by {answer - truth:+.2g}")
    else:
        print(f"your prediction: {answer}; {'right' if answer == truth else f'it is {result}'}")


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the reader's function returns; an error in it is the reader's to see. NotTried: it returns None.
    Refused: it is no function, or changes what it is given."""
    if not callable(function):
        raise Refused("the answer must be a function: its name alone, without parentheses")
    words = [f"a tensor {list(a.shape)}" if isinstance(a, Tensor) else reprlib.repr(a) for a in arguments]
    given, before = " and ".join(words), [(a, a.clone()) for a in arguments if isinstance(a, Tensor)]
    try:
        answer = function(*arguments)
    except Exception as error:
        error.add_note(f"The check called your function with {given}.")
        raise
    if answer is None:
        raise NotTried(f"your function returns None for {given}")
    if not all(torch.equal(argument, copy) for argument, copy in before):
        raise Refused("your function must not change the tensor that it is given: work on a new one")
    return answer


def number(truth: float, tolerance: float, hint: str) -> Check:
    """The check of a single number; ``hint`` is printed where it is wrong."""

    def judge(answer: Any) -> Properties:
        found = one_number(answer)
        yield "the answer must be a number", found is not None
        yield hint, found is not None and abs(found - truth) <= tolerance

    return judge


def check(key: str, answer: Any) -> bool:
    """Say whether an answer, a value or a function, is right, or the first property that it lacks; no solution.
    The check of the ``key`` "01.fold" is ``fold`` in ``course/checks.py``."""
    judge: Check = getattr(import_module("course.checks"), key[3:])
    passed = False
    try:
        if answer is None:
            raise NotTried
        for must, is_so in judge(answer):
            if not is_so:
                raise Refused(must)
            passed = True
    except (NotTried, Refused) as reason:
        untried = isinstance(reason, NotTried) and not passed
        print(f"{key}: not tried yet" if untried else f"{key}: not yet: {reason}")
        return False
    except Exception as error:  # a mistake in the reader's function: show that, not the lines of the check
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code is not ask.__code__:
            trace = trace.tb_next
        error.__traceback__ = trace.tb_next if trace else error.__traceback__
        raise
    print(f"{key}: right")
    return True
