"""One display for the series and the cells within a page: a bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Mapping

from tqdm import tqdm

from course.report import duration


class Progress:
    """Shows pages and cells as they start; a thread keeps the clock going while a cell trains.

    Args:
        cells: pages in order, each with the number of its code cells.
    """

    def __init__(self, cells: Mapping[str, int]) -> None:
        self.cells, self.names = dict(cells), list(cells)
        self.name, self.number, self.start = "", 0, 0.0
        self.bar = None
        if sys.stdout.isatty():
            total = sum(cells.values())
            form = "{desc} |{bar}| {n_fmt} of {total_fmt} cells, {elapsed}"
            self.bar = tqdm(total=total, file=sys.stdout, bar_format=form, leave=False, dynamic_ncols=True)
        self.over = threading.Event()
        self.clock = threading.Thread(target=self._tick, daemon=True)
        self.clock.start()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def page(self, name: str) -> None:
        """A page starts."""
        self.name, self.number, self.start = name, 0, time.monotonic()
        if self.bar is None:
            self.say(f"{self._place(name)} {name} ...")

    def cell(self, number: int) -> None:
        """The page's code cell ``number``, from 1 on, starts."""
        if self.bar is not None:
            self.bar.set_description_str(f"{self.name}, cell {number} of {self.cells[self.name]}", refresh=False)
            self.bar.update(number - max(self.number, 1))
        self.number = number

    def done(self, name: str, text: str) -> None:
        """A page is over, for the reason that ``text`` gives."""
        if self.bar is not None:
            self.bar.n = sum(self.cells[n] for n in self.names[: self.names.index(name) + 1])
        self.name = ""
        self.say(f"{self._place(name)} {name}: {text}")

    def close(self) -> None:
        """Take the bar away."""
        self.over.set()
        self.clock.join()
        if self.bar is not None:
            self.bar.close()

    def _place(self, name: str) -> str:
        return f"[{self.names.index(name) + 1}/{len(self.names)}]"

    def _tick(self) -> None:
        while not self.over.wait(1 if self.bar is not None else 30):
            if self.bar is not None:
                self.bar.refresh()
            elif self.name:
                passed = duration(time.monotonic() - self.start)
                self.say(f"      cell {self.number} of {self.cells[self.name]}, {passed}")
