"""The ledger: what the pages recorded, compared with what is expected, and printed as tables.

A page's closing cell shows its recorded numbers and carries them as JSON of type ``MIME`` in its output.
So an executed notebook is its own ledger, and every table elsewhere is made from notebooks.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srlib.errors import UsageError

MIME = "application/vnd.course.results+json"

Ledger = dict[str, dict[str, Any]]  # key -> {"value": number or text, "unit": text}

# what the README, the report and the terminal show first, under these labels
HEADLINE: dict[str, str] = {
    "01.bicubic_psnr": "bicubic enlargement of antialiased bicubic LR, RGB",
    "01.bicubic_psnr_lecture_lr": "the same from the lecture's LR",
    "01.mismatch_decimate": "a method fitted to one LR kernel and met with another: the largest loss",
    "01.minmax_ceiling": "the best possible mean PSNR under the lecture's per-image min-max target",
    "02.plain.rgb_psnr": "the lecture's network at this budget, RGB",
    "02.residual.rgb_psnr": "a residual network over bicubic at this budget, RGB",
    "02.residual.rgb_gain": "its gain over bicubic, RGB to RGB",
    "02.residual.gray_gain": "its gain over bicubic, Gray to Gray",
    "02.small.rgb_psnr": "`small`, cheaper than the lecture's network, after the same steps, RGB",
    "03.in_turn.rgb_psnr": "Gray to Gray applied to R, G and B in turn, small networks",
    "03.rgb.rgb_psnr": "RGB to RGB at the same cost per pass",
    "03.gray_rgb.saturation": "saturation that Gray to RGB keeps",
    "04.ramp_gain": "cost or gain in PSNR of a head without grids by algebra, against plain sub-pixel",
    "05.convention_spread": "spread of PSNR over conventions for one output",
    "05.lpips_range_at_30_db": "range of LPIPS over nine distortions of 30 dB",
    "05.lpips_gain_perceptual": "LPIPS gained by a perceptual loss",
    "05.psnr_cost_perceptual": "PSNR paid for it",
}

# tolerance of a new reference value, by unit; units that measure the machine are not compared
TOLERANCES = {
    "dB": 0.15,
    "s": None,
    "ms": None,
    "images/s": None,
    "x faster": None,
    "GFLOP/s": None,
    "MiB": None,
}


def collect(notebook: Mapping[str, Any]) -> Ledger:
    """All that the closing cell of an executed notebook recorded; empty where it was not executed.

    Raises:
        ValueError: one key recorded with two values.
    """
    ledger: Ledger = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            entries = output.get("data", {}).get(MIME, {})
            for key, entry in entries.items():
                entry = {"value": entry["value"], "unit": entry["unit"]}
                if ledger.setdefault(key, entry) != entry:
                    raise ValueError(f"result {key!r} is recorded as {ledger[key]} and as {entry}")
    return ledger


def merge(ledgers: Iterable[Ledger]) -> Ledger:
    """The ledgers of several pages as one.

    Raises:
        ValueError: a key on two pages.
    """
    merged: Ledger = {}
    for ledger in ledgers:
        if twice := merged.keys() & ledger.keys():
            raise ValueError(f"recorded by more than one page: {', '.join(sorted(twice))}")
        merged |= ledger
    return merged


def headline(ledger: Ledger) -> Ledger:
    """The entries of the ledger that are in ``HEADLINE``, by label and in its order."""
    return {label: ledger[key] for key, label in HEADLINE.items() if key in ledger}


def save_json(path: Path, content: Any) -> None:
    """Write JSON aside, then rename, so that a reader never meets half a file."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)


def load_expected(path: Path) -> dict[str, Any]:
    """A file of ``expected/``: ``{command, machine, results: {key: {value, tolerance, unit}}}``.

    A tolerance of null means: not compared (a time, a speed).

    Raises:
        UsageError: a part is missing.
    """
    expected = json.loads(path.read_text(encoding="utf-8"))
    if missing := {"command", "machine", "results"} - expected.keys():
        raise UsageError(f"{path}: lacks {', '.join(sorted(missing))}")
    for key, entry in expected["results"].items():
        if entry.keys() != {"value", "tolerance", "unit"}:
            raise UsageError(f"{path}: {key} needs exactly value, tolerance and unit, has {', '.join(entry)}")
    return expected


def expect(
    results: Ledger, command: str, machine: str, earlier: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of an ``expected/`` file from a run's results.

    A tolerance that ``earlier`` (the file so far) has is kept; a new one comes from the unit: see
    ``TOLERANCES``; other numbers get 5 %, texts and whole numbers must be equal.
    """
    kept = {key: entry["tolerance"] for key, entry in (earlier or {}).get("results", {}).items()}
    entries = {}
    for key, entry in results.items():
        value, unit = entry["value"], entry["unit"]
        if unit in TOLERANCES:
            tolerance = TOLERANCES[unit]
        elif isinstance(value, float):
            tolerance = float(f"{abs(value) * 0.05:.1g}")
        else:
            tolerance = 0
        entries[key] = {"value": value, "tolerance": kept.get(key, tolerance), "unit": unit}
    return {"command": command, "machine": machine, "results": entries}


@dataclass(frozen=True)
class Difference:
    """One result that is not as expected; ``str`` of it is a sentence."""

    key: str
    value: Any
    expected: Any
    tolerance: float
    unit: str

    def __str__(self) -> str:
        expected = show_with_unit(self.expected, self.unit)
        if self.value is None:
            return f"{self.key}: not recorded, expected {expected}"
        within = f" within {self.tolerance:g}" if self.tolerance else ""
        return f"{self.key}: {show_with_unit(self.value, self.unit)}, expected {expected}{within}"


def compare(results: Ledger, expected: Mapping[str, Any]) -> list[Difference]:
    """What of ``expected`` (see :func:`load_expected`) is missing from ``results`` or out of tolerance."""
    differences = []
    for key, entry in expected["results"].items():
        value = results.get(key, {}).get("value")
        if not _agrees(value, entry["value"], entry["tolerance"]):
            differences.append(Difference(key, value, entry["value"], entry["tolerance"] or 0, entry["unit"]))
    return differences


def _agrees(value: Any, expected: Any, tolerance: float | None) -> bool:
    if value is None:
        return False
    if tolerance is None:
        return True
    if isinstance(value, str | bool) or isinstance(expected, str | bool):
        return value == expected
    # not >= would let NaN through
    return value == expected or abs(value - expected) <= tolerance + 1e-12


def show(value: Any, unit: str = "") -> str:
    """A value as the tables print it, without its unit: decibels and per cents with 2 decimals, else 4 digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    if unit in ("dB", "%"):
        return f"{value:.2f}"
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"


def show_with_unit(value: Any, unit: str) -> str:
    """As :func:`show`, with the unit behind it."""
    return f"{show(value, unit)} {unit}".rstrip()


def table_markdown(entries: Ledger) -> str:
    """A ledger, or the part of it that :func:`headline` gives, as a Markdown table."""
    rows = [f"| {label} | {show_with_unit(**entry)} |" for label, entry in entries.items()]
    return "\n".join(["| result | value |", "|---|---:|", *rows]) + "\n"


def fill(text: str, name: str, content: str) -> str:
    """``text`` with what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->`` replaced.

    Raises:
        ValueError: the two markers are not there exactly once, in this order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"need {begin} and {end}, once each and in this order")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{content.strip()}\n{end}{rest.split(end)[1]}"
