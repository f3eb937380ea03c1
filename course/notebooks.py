"""The pages as files: names, parameters, headings, and the stamp that ties outputs to code."""

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill

from srlib.errors import UsageError
from srlib.files import ROOT, atomic

FOLDER = ROOT / "notebooks"  # the committed pages
NAMES = tuple(path.stem for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")))  # in reading order
PARAMETERS = {"DATA": "sample", "BUDGET": "quick", "SEED": 0, "DEVICE": "auto", "RUNS": "runs"}
INJECTED, FAILED = "injected-parameters", "papermill-error-cell-tag"  # papermill's tags
SOLUTION = "solution"  # tag of a cell that is folded, and left out of work sheets
WIDGET = "application/vnd.jupyter.widget-view+json"
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


def stamp(notebook: Any, seconds: float, **more: str) -> Any:
    """Note in an executed page that its outputs are those of its code, made now, in so many seconds."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    about = {"code_hash": code_hash(notebook), "wall_seconds": round(seconds, 1), "finished": now}
    notebook.metadata["srlib"] = nbformat.from_dict(about | more)
    return notebook


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
