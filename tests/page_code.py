"""Import the functions and classes that a page writes out, without running its experiments."""

import ast
from pathlib import Path
from types import SimpleNamespace

import nbformat

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def definitions(name: str) -> SimpleNamespace:
    """All imports, functions and classes at the top level of a page's code cells, executed in order."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    kept = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
            kept += [node for node in ast.parse(cell.source).body if isinstance(node, kinds)]
    namespace: dict = {"__name__": name}
    exec(compile(ast.Module(kept, type_ignores=[]), f"{name}.ipynb", "exec"), namespace)
    return SimpleNamespace(**namespace)
