"""What every committed page has to be, whatever it teaches; and that each rule notices when it is broken."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import tiny_page
from markdown_it import MarkdownIt
from math_core import LatexError, LatexToMathML
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from course import notebooks as pages
from course import results
from srlib.files import ROOT

NOTEBOOKS = ROOT / "notebooks"
MARKER = "# NBVAL_CHECK_OUTPUT"
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:home|root|work|tmp|Users|mnt|opt|var)/|[A-Z]:\\Users")
RULES: dict[str, Callable[[Path, Any], Iterator[str]]] = {}


def rule(function: Callable[[Path, Any], Iterator[str]]) -> Callable[[Path, Any], Iterator[str]]:
    """A rule takes a page's path and content and yields what is wrong with it."""
    RULES[function.__name__] = function
    return function


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: Any) -> str:
    """All Markdown, without fenced code."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def outputs(notebook: Any) -> list[tuple[str, Any]]:
    """Every output with the number of its code cell, from 1 on, in words."""
    return [
        (f"code cell {n}", output) for n, cell in enumerate(code(notebook), start=1) for output in cell.outputs
    ]


def output_text(output: Any) -> str:
    """What an output shows as text or HTML."""
    data = output.get("data", {})
    return output.get("text", "") + data.get("text/plain", "") + data.get("text/html", "")


@rule
def is_valid(path: Path, notebook: Any) -> Iterator[str]:
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield str(error).splitlines()[0]
    raw = json.loads(path.read_text(encoding="utf-8"))  # since nbformat mends ids as it reads
    if len({cell.get("id") for cell in raw["cells"]} - {None}) != len(raw["cells"]):
        yield "every cell needs an id of its own"
    if notebook.metadata.get("kernelspec") != pages.KERNEL:
        yield f"kernelspec must be {pages.KERNEL}"


@rule
def has_parameters(path: Path, notebook: Any) -> Iterator[str]:
    tagged = [cell for cell in code(notebook) if pages.has_tag(cell, "parameters")]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged 'parameters'"
        return
    found = {}
    for statement in ast.parse(tagged[0].source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            found[ast.unparse(statement.targets[0])] = statement.value.value
        else:
            yield f"not a literal: {ast.unparse(statement)}"
    if found != pages.PARAMETERS:
        yield f"parameters are {found}, must be {pages.PARAMETERS}"


@rule
def is_short_plain_python(path: Path, notebook: Any) -> Iterator[str]:
    for number, cell in enumerate(code(notebook), start=1):
        if (length := len(cell.source.splitlines())) > 30:
            yield f"code cell {number} has {length} lines"
        if "get_ipython" in cell.source or not cell.source.strip():
            yield f"code cell {number} is empty or calls get_ipython"
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield f"code cell {number}: shell line, magic or syntax error: {error.text}"


@rule
def ran_quietly(path: Path, notebook: Any) -> Iterator[str]:
    counts = [cell.execution_count for cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}"
    for where, output in outputs(notebook):
        if output.output_type == "error":
            yield f"{where} holds an error: {output.ename}"
        if output.get("name") == "stderr":
            yield f"{where} wrote to stderr: {output.text[:80]}"
        if pages.WIDGET in output.get("data", {}):
            yield f"{where} left a widget behind"
        if found := MACHINE_PATHS.search(text := output_text(output)):
            yield f"{where} shows a path of the machine: {text[found.start() :][:40]}"


@rule
def has_a_compared_output(path: Path, notebook: Any) -> Iterator[str]:
    marked = [cell for cell in code(notebook) if MARKER in cell.source.splitlines()]
    if not marked:
        yield f"no cell is marked {MARKER}: nbval would compare nothing"
    for cell in marked:
        if not any(output_text(output).strip() for output in cell.outputs):
            yield f"a marked cell has no output to compare: {cell.source[:80]}"
        if cell.source.splitlines()[0] != MARKER:
            yield f"the marker must be the first line: {cell.source[:80]}"


@rule
def has_its_outputs(path: Path, notebook: Any) -> Iterator[str]:
    if notebook.metadata.get("srlib", {}).get("code_hash") != pages.code_hash(notebook):
        yield "the code is newer than the outputs: run `make notebooks`"
    if (size := path.stat().st_size) >= 2e6:
        yield f"{size / 1e6:.1f} MB, must be under 2 MB"


@rule
def checks_every_section(path: Path, notebook: Any) -> Iterator[str]:
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
    lines = [line for line in source.splitlines() if line != MARKER]
    return lines[0].startswith("# Check") and bool(re.search(r"\bassert\b|\.claim\(|\.assert_\w+\(", source))


@rule
def describes_its_pictures(path: Path, notebook: Any) -> Iterator[str]:
    for where, output in outputs(notebook):
        for kind in output.get("data", {}):
            if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip():
                yield f"{where} shows a picture without alternative text"
    text = prose(notebook) + "".join(output_text(output) for _, output in outputs(notebook))
    for image in re.findall(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>", text):
        yield f"no alternative text: {image[:80]}"


@rule
def links_to_what_exists(path: Path, notebook: Any) -> Iterator[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(notebook))
    files = {target.split("#")[0] for target in targets if not re.match(r"https?:|mailto:|attachment:", target)}
    yield from (
        f"link to {file}, which does not exist" for file in files - {""} if not (path.parent / file).exists()
    )
    place = pages.NAMES.index(path.stem)
    for name in (*pages.NAMES[max(place - 1, 0) : place], *pages.NAMES[place + 1 : place + 2]):
        if f"{name}.ipynb" not in files:
            yield f"no link to {name}.ipynb"


@rule
def shows_formulas(path: Path, notebook: Any) -> Iterator[str]:
    markdown, mathml = MarkdownIt().use(dollarmath_plugin).use(amsmath_plugin), LatexToMathML()
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    blocks = [token for text in texts for token in markdown.parse(text)]
    for token in [*blocks, *(child for block in blocks for child in block.children or ())]:
        if token.type.startswith(("math", "amsmath")):
            try:
                mathml.convert_with_local_state(token.content.strip(), displaystyle=token.block)
            except LatexError as error:
                yield f"{token.content.strip()}: {error}"


@rule
def has_a_ledger(path: Path, notebook: Any) -> Iterator[str]:
    ledger = results.collect(notebook)
    if not ledger:
        yield "records no result: the closing cell must call page.summary()"
    for key in ledger:
        if not key.startswith(f"{path.stem[:2]}."):
            yield f"records {key!r}, which does not start with the page's number"


# ---------------------------------------------------------------- the committed pages


def test_the_five_pages_are_there():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(pages.NAMES)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("page", pages.NAMES)
def test_page(page, name):
    path = NOTEBOOKS / f"{page}.ipynb"
    assert list(RULES[name](path, pages.read(path))) == []


# ---------------------------------------------------------------- the rules themselves


def good_page() -> Any:
    """Page 01 as if executed, with nothing wrong."""
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


def write(page: Any, folder: Path) -> Path:
    for name in pages.NAMES[:2]:
        (folder / f"{name}.ipynb").write_text(json.dumps(page), encoding="utf-8")
    return folder / f"{pages.NAMES[0]}.ipynb"


def set_source(index: int, source: str) -> Callable[[Any], None]:
    return lambda page: code(page)[index].update(source=source)


def add_source(index: int, line: str) -> Callable[[Any], None]:
    return lambda page: code(page)[index].update(source=f"{code(page)[index].source}\n{line}")


def set_prose(text: str) -> Callable[[Any], None]:
    return lambda page: page.cells[2].update(source=f"## A first section\n\n{text}")


def add_output(**output: Any) -> Callable[[Any], None]:
    return lambda page: code(page)[1].outputs.append(nbformat.v4.new_output(**output))


FAULTS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("is_valid", "kernelspec", lambda page: page.metadata.pop("kernelspec")),
    ("is_valid", "id of its own", lambda page: page.cells[1].update(id=page.cells[0].id)),
    ("has_parameters", "0 cells", lambda page: code(page)[0].metadata.update(tags=[])),
    ("has_parameters", "2 cells", lambda page: code(page)[1].metadata.update(tags=["parameters"])),
    ("has_parameters", "must be", set_source(0, 'DATA = "sample"')),
    ("has_parameters", "must be", add_source(0, "STEPS = 3")),
    ("has_parameters", "not a literal", set_source(0, "SEED = int(0)")),
    ("is_short_plain_python", "31 lines", set_source(1, "x = 1\n" * 31)),
    ("is_short_plain_python", "shell line", set_source(1, "!ls")),
    ("is_short_plain_python", "magic", set_source(1, "x = 1\n%timeit x")),
    ("is_short_plain_python", "get_ipython", set_source(1, "get_ipython().system('ls')")),
    ("is_short_plain_python", "empty", set_source(1, "")),
    ("ran_quietly", "None", lambda page: code(page)[1].update(execution_count=None)),
    ("ran_quietly", "[1, 7, 3]", lambda p: code(p)[1].update(execution_count=7)),
    ("ran_quietly", "ZeroDiv", add_output(output_type="error", ename="ZeroDiv")),
    ("ran_quietly", "stderr", add_output(output_type="stream", name="stderr", text="Warning")),
    ("ran_quietly", "widget", add_output(output_type="display_data", data={pages.WIDGET: {}})),
    ("ran_quietly", "path", add_output(output_type="stream", text="saved to /home/me/x.png")),
    ("has_a_compared_output", "nothing", set_source(1, "# Check\nassert True")),
    ("has_a_compared_output", "nothing", set_source(1, f"print(2)  {MARKER}")),
    ("has_a_compared_output", "no output", lambda page: code(page)[1].update(outputs=[])),
    ("has_a_compared_output", "first line", set_source(1, f"# Check\n{MARKER}\nassert True")),
    ("has_its_outputs", "newer", add_source(1, "x = 1")),
    ("has_its_outputs", "newer", lambda page: page.metadata.pop("srlib")),
    ("has_its_outputs", "2.0 MB", add_output(output_type="stream", text="x" * 2_000_000)),
    ("checks_every_section", "first section", set_source(1, "assert True")),
    ("checks_every_section", "first section", set_source(1, "# Check\nprint('fine')")),
    ("describes_its_pictures", "cell 3", lambda page: code(page)[2].outputs[0].metadata.clear()),
    ("describes_its_pictures", "![](", set_prose("![](cat.png)")),
    ("describes_its_pictures", "<img", set_prose('<img src="cat.png">')),
    ("links_to_what_exists", "gone.md", set_prose("[gone](gone.md)")),
    ("links_to_what_exists", "02_", lambda page: page.cells[0].update(source="# Page 01")),
    ("shows_formulas", "nosuch", set_prose(r"$\nosuch{x}$")),
    ("has_a_ledger", "no result", lambda page: code(page)[2].update(outputs=[])),
    ("has_a_ledger", "02.gain", lambda page: code(page)[2].outputs[1].data.update(
        {results.MIME: {"02.gain": {"value": 1, "unit": ""}}})),
]  # fmt: skip


def test_rules_find_nothing_wrong_with_a_good_page_and_each_has_a_fault(tmp_path):
    path = write(good_page(), tmp_path)
    assert [problem for check in RULES.values() for problem in check(path, pages.read(path))] == []
    assert {name for name, _, _ in FAULTS} == set(RULES)


@pytest.mark.filterwarnings("ignore")  # nbformat on cell ids that are not unique
@pytest.mark.parametrize(("name", "message", "spoil"), FAULTS)
def test_rule_notices(name, message, spoil, tmp_path):
    page = good_page()
    spoil(page)
    path = write(page, tmp_path)
    assert message in " ".join(RULES[name](path, page))


@pytest.mark.parametrize(
    ("line", "outcome"), [("assert 1 + 1 == 2", "3 passed"), ("1 / 0", "1 failed"), ("print(3)", "1 failed")]
)
def test_nbval_notices_an_error_and_a_changed_number(line, outcome, tmp_path):
    page = good_page()
    code(page)[1].source = f"{MARKER}\n# Check\n{line}\nprint(2)"
    path = write(page, tmp_path)
    words = ["-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path)
    assert outcome in done.stdout.splitlines()[-1]
