"""The ledger: collected from pages, compared with what is expected, printed."""

import json
import math
from pathlib import Path

import nbformat
import pytest

from course import results
from srlib.errors import UsageError
from course import notebooks as pages
from course.__main__ import picture, readme

README = Path(__file__).parents[1] / "README.md"


def notebook(*entries: dict) -> nbformat.NotebookNode:
    v4 = nbformat.v4
    shown = [v4.new_output("display_data", {results.MIME: entry}) for entry in entries]
    plain = v4.new_output("stream", text="hello")
    return v4.new_notebook(cells=[v4.new_markdown_cell("x"), v4.new_code_cell("1", outputs=[plain, *shown])])


def entry(value: object, unit: str = "dB") -> dict:
    return {"value": value, "unit": unit}


def test_collect_finds_what_a_page_recorded() -> None:
    assert results.collect(notebook({"01.a": entry(1.5)}, {"01.b": entry(2, "")})) == {
        "01.a": entry(1.5),
        "01.b": entry(2, ""),
    }
    assert results.collect(notebook()) == {}


def test_one_key_with_two_values_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"01\.a"):
        results.collect(notebook({"01.a": entry(1.5)}, {"01.a": entry(1.6)}))
    with pytest.raises(ValueError, match=r"01\.a"):
        results.merge([{"01.a": entry(1.5)}, {"01.a": entry(1.5)}])


def expected(value: object, tolerance: float | None, unit: str = "dB") -> dict:
    entries = {"01.a": {"value": value, "tolerance": tolerance, "unit": unit}}
    return {"command": "c", "machine": "m", "results": entries}


@pytest.mark.parametrize(
    ("value", "reference", "tolerance", "agrees"),
    [
        (28.55, 28.5, 0.1, True),
        (28.39, 28.5, 0.1, False),
        (28.4, 28.5, 0.1, True),  # the bound itself, in spite of rounding
        (math.nan, 28.5, 0.1, False),
        (math.inf, math.inf, 0.1, True),
        (999.0, 1.0, None, True),
        (74128, 74128, 0, True),
        (74129, 74128, 0, False),
        ("confirmed", "confirmed", 0, True),
        ("refuted", "confirmed", 0, False),
        ("28.5", 28.5, 0.1, False),
    ],
)
def test_compare(value: object, reference: object, tolerance: float | None, agrees: bool) -> None:
    differences = results.compare({"01.a": entry(value)}, expected(reference, tolerance))
    assert (differences == []) is agrees


def test_differences_read_as_sentences() -> None:
    (difference,) = results.compare({"01.a": entry(28.0)}, expected(28.5, 0.1))
    assert str(difference) == "01.a: 28.00 dB, expected 28.50 dB within 0.1"
    (difference,) = results.compare({}, expected(28.5, 0.1))
    assert str(difference) == "01.a: not recorded, expected 28.50 dB"


def test_expected_file_keeps_tolerances_and_skips_what_measures_the_machine(tmp_path: Path) -> None:
    ledger = {"01.a": entry(28.5), "01.t": entry(3.2, "s"), "01.n": entry(7, ""), "01.r": entry(0.42, "")}
    made = results.expect(ledger, "make course", "2 cores", earlier=expected(1.0, 0.3))
    tolerances = {key: e["tolerance"] for key, e in made["results"].items()}
    assert tolerances == {"01.a": 0.3, "01.t": None, "01.n": 0, "01.r": 0.02}
    path = tmp_path / "expected.json"
    results.save_json(path, made)
    assert results.compare(ledger, results.load_expected(path)) == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("part", ["command", "machine", "results"])
def test_expected_file_that_lacks_a_part_is_rejected(part: str, tmp_path: Path) -> None:
    content = expected(1.0, 0.1)
    content.pop(part)
    path = tmp_path / "expected.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=part):
        results.load_expected(path)


def test_committed_expectations_can_be_read() -> None:
    for path in (pages.ROOT / "expected").glob("sample-*.json"):
        assert results.load_expected(path)["results"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (28.386, "dB", "28.39"),
        (0.0014499, "", "0.00145"),
        (2.5e-14, "", "2.50e-14"),
        (162770, "photos", "162,770"),
        (0.0, "", "0"),
        (True, "", "yes"),
        ("confirmed", "", "confirmed"),
        (math.inf, "dB", "inf"),
    ],
)
def test_show(value: object, unit: str, text: str) -> None:
    assert results.show(value, unit) == text


def test_table_and_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "HEADLINE", {"01.c": "Not here", "01.a": "The gain"})
    ledger = {"01.b": entry(3, ""), "01.a": entry(28.5)}
    assert results.headline(ledger) == {"The gain": entry(28.5)}
    table = results.table_markdown(results.headline(ledger))
    assert table.splitlines()[2:] == ["| The gain | 28.50 dB |"]
    text = "before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n"
    assert results.fill(text, "x", table) == results.fill(results.fill(text, "x", "other"), "x", table)
    assert results.fill(text, "x", "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="y:begin"):
        results.fill(text, "y", table)


def test_readme_shows_what_the_committed_pages_recorded() -> None:
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    if "<!-- results:begin -->" not in text:
        pytest.skip("the README has no generated tables yet")
    assert readme(text) == text, "the README is older than the pages: run `make notebooks`"
    assert (README.parent / "notebooks" / "result.png").read_bytes() == picture()


def test_every_headline_is_recorded_by_the_committed_pages() -> None:
    notebooks = (pages.read(pages.folder() / f"{name}.ipynb") for name in pages.NAMES)
    ledger = results.merge(results.collect(notebook) for notebook in notebooks)
    assert set(results.HEADLINE) <= set(ledger)


def test_committed_pages_agree_with_the_reference() -> None:
    root = README.parent
    notebooks = [nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4) for name in pages.NAMES]
    ledger = results.merge(results.collect(notebook) for notebook in notebooks)
    expected = results.load_expected(root / "expected" / "sample-quick.json")
    assert [str(difference) for difference in results.compare(ledger, expected)] == []
    assert ledger.keys() == expected["results"].keys()
