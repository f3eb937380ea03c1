"""One page through papermill: a limit of time, failures by name, and none of the tools' noise."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import papermill

from course import notebooks as pages
from course.results import duration
from srlib.errors import DataError
from srlib.files import ROOT

LIMIT = {"smoke": 10 * 60, "quick": 40 * 60, "study": 48 * 3600, "full": 12 * 3600}  # seconds: ends what hangs


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
        pages.write(output, broken := pages.tidy(pages.read(output)))
        above = [text for at, text in pages.headings(broken) if at < started[-1]] or ["(before the first heading)"]
        what = f"{type(error).__name__}: {error} (where memory runs out, the system ends the largest process)"
        if isinstance(error, TimeoutError):
            what = f"TimeoutError: the page was not done within its {duration(limit)}"
        if isinstance(error, papermill.PapermillExecutionError):
            arrows = re.findall(r"^-+> *\d+ (.*)$", str(error), re.MULTILINE)  # for an assert without a message
            what = f"{error.ename}: {error.evalue or ''.join(arrows[-1:]).strip()}".rstrip(": ")
        raise DataError(f"{source.stem} failed in section {above[-1]!r}:\n    {what}") from error
    print(f"{label}: {duration(seconds := time.monotonic() - start)}", flush=True)
    pages.write(output, pages.stamp(pages.tidy(notebook), seconds, **stamp))
    return notebook
