"""What every committed page has to be, whatever it teaches.

Links that lead nowhere and formulas that cannot be read end the building of the site: see test_site.py.
"""

import json
import re

import nbformat
import pytest
from conftest import PARAMETERS
from nbformat import v4
from nbformat.v4.rwbase import rejoin_lines

from course import pages, results

MARKER = "# NBVAL_CHECK_OUTPUT"
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:home|root|work|tmp|Users|mnt|opt|var)/|[A-Z]:\\Users")
LACKS_ALT = re.compile(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>")
FOLDED = {"outputs_hidden": True, "source_hidden": True}


@pytest.fixture(params=pages.NAMES)
def page(request):
    """A page as it is in its file, while nbformat would mend ids; with its code, outputs and prose at hand."""
    text = (pages.FOLDER / f"{request.param}.ipynb").read_text(encoding="utf-8")
    assert len(text) < 2e6, "a page is under 2 MB"
    page = rejoin_lines(nbformat.from_dict(json.loads(text)))
    page.name, page.code = request.param, [cell for cell in page.cells if cell.cell_type == "code"]
    page.outputs = [output for cell in page.code for output in cell.outputs]
    prose = "\n\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    page.prose = re.sub(r"^```.*?^```", "", prose, flags=re.MULTILINE | re.DOTALL)
    return page


def unchecked(page):
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


def test_cells(page):
    assert len({cell.get("id") for cell in page.cells} - {None}) == len(page.cells), "each has an id of its own"
    assert page.metadata.kernelspec == pages.KERNEL
    assert [cell.source for cell in page.code if pages.has_tag(cell, "parameters")] == [PARAMETERS]
    assert max(len(cell.source.splitlines()) for cell in page.code) <= 30, "short enough to be read"
    source = "\n".join(cell.source for cell in page.code)
    assert re.findall(r"^[!%].*|get_ipython.*", source, re.MULTILINE) == [], "no shell line and no magic"
    assert MARKER in source.splitlines(), "nbval has something to compare"
    assert list(unchecked(page)) == []
    solutions = [cell for cell in page.code if pages.has_tag(cell, pages.SOLUTION)]
    told = [cell for cell in page.code if cell.source.removeprefix(f"{MARKER}\n").startswith("# Solution")]
    assert told == solutions
    assert all(cell.metadata.get("jupyter") == FOLDED for cell in solutions)
    place, links = pages.NAMES.index(page.name), re.findall(r"\]\((\w+)\.ipynb", page.prose)
    assert {*pages.NAMES[max(place - 1, 0) : place + 2]} - {page.name} <= {*links}, "links to the pages beside it"


def test_outputs(page):
    assert page.metadata.srlib.code_hash == pages.code_hash(page), "outputs of other code: run `make notebooks`"
    assert [cell.execution_count for cell in page.code] == [*range(1, len(page.code) + 1)]
    assert results.collect(page), "the closing cell calls page.summary()"
    kinds = {kind for o in page.outputs for kind in (o.output_type, o.get("name"), *o.get("data", ()))}
    assert not kinds & {"error", "stderr", pages.WIDGET}
    data = [{"text": o.get("text", "")} | o.get("data", {}) for o in page.outputs]
    shown = ["".join(each.get(kind, "") for kind in ("text", "text/plain", "text/html")) for each in data]
    assert [text for text in shown if MACHINE_PATHS.search(text)] == []
    drawn = [o.metadata for o in page.outputs if "image/png" in o.get("data", {})]
    assert "" not in [about.get("image/png", {}).get("alt", "").strip() for about in drawn]
    assert LACKS_ALT.findall(page.prose + "".join(shown)) == []
    for number, text in enumerate(shown):
        still = any("image/png" in each for each in data[max(number - 3, 0) : number])
        assert still or '<div id="moving-' not in text, "a figure that moves has one that stands in for it"


def test_no_page_is_left_out():
    assert sorted(path.stem for path in pages.FOLDER.glob("*.ipynb")) == [*pages.NAMES]


def test_solutions_are_folded_when_a_page_has_been_executed():
    cells = [v4.new_code_cell(metadata={"tags": [tag], "papermill": {}}) for tag in (pages.SOLUTION, "other")]
    pages.tidy(v4.new_notebook(cells=cells))
    assert [cell.metadata.get("jupyter") for cell in cells] == [FOLDED, None]
    assert "papermill" not in cells[0].metadata
