"""The ledger: what the pages recorded, compared with what is expected, and printed as tables. A page's closing
cell carries its numbers as JSON of type ``MIME``: an executed notebook is its own ledger, for all tables."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

MIME = "application/vnd.course.results+json"
Ledger = dict[str, dict[str, Any]]  # key -> {"value": number or text, "unit": text}

# what the README, the report and the terminal show first, under these labels
HEADLINE: dict[str, str] = {
    "01.bicubic_psnr": "bicubic enlargement of antialiased bicubic LR, RGB",
    "01.bicubic_psnr_lecture_lr": "the same from the lecture's LR",
    "01.mismatch_decimate": "a filter fitted to bicubic LR and used on decimated LR: what it loses",
    "01.minmax_student": "PSNR of the mean error of a student that obeys a per-image min-max target (tiles)",
    "02.plain.rgb_psnr": "the lecture's network at this budget, RGB",
    "02.residual.rgb_psnr": "a residual network over bicubic at this budget, RGB",
    "02.residual.rgb_gain": "its gain over bicubic, RGB to RGB",
    "02.residual.gray_gain": "its gain over bicubic, Gray to Gray",
    "03.in_turn.rgb_psnr": "Gray to Gray applied to R, G and B in turn, small networks",
    "03.rgb.rgb_psnr": "RGB to RGB at the same cost per pass",
    "03.gray_rgb.saturation": "saturation that Gray to RGB keeps",
    "04.threshold_castlecsf": "from here a grid of period 4 can be seen, by one model of sight (castleCSF)",
    "05.convention_spread": "spread of PSNR over conventions for one output",
    "05.lpips_range_at_30_db": "range of LPIPS over nine distortions of 30 dB",
    "05.lpips_gain_perceptual": "LPIPS gained by a perceptual loss",
    "05.psnr_cost_perceptual": "PSNR paid for it",
    "06.set14.base": "`base`, which comes along, on Set14 (Y)",
    "06.set14.span-48": "SPAN (2023), published, on Set14 (Y)",
}
CLOCKS = ("s", "ms", "images/s", "x faster", "GFLOP/s", "MiB")  # units that measure the machine: not compared
LEVEL, PRIOR, FEW, LEAST, TINY = 0.999, 4, 3, 0.002, 1e-4  # of tolerances, see expect


def collect(*notebooks: Mapping[str, Any]) -> Ledger:
    """All that executed notebooks recorded; no two pages share a key, since it starts with the page's number."""
    cells = (cell for notebook in notebooks for cell in notebook["cells"])
    found = (output.get("data", {}).get(MIME, {}) for cell in cells for output in cell.get("outputs", ()))
    return {key: dict(entry) for entries in found for key, entry in entries.items()}


def headline(ledger: Ledger) -> Ledger:
    """The entries that are in ``HEADLINE``, by label and in its order; all, by key, where none is."""
    return {label: ledger[key] for key, label in HEADLINE.items() if key in ledger} or ledger


def load_expected(path: Path) -> dict[str, Any]:
    """A file of ``expected/``, as :func:`expect` makes it; a tolerance of null: not compared."""
    return json.loads(path.read_text(encoding="utf-8"))


