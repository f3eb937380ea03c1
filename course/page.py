"""What the first cell of every notebook calls: check the parameters, open the photos, keep the ledger."""

import os
import random
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from course import plots, results
from srlib.data import Store, open_store
from srlib.device import choose_device, choose_precision
from srlib.errors import UsageError
from srlib.files import resolve
from srlib.train.config import TrainConfig
from srlib.train.experiments import Trained, train_once

BUDGETS = ("smoke", "quick", "study", "full")
EXPECTED = Path(__file__).resolve().parent.parent / "expected"

T = TypeVar("T")


@dataclass
class Page:
    """The state that a page shares with the course: nothing else is hidden from the reader."""

    name: str
    data: str
    budget: str
    seed: int
    device: torch.device
    precision: torch.dtype
    runs: Path
    store: Store
    fresh: float = 0.0  # networks trained before this moment are trained again
    ledger: results.Ledger = field(default_factory=dict)

    @property
    def is_sample(self) -> bool:
        """Whether the photos are the bundled ones; rows from them are an illustration, not a verdict."""
        return self.data == "sample"

    @property
    def test_split(self) -> str:
        """The split that the page scores: test, or val where the data holds no test photos."""
        return "test" if self.store.counts()["test"] else "val"

    def pick(self, *, smoke: T, quick: T, full: T) -> T:
        """The value for this budget; a study trains as ``quick`` does until a page says otherwise."""
        return {"smoke": smoke, "quick": quick, "study": quick, "full": full}[self.budget]

    def train(self, config: TrainConfig, **options: Any) -> Trained:
        """Train by a config, or load the same training from ``runs/``; prints one line that tells which.

        Options are those of :func:`srlib.train.experiments.train_once`: ``init``, ``loss``, ``measure``, ``say``.
        """
        return train_once(
            config,
            self.store,
            self.runs,
            device=self.device,
            precision=self.precision,
            fresh=self.fresh,
            **options,
        )

    def record(self, key: str, value: float | int | str | bool, unit: str = "") -> None:
        """Put a headline number into the ledger; a cell that is run again records it anew.

        Raises:
            ValueError: a key that does not start with the page's number, as "02.gain" does.
        """
        number = self.name.split("_")[0]
        if not key.startswith(number + "."):
            raise ValueError(f"key {key!r} must start with {number}.")
        value = value.item() if isinstance(value, np.generic | torch.Tensor) else value
        self.ledger[key] = {"value": round(value, 6) if isinstance(value, float) else value, "unit": unit}

    def claim(self, text: str, ok: bool, detail: str = "") -> None:
        """State what training is expected to show.

        Asserted at ``quick`` and ``full`` on the sample, reported on other data, not decided at ``smoke``.

        Raises:
            AssertionError: the claim does not hold where it is asserted.
        """
        if self.budget == "smoke":
            verdict = "not decided at smoke"
        elif self.is_sample:
            verdict = "holds" if ok else "fails"
        else:
            verdict = "reported: " + ("holds" if ok else "does not hold")
        print(f"{text}: {verdict}" + (f" ({detail})" if detail and self.budget != "smoke" else ""))
        if verdict == "fails":
            raise AssertionError(f"{text}: {detail}")

    def summary(self) -> None:
        """Display the recorded numbers as a table; the output carries them as JSON for the run."""
        from IPython.display import display

        rows = [(key, results.show_with_unit(entry["value"], entry["unit"])) for key, entry in self.ledger.items()]
        body = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in rows)
        width = max((len(key) for key, _ in rows), default=0)
        note = "illustration: a few bundled photos" if self.is_sample else f"photos: {self.store.source}"
        display(
            {
                results.MIME: dict(self.ledger),
                "text/html": f"<table><caption>{escape(self.budget)}, {escape(note)}</caption>"
                f"<tr><th>result</th><th>value</th></tr>{body}</table>",
                "text/plain": "\n".join(f"{key:{width}}  {value}" for key, value in rows),
            },
            raw=True,
        )


def open_page(name: str, *, data: str, budget: str, seed: int, device: str, runs: str) -> Page:
    """Check a page's parameters, seed all generators, open the photos, and say in a few lines what was found.

    ``SRLIB_BUDGET`` overrides the budget (for nbval, which cannot set parameters), ``SRLIB_PRECISION`` forces
    float32 or bfloat16, ``SRLIB_FRESH`` is the start of a run that reuses no older network.

    Raises:
        UsageError: an unknown budget, device, precision or folder, or a seed that is no whole number.
    """
    override = os.environ.get("SRLIB_BUDGET")
    if override and override != budget:
        print(f"SRLIB_BUDGET is set: budget {override!r} instead of {budget!r}")
        budget = override
    if budget not in BUDGETS:
        raise UsageError(f"unknown budget {budget!r}: choose from {', '.join(BUDGETS)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"SEED must be a whole number from 0 on, got {seed!r}")
    where = choose_device(device)
    data = data if data == "sample" else str(resolve(data))
    folder = resolve(runs)
    store = open_store(data, folder)
    precision, reason = choose_precision(where, os.environ.get("SRLIB_PRECISION") or "auto")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that a page calls may use it
    torch.manual_seed(seed)
    plots.use_style()
    print(f"budget {budget}, seed {seed}, {where.type}, {reason}")
    print(store.describe())
    page = Page(name, data, budget, seed, where, precision, folder, store, float(os.environ.get("SRLIB_FRESH", 0)))
    if page.test_split == "val":
        print("no test photos here: the page scores the validation photos instead")
    return page
