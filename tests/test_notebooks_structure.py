"""What every committed page has to be, whatever it teaches; and that each rule is noticed when it is broken.

Links that lead nowhere and formulas that cannot be read end the building of the site: see test_site.py.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import PARAMETERS, tiny_page

from course import notebooks as pages
from course import results
from srlib.files import ROOT

MARKER = "# NBVAL_CHECK_OUTPUT"
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:home|root|work|tmp|Users|mnt|opt|var)/|[A-Z]:\\Users")


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(output: Any) -> str:
    """What an output shows as text or HTML."""
    data = output.get("data", {})
    return output.get("text", "") + data.get("text/plain", "") + data.get("text/html", "")


def problems(path: Path, notebook: Any) -> list[str]:
    """What is wrong with a page."""
    found = [in_the_file, in_the_code, in_the_sections, in_the_outputs, in_the_prose]
    return [problem for rules in found for problem in rules(path, notebook)]


def in_the_file(path: Path, notebook: Any) -> Iterator[str]:
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield str(error).splitlines()[0]
    raw = json.loads(path.read_text(encoding="utf-8"))  # since nbformat mends ids as it reads
    if len({cell.get("id") for cell in raw["cells"]} - {None}) != len(raw["cells"]):
        yield "every cell needs an id of its own"
    if notebook.metadata.get("kernelspec") != pages.KERNEL:
        yield f"kernelspec must be {pages.KERNEL}"
    if notebook.metadata.get("srlib", {}).get("code_hash") != pages.code_hash(notebook):
        yield "the code is newer than the outputs: run `make notebooks`"
    if (size := path.stat().st_size) >= 2e6:
        yield f"{size / 1e6:.1f} MB, must be under 2 MB"


def in_the_code(path: Path, notebook: Any) -> Iterator[str]:
    tagged = [cell.source for cell in code(notebook) if pages.has_tag(cell, "parameters")]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged 'parameters'"
    if tagged != [PARAMETERS]:
        yield f"the parameters must be {PARAMETERS}"
    for number, cell in enumerate(code(notebook), start=1):
        if (length := len(cell.source.splitlines())) > 30:
            yield f"code cell {number} has {length} lines"
        if "get_ipython" in cell.source or not cell.source.strip():
            yield f"code cell {number} is empty or calls get_ipython"
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield f"code cell {number}: shell line, magic or syntax error: {error.text}"


def in_the_sections(path: Path, notebook: Any) -> Iterator[str]:
    heading, last = "", None
    for cell in [*notebook.cells, nbformat.v4.new_markdown_cell("## end")]:
        found = re.match(r"##\s+(.+)", cell.source) if cell.cell_type == "markdown" else None
        if found:
            exempt = not heading or heading.lower().startswith(("what we found", "exercise"))
            if last is not None and not exempt and not is_check(last.source):
                yield f"section {heading!r} does not end in a '# Check' cell that asserts or claims"
            heading, last = found[1], None
        elif cell.cell_type == "code":
            last = cell


def is_check(source: str) -> bool:
    text = source.removeprefix(f"{MARKER}\n")
    return text.startswith("# Check") and bool(re.search(r"\bassert\b|\.claim\(|\.assert_\w+\(", text))


def in_the_outputs(path: Path, notebook: Any) -> Iterator[str]:
    counts = [cell.execution_count for cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}"
    for where, output in ((n, output) for n, cell in enumerate(code(notebook), 1) for output in cell.outputs):
        if output.output_type == "error":
            yield f"code cell {where} holds an error: {output.ename}"
        if output.get("name") == "stderr":
            yield f"code cell {where} wrote to stderr: {output.text[:80]}"
        if found := MACHINE_PATHS.search(text := shown(output)):
            yield f"code cell {where} shows a path of the machine: {text[found.start() :][:40]}"
        for kind in output.get("data", {}):
            if kind == pages.WIDGET:
                yield f"code cell {where} left a widget behind"
            if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip():
                yield f"code cell {where} shows a picture without alternative text"
    marked = [cell for cell in code(notebook) if MARKER in cell.source.splitlines()]
    if not marked:
        yield f"no cell is marked {MARKER}: nbval would compare nothing"
    for cell in marked:
        if not any(shown(output).strip() for output in cell.outputs):
            yield f"a marked cell has no output to compare: {cell.source[:80]}"
        if cell.source.splitlines()[0] != MARKER:
            yield f"the marker must be the first line: {cell.source[:80]}"
    if not (ledger := results.collect(notebook)):
        yield "records no result: the closing cell must call page.summary()"
    yield from (f"records {key!r}, of another page" for key in ledger if not key.startswith(f"{path.stem[:2]}."))


def in_the_prose(path: Path, notebook: Any) -> Iterator[str]:
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    prose = re.sub(r"^```.*?^```", "", "\n\n".join(cells), flags=re.MULTILINE | re.DOTALL)
    text = prose + "".join(shown(output) for cell in code(notebook) for output in cell.outputs)
    for image in re.findall(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>", text):
        yield f"no alternative text: {image[:80]}"
    files = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)}
    place = pages.NAMES.index(path.stem)
    for name in (*pages.NAMES[max(place - 1, 0) : place], *pages.NAMES[place + 1 : place + 2]):
        if f"{name}.ipynb" not in files:
            yield f"no link to {name}.ipynb"


@pytest.mark.parametrize("name", pages.NAMES)
def test_page(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert problems(path, pages.read(path)) == []


def test_there_is_no_other_page():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == sorted(pages.NAMES)


def good_page() -> Any:
    """The rules themselves are tried on it: page 01 as if executed, with nothing wrong."""
    v4 = nbformat.v4
    page = tiny_page(pages.NAMES[0], [f"{MARKER}\n# Check\nassert 1 + 1 == 2\nprint(2)"])
    for number, cell in enumerate(code(page), start=1):
        cell.execution_count = number
    _, compared, ledger = code(page)
    compared.outputs = [v4.new_output("stream", text="2\n")]
    alt = {"image/png": {"alt": "A cat"}}
    entry = {results.MIME: {"01.gain": {"value": 1.5, "unit": "dB"}}, "text/plain": "gain 1.5 dB"}
    ledger.outputs = [
        v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=alt),
        v4.new_output("display_data", entry),
    ]
    return pages.stamp(page, 1.0)


def test_solutions_are_folded_when_a_page_has_been_executed():
    page = good_page()
    code(page)[1].metadata.update(tags=[pages.SOLUTION], papermill={})
    pages.tidy(page)
    folded = {"outputs_hidden": True, "source_hidden": True}
    assert [cell.metadata.get("jupyter") for cell in code(page)] == [None, folded, None]
    assert "papermill" not in code(page)[1].metadata


def source(index, text):
    return lambda page: code(page)[index].update(source=text)


def prose(text):
    return lambda page: page.cells[2].update(source=f"## A first section\n\n{text}")


def output(**what):
    return lambda page: code(page)[1].outputs.append(nbformat.v4.new_output(**what))


FAULTS: list[tuple[str, Callable[[Any], Any]]] = [
    ("", lambda page: page),
    ("kernelspec", lambda page: page.metadata.pop("kernelspec")),
    ("id of its own", lambda page: page.cells[1].update(id=page.cells[0].id)),
    ("2 cells", lambda page: code(page)[1].metadata.update(tags=["parameters"])),
    ("must be", source(0, "SEED = int(0)")),
    ("31 lines", source(1, "x = 1\n" * 31)),
    ("shell line", source(1, "!ls")),
    ("get_ipython", source(1, "get_ipython().system('ls')")),
    ("[1, 7, 3]", lambda page: code(page)[1].update(execution_count=7)),
    ("ZeroDiv", output(output_type="error", ename="ZeroDiv")),
    ("stderr", output(output_type="stream", name="stderr", text="Warning")),
    ("widget", output(output_type="display_data", data={pages.WIDGET: {}})),
    ("path", output(output_type="stream", text="saved to /home/me/x.png")),
    ("2.0 MB", output(output_type="stream", text="x" * 2_000_000)),
    ("nothing", source(1, "# Check\nassert True")),
    ("no output", lambda page: code(page)[1].update(outputs=[])),
    ("first line", source(1, f"# Check\n{MARKER}\nassert True")),
    ("newer", source(1, "x = 1")),
    ("first section", source(1, "# Check\nprint('fine')")),
    ("cell 3", lambda page: code(page)[2].outputs[0].metadata.clear()),
    ("![](", prose("![](cat.png)")),
    ("<img", prose('<img src="cat.png">')),
    ("02_", lambda page: page.cells[0].update(source="# Page 01")),
    ("no result", lambda page: code(page)[2].update(outputs=[])),
    ("02.gain", lambda page: code(page)[2].outputs[1].data[results.MIME].update({"02.gain": {}})),
]


@pytest.mark.filterwarnings("ignore")  # nbformat on cell ids that are not unique
@pytest.mark.parametrize(("message", "spoil"), FAULTS)
def test_a_fault_is_noticed(message, spoil, tmp_path):
    page, path = good_page(), tmp_path / f"{pages.NAMES[0]}.ipynb"
    spoil(page)
    path.write_text(json.dumps(page), encoding="utf-8")
    found = " ".join(problems(path, page))
    assert message in found if message else found == ""