def expect(ledgers: Sequence[Ledger], command: str, machine: str, runs: Sequence[str]) -> dict[str, Any]:
    """The content of an ``expected/`` file, from the ledgers of ``runs`` that differ in seed and precision.

    A number's tolerance is half of the 99.9 % interval for one new run. Few runs say little about a spread, so its
    variance is drawn towards the median of its kind, a page's results of one name and unit such as ``psnr``, as if
    ``PRIOR`` more runs had that one (Smyth 2004, doi:10.2202/1544-6115.1027), unless fewer than ``FEW`` have that
    name. It is 0.2 % of the value, and ``TINY``, at least. What was run once has no spread: its tolerance is a
    guess, 0.15 dB or 5 %. Texts and whole numbers that all runs agree on have to be equal. Clocks, and texts that
    differ, are not compared. What every run found is kept too, so that more runs can join."""
    kinds: dict[tuple[str, ...], list[float]] = defaultdict(list)
    found, entries = {}, {}
    for key in sorted(set().union(*ledgers)):
        several = [ledger[key] for ledger in ledgers if key in ledger]
        values, unit, variance = [entry["value"] for entry in several], several[0]["unit"], 0.0
        alike = kinds[key[:2], key.rsplit(".", 1)[-1], unit]
        if {type(value) for value in values} <= {int, float} and len(set(values)) > 1:
            alike.append(variance := float(np.var(values, ddof=1)))
        found[key] = values, unit, variance, alike
    for key, (values, unit, variance, alike) in found.items():
        first, n = values[0], len(values)
        entry = entries[key] = {"value": first, "tolerance": None, "unit": unit}
        if variance and unit not in CLOCKS:
            prior = PRIOR if len(alike) >= FEW else 0
            mean, freedom = float(np.mean(values)), n - 1 + prior
            spread = math.sqrt(((n - 1) * variance + prior * float(np.median(alike))) / freedom)
            half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * spread * math.sqrt(1 + 1 / n)
            entry |= {"value": mean, "tolerance": max(half, LEAST * abs(mean), TINY), "spread": spread, "runs": n}
        elif len(set(values)) == 1 and unit not in CLOCKS:
            entry["tolerance"] = 0
            if type(first) is float:
                guess = 0.15 if unit == "dB" else 0.05 * abs(first)
                entry["tolerance"] = guess if n == 1 else max(LEAST * abs(first), TINY)
        if len(ledgers) > 1:
            entry["values"] = [ledger.get(key, {}).get("value") for ledger in ledgers]
    return {"command": command, "machine": machine, "runs": list(runs), "results": entries}


def compare(ledger: Ledger, expected: Mapping[str, Any]) -> list[str]:
    """Sentences on what ``expected`` (see :func:`expect`) holds of the ledger's pages and is not so there."""
    sentences, numbers = [], {key[:2] for key in ledger}
    for key, entry in expected["results"].items():
        wanted, tolerance, unit = entry["value"], entry["tolerance"], entry["unit"]
        told = f"expected {show_with_unit(wanted, unit)}"
        if key not in ledger:
            sentences += [f"{key}: not recorded, {told}"] * (key[:2] in numbers)
        elif tolerance is not None and (value := ledger[key]["value"]) != wanted:
            compared = {type(value), type(wanted)} <= {int, float}
            if not compared or not math.isclose(value, wanted, rel_tol=0, abs_tol=tolerance + 1e-12):
                within = f" within {tolerance:.2g}" if tolerance else ""
                sentences.append(f"{key}: {show_with_unit(value, unit)}, {told}{within}")
    return sentences


def show_with_unit(value: Any, unit: str) -> str:
    """A value as the tables print it: decibels and per cents with 2 decimals, other numbers with 4 digits."""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, int):
        value = f"{value:,}"
    elif isinstance(value, float):
        usual = value == 0 or 1e-3 <= abs(value) < 1e4
        value = f"{value:.2f}" if unit in ("dB", "%") else f"{value:.4g}" if usual else f"{value:.2e}"
    return f"{value} {unit}".rstrip()


def duration(seconds: float) -> str:
    """Seconds as people say them: ``7 s``, ``3 min 5 s``, ``2 h 10 min``."""
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h} h {m} min" if h else f"{m} min {s} s" if m else f"{s} s"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; its last column is set to the right."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * (len(head) - 1) + "---:|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def table_markdown(entries: Ledger) -> str:
    """A ledger, or the part of it that :func:`headline` gives, as a Markdown table."""
    return table(("result", "value"), [(label, show_with_unit(**entry)) for label, entry in entries.items()])
