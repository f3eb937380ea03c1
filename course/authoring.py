"""``python -m course author``: execute the committed pages in place, as a reader would run them, with the
parameters that stand in them, and bring the README's tables and picture up to date."""

import argparse
import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

from course import pages, results
from course.page import EXPECTED
from srlib.device import PRECISIONS
from srlib.errors import UsageError
from srlib.files import ROOT, write_json

README = ROOT / "README.md"
FAR = {"03": "channels", "04": "heads", "05": "losses"}  # what pages call numbers on other photos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", action="append", metavar="NN", help="this page, as in 03; may be given again")
    parser.add_argument("--fresh", action="store_true", help="reuse no trained network")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of training, as in course run")
    todo = "instead: make runs, or those of a reference (a file), the reference"
    parser.add_argument("--expect", type=Path, nargs="+", metavar="RUN", help=todo)


def main(args: argparse.Namespace) -> int:
    """Execute, stamp, rewrite; a page that fails stays as it was, and its broken copy is in ``runs/``."""
    if args.expect:
        print(*expect(args.expect), sep="\n")
        return 0
    names, runs = pages.select(args.only), ROOT / "runs"
    runs.mkdir(exist_ok=True)
    with pages.kernels(runs / "author.log", time.time() if args.fresh else 0.0, args.precision):
        for name in names:
            source, output = (folder / f"{name}.ipynb" for folder in (pages.FOLDER, runs))
            pages.write(source, pages.execute(source, output, {}, name))
            output.unlink()
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    (pages.FOLDER / "result.png").write_bytes(picture())
    return 0


def picture() -> bytes:
    """The README's picture as PNG: the figure of the one cell that is tagged ``readme``."""
    cells = (cell for page in pages.read_all(pages.FOLDER).values() for cell in page.cells)
    outputs = (output for cell in cells if pages.has_tag(cell, "readme") for output in cell.outputs)
    (png,) = (output.data["image/png"] for output in outputs if "image/png" in output.get("data", {}))
    return base64.b64decode(png)


def expect(runs: list[Path], expected: Path = EXPECTED) -> list[Path]:
    """Write what finished runs of the same photos and budget found into ``expected/``; a reference made by this
    stands for its runs, so that those of another machine or day can join. Of runs on other photos than the sample
    each page of ``FAR`` gets a file of its own, which names no folder of this machine. UsageError: runs of
    different kinds, or a reference that does not keep what its runs found."""
    sources, ledgers, how, machines = zip(*(found for run in runs for found in _found(run)))
    if len(set(sources)) > 1:
        raise UsageError("--expect: the runs differ in photos or budget; give runs of the same")
    (data, budget), far, paths = sources[0], sources[0][0] != "sample", []
    machine = "; ".join(dict.fromkeys("; ".join(machines).split("; ")))
    command = f"python -m course run --data {'FOLDER' if far else 'sample'} --budget {budget} --seed "
    command += "SEED" if len(ledgers) > 1 else re.findall(r"\d+", how[0])[0]
    for number, topic in FAR.items() if far else [("", budget)]:
        part = [{key: entry for key, entry in ledger.items() if key.startswith(number)} for ledger in ledgers]
        if any(part):
            paths.append(path := expected / f"{Path(data).name}-{topic}.json")
            again = f"{command} --only {number}" if far else command
            write_json(path, results.expect(part, again, machine, how))
    return paths


def _found(run: Path) -> Iterator[tuple[tuple[str, str], results.Ledger, str, str]]:
    """Photos and budget, ledger, how it was run, and machine: of a run's folder, or of each run of a reference."""
    if run.is_dir():
        about, ledger = (json.loads((run / f"{name}.json").read_bytes()) for name in ("environment", "results"))
        how = f"seed {about['seed']}, {about['precision']}"
        yield (about["data"], about["budget"]), ledger, how, about["machine"]["summary"]
        return
    kept, (data, _, budget) = results.load_expected(run), run.stem.rpartition("-")
    entries = kept["results"].items()
    if any("values" not in entry for _, entry in entries):
        raise UsageError(f"--expect: {run} does not keep what its runs found; give the runs themselves")
    for at, how in enumerate(kept["runs"]):
        found = {key: {"value": entry["values"][at], "unit": entry["unit"]} for key, entry in entries}
        ledger = {key: entry for key, entry in found.items() if entry["value"] is not None}
        yield (data, budget), ledger, how, kept["machine"]


def readme(text: str) -> str:
    """The README with its two generated tables made from the committed pages."""
    found, rows = pages.read_all(pages.FOLDER), []
    for name, page in found.items():
        link, needed = f"[{name[:2]}](notebooks/{name}.ipynb)", results.duration(page.metadata.srlib.wall_seconds)
        rows.append((link, pages.headings(page)[0][1], needed))
    tables = {"pages": results.table(("page", "title", "time on 2 cores"), rows)}
    tables["results"] = results.table_markdown(results.headline(results.collect(*found.values())))
    for name, table in tables.items():
        before, begin, _, end, after = re.split(f"(<!-- {name}:(?:begin|end) -->)", text)
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text
