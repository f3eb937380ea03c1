"""The five pages as files: their names, their parameters, the hash of their code, their headings."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from srlib.device import ROOT

NAMES = (
    "01_data_preparation",
    "02_subpixel_cnn",
    "03_channel_experiments",
    "04_checkerboard_artifacts",
    "05_psnr_limits",
)
PARAMETERS = {"DATA": "sample", "BUDGET": "quick", "SEED": 0, "DEVICE": "auto", "RUNS": "runs"}
INJECTED = "injected-parameters"  # papermill's tag
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def folder() -> Path:
    """Where the committed pages are."""
    return ROOT / "notebooks"


def read(path: Path) -> Any:
    """A notebook as nbformat's node, in format 4."""
    import nbformat

    return nbformat.read(path, as_version=4)


def write(path: Path, notebook: Any) -> None:
    """Validate, write aside, rename."""
    import nbformat

    nbformat.validate(notebook)
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(aside, path)


def code_hash(notebook: Any) -> str:
    """Hash of the code cells, in order; injected parameters, outputs and prose do not count."""
    code = [
        cell["source"].rstrip()
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and INJECTED not in cell["metadata"].get("tags", ())
    ]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]


def code_cells(notebook: Any) -> int:
    """How many code cells a page has."""
    return sum(cell["cell_type"] == "code" for cell in notebook["cells"])


def wrong_parameters(path: Path) -> str:
    """What is wrong with a page's ``parameters`` cell, or the empty string.

    Papermill only warns of a parameter that the page does not have, so this is asked before any run.
    """
    from papermill import inspect_notebook

    cells = [c for c in read(path).cells if "parameters" in c.metadata.get("tags", ())]
    if len(cells) != 1:
        return f"{path.name}: needs one cell tagged 'parameters', has {len(cells)}"
    found = {name: entry["default"] for name, entry in inspect_notebook(str(path)).items()}
    if found.keys() != PARAMETERS.keys():
        return f"{path.name}: parameters must be {', '.join(PARAMETERS)}; found {', '.join(found) or 'none'}"
    return ""


def title(notebook: Any) -> str:
    """The text of the page's first heading."""
    return next((text for _, text in _headings(notebook["cells"])), "")


def section(notebook: Any, index: int) -> str:
    """The last heading above cell ``index``."""
    headings = [text for at, text in _headings(notebook["cells"]) if at < index]
    return headings[-1] if headings else "(before the first heading)"


def _headings(cells: Any) -> list[tuple[int, str]]:
    found = []
    for index, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            prose = re.sub(r"^```.*?^```", "", cell["source"], flags=re.MULTILINE | re.DOTALL)
            found += [(index, text.strip()) for text in re.findall(r"^#{1,6}\s+(.+)$", prose, flags=re.MULTILINE)]
    return found


def tidy(notebook: Any) -> Any:
    """Take out, in place, what execution leaves behind and no reader needs.

    Papermill's notes (they hold paths of this machine), the state of widgets (a dead progress bar in a
    saved page) and the version of the Python that ran it.
    """
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for note in ("papermill", "execution"):
            cell.metadata.pop(note, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    return notebook
