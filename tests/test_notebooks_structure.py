"""What every committed page has to be, whatever it teaches; and that each rule is noticed when it is broken.

Links that lead nowhere and formulas that cannot be read end the building of the site: see test_site.py.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest
from conftest import PARAMETERS, tiny_page
from nbformat.v4.rwbase import rejoin_lines

from course import notebooks as pages
from course import results
from srlib.files import ROOT

MARKER = "# NBVAL_CHECK_OUTPUT"
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:home|root|work|tmp|Users|mnt|opt|var)/|[A-Z]:\\Users")
LACKS_ALT = re.compile(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>")


def read(text: str) -> Any:
    """A page as it is in its file, while nbformat would mend ids."""
    return rejoin_lines(nbformat.from_dict(json.loads(text)))


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


def unchecked(page: Any) -> Iterator[str]:
    """Sections that do not end in a '# Check' cell that asserts or claims."""
    heading, last = "what we found", None
    for cell in [*page.cells, nbformat.v4.new_markdown_cell("## end")]:
        if cell.cell_type == "code":
            last = cell.source.removeprefix(f"{MARKER}\n")
        elif found := re.match(r"##\s+(.+)", cell.source):
            checked = last is None or re.match(r"# Check(.|\n)*(\bassert\b|\.claim\(|\.assert_\w+\()", last)
            if not checked and not heading.lower().startswith(("what we found", "exercise")):
                yield heading
            heading, last = found[1], None


def neighbours(page: Any) -> set[str]:
    """The files of the pages before and after."""
    place = int(re.search(r"# (?:Page 0)?(\d)", page.cells[0].source)[1]) - 1
    return {f"{name}.ipynb" for name in (*pages.NAMES[max(place - 1, 0) : place], *pages.NAMES[place + 1 :][:1])}


def source(index: int, text: str) -> Callable:
    return lambda page: code(page)[index].update(source=text)


def said(text: str) -> Callable:
    return lambda page: page.cells[2].update(source=f"## A first section\n\n{text}")


def output(**what: Any) -> Callable:
    return lambda page: code(page)[1].outputs.append(nbformat.v4.new_output(**what))


def alone(page: Any) -> list[int]:
    """Figures that move without one before them that stands in for them."""
    moving = [n for n, o in enumerate(outputs(page)) if '<div id="moving-' in shown(o)]
    return [n for n in moving if not any("image/png" in o.get("data", {}) for o in outputs(page)[:n][-3:])]


def without_alt(page: Any) -> list[str]:
    """Pictures without an alternative text, in outputs and in prose."""
    drawn = [o for o in outputs(page) if "image/png" in o.get("data", {})]
    found = [str(o.metadata) for o in drawn if not o.metadata.get("image/png", {}).get("alt", "").strip()]
    return found + LACKS_ALT.findall(prose(page) + "".join(map(shown, outputs(page))))


# what has to be: how it is found that it is not, with where, and ways to plant that
RULES: dict[str, tuple[Callable[[Any], Any], *tuple[Callable[[Any], Any], ...]]] = {
    "every cell has an id of its own": (
        lambda page: len({cell.get("id") for cell in page.cells} - {None}) < len(page.cells),
        lambda page: page.cells[1].update(id=page.cells[0].id)),
    "the kernel is that of the course": (
        lambda page: page.metadata.get("kernelspec") != pages.KERNEL,
        lambda page: page.metadata.pop("kernelspec")),
    "outputs are those of the code (else: `make notebooks`)": (
        lambda page: page.metadata.get("srlib", {}).get("code_hash") != pages.code_hash(page),
        source(1, "# Check\nassert True")),
    "a page is under 2 MB": (
        lambda page: len(json.dumps(page)) >= 2e6,
        output(output_type="stream", text="x" * 2_000_000)),
    "one cell is tagged 'parameters', and holds them": (
        lambda page: [cell.source for cell in code(page) if pages.has_tag(cell, "parameters")] != [PARAMETERS],
        lambda page: code(page)[1].metadata.update(tags=["parameters"]), source(0, "SEED = int(0)")),
    "a cell of code has at most 30 lines": (
        lambda page: [n for n, cell in enumerate(code(page), 1) if len(cell.source.splitlines()) > 30],
        source(1, "x = 1\n" * 31)),
    "a page has no shell line and no magic": (
        lambda page: re.findall(r"^[!%].*|get_ipython.*", "\n".join(c.source for c in code(page)), re.MULTILINE),
        source(1, "!ls"), source(1, "get_ipython().system('ls')")),
    "a section ends in a '# Check' cell that asserts or claims": (
        lambda page: list(unchecked(page)), source(1, "# Check\nprint('fine')")),
    "cells are executed once, in order": (
        lambda page: [cell.execution_count for cell in code(page)] != [*range(1, len(code(page)) + 1)],
        lambda page: code(page)[1].update(execution_count=7)),
    "no output is an error, a warning or a widget": (
        lambda page: [o for o in outputs(page) if o.output_type == "error" or o.get("name") == "stderr"
                      or pages.WIDGET in o.get("data", {})],
        output(output_type="error", ename="ZeroDiv"),
        output(output_type="stream", name="stderr", text="Warning"),
        output(output_type="display_data", data={pages.WIDGET: {}})),
    "no output shows a path of the machine": (
        lambda page: [shown(o) for o in outputs(page) if MACHINE_PATHS.search(shown(o))],
        output(output_type="stream", text="saved to /home/me/x.png")),
    "pictures have an alternative text": (
        without_alt, lambda page: code(page)[2].outputs[0].metadata.clear(),
        said("![](cat.png)"), said('<img src="cat.png">')),
    "a figure that moves stands after one that stands in for it": (
        alone, output(output_type="display_data", data={"text/html": '<div id="moving-x">'})),
    "some cell is marked for nbval to compare": (
        lambda page: not any(MARKER in cell.source.splitlines() for cell in code(page)),
        source(1, "# Check\nassert True")),
    "the closing cell calls page.summary()": (
        lambda page: not results.collect(page), lambda page: code(page)[2].update(outputs=[])),
    "a page links to the ones before and after": (
        lambda page: neighbours(page) - {t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", prose(page))},
        lambda page: page.cells[0].update(source="# Page 01")),
}  # fmt: skip
PLANTED = [(rule, plant) for rule, (_, *plants) in RULES.items() for plant in plants]


@pytest.mark.parametrize("name", pages.NAMES)
def test_page(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    page = read(path.read_text(encoding="utf-8"))
    assert {rule: found for rule, (broken, *_) in RULES.items() if (found := broken(page))} == {}
    assert {other.stem for other in path.parent.glob("*.ipynb")} == {*pages.NAMES}


@pytest.fixture
def page() -> Any:
    """Page 01 as if executed, with nothing wrong."""
    page = tiny_page(pages.NAMES[0], [f"{MARKER}\n# Check\nassert 1 + 1 == 2\nprint(2)"])
    for number, cell in enumerate(code(page), start=1):
        cell.execution_count = number
    data = {"image/png": "iVBORw0KGgo=", results.MIME: {"01.gain": {"value": 1.5, "unit": "dB"}}}
    alt = {"image/png": {"alt": "A cat"}}
    code(page)[2].outputs = [nbformat.v4.new_output("display_data", data, metadata=alt)]
    return pages.stamp(page, 1.0)


@pytest.mark.parametrize(("rule", "plant"), PLANTED)
def test_a_fault_is_noticed(page, rule, plant):
    assert not any(broken(page) for broken, *_ in RULES.values())
    plant(page)
    assert RULES[rule][0](page)


def test_solutions_are_folded_when_a_page_has_been_executed(page):
    code(page)[1].metadata.update(tags=[pages.SOLUTION], papermill={})
    pages.tidy(page)
    folded = {"outputs_hidden": True, "source_hidden": True}
    assert [cell.metadata.get("jupyter") for cell in code(page)] == [None, folded, None]
    assert "papermill" not in code(page)[1].metadata
