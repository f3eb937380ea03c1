"""What the first cell of every notebook calls: check the parameters, open the photos, keep the ledger."""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython import display
from PIL import Image

from course import plots, results, widgets
from srlib.data import Store, open_store
from srlib.device import choose_device, choose_precision
from srlib.errors import UsageError, known
from srlib.files import ROOT, resolve
from srlib.train.checkpoints import Trained, train_once
from srlib.train.config import TrainConfig

BUDGETS = ("smoke", "quick", "study", "full")
EXPECTED = ROOT / "expected"


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

    def pick(self, *, smoke: Any, quick: Any, full: Any, study: Any = None) -> Any:
        """The value for this budget; a study, the long run on CelebA, takes that of ``full`` if there is none."""
        values = {"smoke": smoke, "quick": quick, "study": full if study is None else study, "full": full}
        return values[self.budget]

    def train(self, config: TrainConfig, **options: Any) -> Trained:
        """Train, or load the same training from ``runs/`` and say so; options are those of ``train_once``."""
        options |= {"device": self.device, "precision": self.precision, "fresh": self.fresh}
        return train_once(config, self.store, self.runs, **options)

    def record(self, key: str, value: float | int | str | bool, unit: str = "") -> None:
        """Put a headline number into the ledger, anew where a cell is run again.

        ValueError: the key does not start with the page's number, as "02.gain" does."""
        if not key.startswith(f"{self.name[:2]}."):
            raise ValueError(f"key {key!r} must start with {self.name[:2]}.")
        value = value.item() if isinstance(value, np.generic | torch.Tensor) else value
        self.ledger[key] = {"value": round(value, 6) if isinstance(value, float) else value, "unit": unit}

    def claim(self, text: str, ok: bool, detail: str = "") -> None:
        """State what training is expected to show; AssertionError where it is asserted and does not hold.

        It is asserted on the sample from ``quick`` on, reported on other data, and not decided at ``smoke``."""
        if self.budget == "smoke":
            print(f"{text}: not decided at smoke")
            return
        print(f"{'so' if ok else 'not so'} in this run: {text}" + (f" ({detail})" if detail else ""))
        if self.is_sample and not ok:
            raise AssertionError(f"{text}: {detail}")

    def summary(self) -> None:
        """Display the recorded numbers as a table; the output carries them as JSON for the run."""
        rows = [{"result": key, "value": results.show_with_unit(**entry)} for key, entry in self.ledger.items()]
        note = "illustration: a few bundled photos" if self.is_sample else f"photos: {self.store.source}"
        plots.table(rows, f"{self.budget}, {note}", {results.MIME: self.ledger})
        fold = (widgets.FOLDER / "fold.js").read_text(encoding="utf-8")  # solutions, in a page saved as HTML
        display.display({"text/html": f"<script>{fold}</script>", "text/plain": ""}, raw=True)


def open_page(name: str, *, data: str, budget: str, seed: int, device: str, runs: str) -> Page:
    """Check a page's parameters, seed all generators, open the photos, and say in a few lines what was found.

    ``SRLIB_BUDGET`` overrides the budget (for nbval, which cannot set parameters), ``SRLIB_PRECISION`` forces
    float32 or bfloat16, ``SRLIB_FRESH`` is the start of a run that reuses no older network. UsageError: an unknown
    budget, device, precision or folder, or a seed out of its range."""
    if (override := os.environ.get("SRLIB_BUDGET") or budget) != budget:
        print(f"SRLIB_BUDGET is set: budget {override!r} instead of {budget!r}")
        budget = override
    known("budget", budget, BUDGETS)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UsageError(f"SEED must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    where, folder = choose_device(device), resolve(runs)
    data = data if data == "sample" else str(resolve(data))
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


def find_set5(data: str) -> list[torch.Tensor]:
    """Set5's HR pictures, uint8 ``[1, 3, H, W]``, from a folder or from ``benchmarks`` in or beside it, if any."""
    places = [Path(data), Path(data, "benchmarks"), Path(data).parent / "benchmarks"]
    files = next((found for p in places if (found := sorted(p.glob("Set5/HR_x4/*.png")))), [])
    return [torch.from_numpy(np.array(Image.open(f).convert("RGB"))).permute(2, 0, 1)[None] for f in files]
