"""What every committed page has to be, whatever it teaches.

Links that lead nowhere and formulas that cannot be read end the building of the site: see test_site.py.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from conftest import PARAMETERS, tiny_page
from nbformat import v4
from nbformat.v4.rwbase import rejoin_lines

from course import notebooks as pages
from course import results

MARKER = "# NBVAL_CHECK_OUTPUT"
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:home|root|work|tmp|Users|mnt|opt|var)/|[A-Z]:\\Users")
LACKS_ALT = re.compile(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>")


def code(page: Any) -> list[Any]:
    return [cell for cell in page.cells if cell.cell_type == "code"]


def outputs(page: Any) -> list[Any]:
    return [output for cell in code(page) for output in cell.outputs]


def shown(output: Any) -> str:
    """What an output shows as text or HTML."""
    data = output.get("data", {})
    return output.get("text", "") + data.get("text/plain", "") + data.get("text/html", "")


def prose(page: Any) -> str:
    cells = [cell.source for cell in page.cells if cell.cell_type == "markdown"]
    return re.sub(r"^```.*?^```", "", "\n\n".join(cells), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", pages.NAMES)
def test_a_page_is_whole(name):
    text = (pages.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    page = rejoin_lines(nbformat.from_dict(json.loads(text)))  # nbformat.read would mend ids
    assert len({cell.get("id") for cell in page.cells} - {None}) == len(page.cells), "each has an id of its own"
    assert page.metadata.kernelspec == pages.KERNEL
    assert page.metadata.srlib.code_hash == pages.code_hash(page), "outputs of other code: run `make notebooks`"
    assert len(text) < 2e6
    assert [cell.source for cell in code(page) if pages.has_tag(cell, "parameters")] == [PARAMETERS]
    assert max(len(cell.source.splitlines()) for cell in code(page)) <= 30, "a cell is too long to be read"
    assert [cell.execution_count for cell in code(page)] == [*range(1, len(code(page)) + 1)]
    assert any(MARKER in cell.source.splitlines() for cell in code(page)), "nbval has nothing to compare"
    assert results.collect(page), "the closing cell has to call page.summary()"
    place, links = pages.NAMES.index(name), re.findall(r"\]\((\w+)\.ipynb", prose(page))
    assert {*pages.NAMES[max(place - 1, 0) : place + 2]} - {name} <= {*links}, "links to the pages beside it"


def magic(page: Any) -> list[str]:
    return re.findall(r"^[!%].*|get_ipython.*", "\n".join(cell.source for cell in code(page)), re.MULTILINE)


def unchecked(page: Any) -> Iterator[str]:
    """Sections that do not end in a '# Check' cell that asserts or claims."""
    heading, last = "what we found", None
    for cell in [*page.cells, v4.new_markdown_cell("## end")]:
        if cell.cell_type == "code":
            last = cell.source.removeprefix(f"{MARKER}\n")
        elif found := re.match(r"##\s+(.+)", cell.source):
            checked = last is None or re.match(r"# Check(.|\n)*(\bassert\b|\.claim\(|\.assert_\w+\()", last)
            if not checked and not heading.lower().startswith(("what we found", "exercise")):
                yield heading
            heading, last = found[1], None


def failed(page: Any) -> list[Any]:
    """Outputs that are errors, warnings or widgets."""
    bad = {"error", "stderr", pages.WIDGET}
    return [o for o in outputs(page) if bad & {o.output_type, o.get("name"), *o.get("data", ())}]


def private(page: Any) -> list[str]:
    """Outputs that show a path of the machine."""
    return [text for text in map(shown, outputs(page)) if MACHINE_PATHS.search(text)]


def without_alt(page: Any) -> list[str]:
    """Pictures without an alternative text, in outputs and in prose."""
    drawn = [o for o in outputs(page) if "image/png" in o.get("data", {})]
    found = [str(o.metadata) for o in drawn if not o.metadata.get("image/png", {}).get("alt", "").strip()]
    return found + LACKS_ALT.findall(prose(page) + "".join(map(shown, outputs(page))))


def alone(page: Any) -> list[int]:
    """Figures that move without one before them that stands in for them."""
    moving = [n for n, o in enumerate(outputs(page)) if '<div id="moving-' in shown(o)]
    return [n for n in moving if not any("image/png" in o.get("data", {}) for o in outputs(page)[:n][-3:])]


def output(kind: str, **what: Any) -> Any:
    return v4.new_code_cell(outputs=[v4.new_output(kind, **what)])


# how faults are found, and cells that have them
FAULTS: dict[Any, list[Any]] = {
    magic: [v4.new_code_cell("!ls"), v4.new_code_cell("get_ipython().system('ls')")],
    unchecked: [v4.new_code_cell("# Check\nprint('fine')")],
    failed: [
        output("error", ename="ZeroDivisionError"),
        output("stream", name="stderr", text="Warning"),
        output("display_data", data={pages.WIDGET: {}}),
    ],
    private: [output("stream", text="saved to /home/me/x.png")],
    without_alt: [
        output("display_data", data={"image/png": "iVBORw0KGgo="}),
        *map(v4.new_markdown_cell, ("![](cat.png)", '<img src="cat.png">')),
    ],
    alone: [output("display_data", data={"text/html": '<div id="moving-x">'})],
}


@pytest.mark.parametrize("found", FAULTS)
def test_no_page_has_a_fault_and_one_would_be_found(found):
    assert {name: bad for name, page in pages.read_all(pages.FOLDER).items() if (bad := list(found(page)))} == {}
    for cell in FAULTS[found]:
        assert list(found(v4.new_notebook(cells=[v4.new_markdown_cell("## A section"), cell])))


def test_solutions_are_folded_when_a_page_has_been_executed():
    page = tiny_page(pages.NAMES[0])
    code(page)[1].metadata.update(tags=[pages.SOLUTION], papermill={})
    pages.tidy(page)
    folded = {"outputs_hidden": True, "source_hidden": True}
    assert [cell.metadata.get("jupyter") for cell in code(page)] == [None, folded, None]
    assert "papermill" not in code(page)[1].metadata
