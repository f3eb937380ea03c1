"""The pages as files: names, parameters and headings, their execution by papermill, with the stamp that ties
outputs to code, and work sheets made of them (``python -m course exercises``)."""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill

from course.results import duration
from srlib.errors import DataError, UsageError
from srlib.files import ROOT, atomic

FOLDER = ROOT / "notebooks"  # the committed pages
NAMES = tuple(path.stem for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")))  # in reading order
PARAMETERS = {"DATA": "sample", "BUDGET": "quick", "SEED": 0, "DEVICE": "auto", "RUNS": "runs"}
INJECTED, FAILED = "injected-parameters", "papermill-error-cell-tag"  # papermill's tags
SOLUTION = "solution"  # tag of a cell that is folded, and left out of work sheets
WIDGET = "application/vnd.jupyter.widget-view+json"
LIMIT = {"smoke": 10 * 60, "quick": 40 * 60, "study": 48 * 3600, "full": 12 * 3600}  # seconds: ends what hangs
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read(path: Path) -> Any:
    """A notebook as nbformat's node, in format 4."""
    return nbformat.read(path, as_version=4)


def read_all(where: Path) -> dict[str, Any]:
    """The pages that are in a folder, by name, in reading order."""
    return {name: read(path) for name in NAMES if (path := where / f"{name}.ipynb").exists()}


def write(path: Path, notebook: Any) -> None:
    """Validate, then write whole or not at all."""
    nbformat.validate(notebook)
    with atomic(path) as aside:
        aside.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def select(asked: list[str] | None) -> list[str]:
    """The pages that are asked for by number or name, all without, in reading order. UsageError where one is not
    there or has other parameters than the five, of which papermill would only warn."""
    known = {word: name for name in NAMES for word in (name, name[:2], name[1])}
    if unknown := set(asked or ()) - known.keys():
        raise UsageError(f"no page {', '.join(sorted(unknown))}: choose from {', '.join(n[:2] for n in NAMES)}")
    names = sorted({known[word] for word in asked or NAMES})
    for path in (FOLDER / f"{name}.ipynb" for name in names):
        found = papermill.inspect_notebook(str(path)) if path.exists() else {}
        if found.keys() != PARAMETERS.keys():
            needed = f"needs a cell tagged 'parameters' with {', '.join(PARAMETERS)}"
            raise UsageError(f"{path}: {needed}; has {', '.join(found) or 'none'}")
    return names


def has_tag(cell: Any, tag: str) -> bool:
    """Whether a cell is tagged so."""
    return tag in cell["metadata"].get("tags", ())


def code_hash(notebook: Any) -> str:
    """Hash of the code cells, in order; injected parameters, outputs and prose do not count."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code" and not has_tag(cell, INJECTED))
    return hashlib.sha256(json.dumps([cell["source"].rstrip() for cell in cells]).encode()).hexdigest()[:16]


def headings(notebook: Any) -> list[tuple[int, str]]:
    """Position of the cell and text of every heading; the first is the page's title."""
    cells = [(at, cell["source"]) for at, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "markdown"]
    prose = [(at, re.sub(r"(?ms)^```.*?^```", "", source)) for at, source in cells]
    return [(at, text.strip()) for at, source in prose for text in re.findall(r"(?m)^#{1,6}\s+(.+)$", source)]


def tidy(notebook: Any) -> Any:
    """Fold solutions, and take out what execution leaves behind and no reader needs: papermill's notes (they hold
    paths of this machine), dead progress bars, the version of the Python that ran."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.cells = [cell for cell in notebook.cells if not has_tag(cell, FAILED)]
    for cell in notebook.cells:
        for note in ("papermill", "execution"):
            cell.metadata.pop(note, None)
        if has_tag(cell, SOLUTION):
            cell.metadata["jupyter"] = {"outputs_hidden": True, "source_hidden": True}
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    return notebook


@contextmanager
def kernels(log: Path, fresh: float = 0.0, precision: str = "auto") -> Iterator[TextIO]:
    """Set the environment that kernels inherit, and append to ``log``, which is yielded, what goes to stderr;
    networks trained before ``fresh``, in seconds since 1970, are trained again."""
    before, stderr = dict(os.environ), os.dup(2)
    for name in ("SRLIB_BUDGET", "MPLBACKEND", "JUPYTER_PATH"):
        os.environ.pop(name, None)  # the test runner's, no figures, other kernels
    os.environ |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [before.get("PYTHONPATH")])]),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this Python, not one that the user has installed
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the debugger warns of frozen modules
        "SRLIB_FRESH": str(fresh),
        "SRLIB_PRECISION": precision,
    }
    try:
        with log.open("a", buffering=1, encoding="utf-8") as file:
            os.dup2(file.fileno(), 2)
            yield file
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.environ.clear()
        os.environ |= before


def execute(source: Path, output: Path, parameters: Mapping[str, Any], label: str, **stamp: str) -> Any:
    """Execute a page into ``output``, tidied and stamped; DataError says where it failed and leaves it there.
    ``parameters`` are injected after the page's own; without any it runs as it is, at the budget ``quick``."""
    if not (terminal := sys.stdout.isatty()):  # which has a progress bar instead
        print(f"{label} ...", flush=True)
    start, started, limit = time.monotonic(), [0], LIMIT[parameters.get("BUDGET", "quick")]
    options = {  # no time left would mean no limit
        "cwd": source.parent,
        "kernel_name": "python3",
        "timeout_func": lambda cell: max(start + limit - time.monotonic(), 0.1),
        "on_cell_start": lambda cell, cell_index: started.append(cell_index),
        "coalesce_streams": True,
        "start_timeout": 120,  # seconds, on a busy machine
        "progress_bar": {"desc": label, "leave": False, "file": sys.stdout} if terminal else False,
    }
    try:
        notebook = papermill.execute_notebook(source, output, dict(parameters), **options)
    except (papermill.PapermillExecutionError, TimeoutError, RuntimeError) as error:
        print(f"{label}: FAILED after {duration(time.monotonic() - start)}", flush=True)
        write(output, broken := tidy(read(output)))
        above = [text for at, text in headings(broken) if at < started[-1]] or ["(before the first heading)"]
        what = f"{type(error).__name__}: {error} (where memory runs out, the system ends the largest process)"
        if isinstance(error, TimeoutError):
            what = f"TimeoutError: the page was not done within its {duration(limit)}"
        if isinstance(error, papermill.PapermillExecutionError):
            arrows = re.findall(r"^-+> *\d+ (.*)$", str(error), re.MULTILINE)  # for an assert without a message
            what = f"{error.ename}: {error.evalue or ''.join(arrows[-1:]).strip()}".rstrip(": ")
        raise DataError(f"{source.stem} failed in section {above[-1]!r}:\n    {what}") from error
    print(f"{label}: {duration(seconds := time.monotonic() - start)}", flush=True)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    about = {"code_hash": code_hash(notebook), "wall_seconds": round(seconds, 1), "finished": now}
    tidy(notebook).metadata["srlib"] = nbformat.from_dict(about | stamp)
    write(output, notebook)
    return notebook


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="a folder, new or empty")


def main(args: argparse.Namespace) -> int:
    """Write all pages without solutions, folded texts, outputs and stamps. UsageError: OUT holds files."""
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UsageError(f"{args.out}: needs a new or empty folder, so that nobody's answers are overwritten")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, page in read_all(FOLDER).items():
        page.cells = [cell for cell in page.cells if not has_tag(cell, SOLUTION)]
        for cell in page.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            else:
                cell.source = re.sub(r"<details>.*?</details>\s*", "", cell.source, flags=re.DOTALL).rstrip()
        page.metadata.pop("srlib", None)
        write(args.out / f"{name}.ipynb", page)
    print(f"Work sheets: {args.out}")
    return 0
