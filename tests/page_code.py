"""Import the functions and classes that a page writes out, without running its experiments."""

import ast
from types import SimpleNamespace
from typing import Any

from course import notebooks as pages


def code_cells(name: str) -> list[Any]:
    """A page's code cells."""
    return [cell for cell in pages.read(pages.FOLDER / f"{name}.ipynb").cells if cell.cell_type == "code"]


def definitions(name: str, **given: Any) -> SimpleNamespace:
    """All imports, functions and classes at the top level of a page's code cells; ``given`` are its constants."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    kept = [node for cell in code_cells(name) for node in ast.parse(cell.source).body if isinstance(node, kinds)]
    namespace: dict = {"__name__": name, **given}
    exec(compile(ast.Module(kept, type_ignores=[]), f"{name}.ipynb", "exec"), namespace)
    return SimpleNamespace(**namespace)
