"""One page through papermill: a time limit for the whole page, and none of the tools' noise."""

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import papermill
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError, strip_color
from papermill.execute import remove_error_markers

from course import notebooks as pages
from course.report import duration

START_TIMEOUT = 120  # seconds that a kernel may take to start on a busy machine


class PageFailed(Exception):
    """A page did not run to its end.

    Attributes:
        page, section: where it was.
        error: type and message, as the page's reader would see them.
        traceback: of the failing cell, without colours; may be empty.
    """

    def __init__(self, page: str, section: str, error: str, traceback: str = "") -> None:
        super().__init__(f"page {page}, section {section!r}: {error}")
        self.page, self.section, self.error, self.traceback = page, section, error, traceback


def kernel_environment(fresh: float = 0.0) -> dict[str, str]:
    """The environment of the kernels: this process's, less what would silently change a page.

    ``fresh`` goes on as ``SRLIB_FRESH``: networks trained before that time, in seconds since 1970, are
    trained again.
    """
    # SRLIB_BUDGET belongs to the test runner; MPLBACKEND of a headless shell would swallow the figures
    env = {
        key: value for key, value in os.environ.items() if key not in ("SRLIB_BUDGET", "SRLIB_FRESH", "MPLBACKEND")
    }
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(pages.ROOT), env.get("PYTHONPATH")]))
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else the debugger warns of frozen modules
    if fresh:
        env["SRLIB_FRESH"] = str(fresh)
    return env


def execute(
    source: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    limit: float,
    log: TextIO,
    env: Mapping[str, str],
    on_cell: Callable[[int], None] = lambda number: None,
) -> Any:
    """Execute a page into ``output``, which is kept with the error in it where a cell fails.

    Args:
        parameters: injected after the page's own; none leaves the page as it is.
        limit: seconds for all cells together.
        log: an open file that takes what the kernel's process writes to its own stdout and stderr.
        env: the kernel's environment, see :func:`kernel_environment`.
        on_cell: called with 1, 2, ... as code cells start.

    Returns:
        The executed notebook, tidied.

    Raises:
        PageFailed: a cell raised, the time was up, or the kernel died.
    """
    at = number = 0  # the cell that runs: its position, and its count among the page's own code cells

    def on_cell_start(cell: Any, cell_index: int) -> None:
        nonlocal at, number
        at = cell_index
        if cell.cell_type == "code" and pages.INJECTED not in cell.metadata.get("tags", ()):
            number += 1
            on_cell(number)

    try:
        notebook = papermill.execute_notebook(
            source,
            output,
            parameters=dict(parameters),
            engine_name="srlib",
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            page_limit=limit,
            on_cell_start=on_cell_start,
            kernel_options={"env": dict(env), "cwd": str(source.parent), "stdout": log, "stderr": log},
        )
    except PapermillExecutionError as error:
        ename, evalue, traceback = error.ename, error.evalue, strip_color("\n".join(error.traceback))
        arrows = re.findall(r"^-+> *\d+ (.*)$", traceback, re.MULTILINE)
        evalue = evalue or (arrows[-1].strip() if arrows else "")  # an assert without a message
    except CellTimeoutError:
        ename, evalue, traceback = "TimeoutError", f"the page was not done within its {duration(limit)}", ""
    except DeadKernelError:
        ename, traceback = "DeadKernelError", ""
        evalue = "the page's process ended by itself; where memory runs out the system ends the largest process"
    except KeyboardInterrupt:
        # what the client leaves pending would complain, some time later, that its kernel is gone
        ensure_event_loop().set_exception_handler(lambda loop, context: None)
        raise
    except RuntimeError as error:  # from jupyter_client, when a kernel does not come up
        ename, evalue, traceback = "RuntimeError", f"the page's process did not start: {error}", ""
    else:
        pages.write(output, pages.tidy(notebook))
        return notebook

    broken = remove_error_markers(pages.read(output))
    if not traceback and broken.cells[at].cell_type == "code":  # the notebook holds no word of it yet
        broken.cells[at].outputs.append(new_output("error", ename=ename, evalue=evalue, traceback=[evalue]))
    pages.write(output, pages.tidy(broken))
    raise PageFailed(source.stem, pages.section(broken, at), f"{ename}: {evalue}".rstrip(": "), traceback)


class _OwnKernel(KernelSpecManager):
    """Pages run in the Python that runs the series, whatever kernels the user has installed elsewhere."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class _Client(PapermillNotebookClient):
    def create_kernel_manager(self) -> Any:
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = _OwnKernel()
        return manager


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        page_limit: float,
        on_cell_start: Callable[[Any, int], None],
        kernel_options: Mapping[str, Any],
        start_timeout: float,
        **_: Any,
    ) -> None:
        deadline = time.monotonic() + page_limit
        client = _Client(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            # a cell may take what is left of the page's time; 0 would mean without limit
            timeout_func=lambda cell: max(deadline - time.monotonic(), 0.1),
            on_cell_start=on_cell_start,
            coalesce_streams=True,
        )
        client.execute(**kernel_options)


papermill_engines.register("srlib", _Engine)
