"""The ledger: collected from pages, compared with what is expected, printed, made into README and expected."""

import math

import pytest

from course import authoring, results
from course import notebooks as pages
from srlib.files import ROOT, write_json

README = ROOT / "README.md"


def entry(value, unit="dB"):
    return {"value": value, "unit": unit}


def expected(value, tolerance, unit="dB"):
    return {"command": "c", "machine": "m", "results": {"01.a": {**entry(value, unit), "tolerance": tolerance}}}


@pytest.mark.parametrize(
    ("value", "reference", "tolerance", "agrees"),
    [
        (28.39, 28.5, 0.1, False),
        (28.4, 28.5, 0.1, True),  # the bound itself, in spite of rounding
        (math.nan, 28.5, 0.1, False),
        (math.inf, math.inf, 0.1, True),
        (999.0, 1.0, None, True),
        (74129, 74128, 0, False),
        ("refuted", "confirmed", 0, False),
        ("28.5", 28.5, 0.1, False),
        (True, False, 1, False),
    ],
)
def test_compare(value, reference, tolerance, agrees):
    assert (results.compare({"01.a": entry(value)}, expected(reference, tolerance)) == []) is agrees


def test_differences_are_sentences():
    wanted = expected(28.5, 0.1)
    assert results.compare({"01.a": entry(28.0)}, wanted) == ["01.a: 28.00 dB, expected 28.50 dB within 0.1"]
    assert results.compare({"01.b": entry(28.0)}, wanted) == ["01.a: not recorded, expected 28.50 dB"]
    assert results.compare({"02.a": entry(28.0)}, wanted) == [], "page 01 is no part of this"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (28.386, "dB", "28.39 dB"),
        (0.0014499, "", "0.00145"),
        (2.5e-14, "", "2.50e-14"),
        (162770, "photos", "162,770 photos"),
        (0.0, "", "0"),
        (True, "", "yes"),
        ("confirmed", "", "confirmed"),
        (math.inf, "dB", "inf dB"),
    ],
)
def test_values_and_durations_are_printed_as_people_write_them(value, unit, text):
    assert results.show_with_unit(value, unit) == text
    assert [results.duration(seconds) for seconds in (6.6, 185, 7800)] == ["7 s", "3 min 5 s", "2 h 10 min"]


@pytest.fixture
def expect(tmp_path):
    """Make a finished run of some data the reference."""

    def make(data, ledger):
        about = {"data": data, "budget": "quick", "seed": 0, "command": f"run {data}"}
        write_json(tmp_path / "environment.json", about | {"machine": {"summary": "2 cores"}})
        write_json(tmp_path / "results.json", ledger)
        return authoring.expect(tmp_path, tmp_path)

    return make


def test_a_finished_run_becomes_the_reference_and_tolerances_stay(expect):
    ledger = {"01.a": entry(28.5), "01.t": entry(3.2, "s"), "01.n": entry(7, ""), "01.r": entry(0.42, "")}
    (path,) = expect("sample", ledger)
    assert path.name == "sample-quick.json"
    content = results.load_expected(path)
    assert (content["command"], content["machine"]) == ("run sample", "2 cores")
    tolerances = {key: e["tolerance"] for key, e in content["results"].items()}
    assert tolerances == {"01.a": 0.15, "01.t": None, "01.n": 0, "01.r": 0.02}
    assert results.compare(ledger, content) == []
    content["results"]["01.a"]["tolerance"] = 0.4
    write_json(path, content)
    expect("sample", ledger)
    assert results.load_expected(path) == content


def test_a_run_on_other_photos_gives_each_page_its_own_reference(expect):
    paths = expect("/home/me/celeba", {"03.gain": entry(1.5), "05.images": entry(60, "")})
    assert [path.name for path in paths] == ["celeba-channels.json", "celeba-losses.json"]
    for path, key in zip(paths, ("03.gain", "05.images")):
        content = results.load_expected(path)
        assert content["command"] == f"python -m course run --data FOLDER --budget quick --seed 0 --only {key[:2]}"
        assert list(content["results"]) == [key]
        assert "/home/me" not in path.read_text()


def test_readme_shows_what_the_committed_pages_recorded():
    text = README.read_text(encoding="utf-8")
    assert authoring.readme(text) == text, "the README is older than the pages: run `make notebooks`"
    assert authoring.readme(text.replace(" dB |", " |")) == text
    assert (ROOT / "notebooks" / "result.png").read_bytes() == authoring.picture()


def test_committed_pages_agree_with_the_reference_and_record_every_headline():
    ledger = results.collect(*pages.read_all(ROOT / "notebooks").values())
    reference = results.load_expected(ROOT / "expected" / "sample-quick.json")
    assert results.compare(ledger, reference) == []
    assert ledger.keys() == reference["results"].keys()
    assert set(results.HEADLINE) <= set(ledger)


@pytest.mark.parametrize("path", sorted((ROOT / "expected").glob("*.json")), ids=lambda path: path.stem)
def test_references_name_command_machine_and_tolerances(path):
    reference = results.load_expected(path)
    assert reference.keys() == {"command", "machine", "results"}
    module = reference["command"].removeprefix("python ").split()
    assert (ROOT / module[0]).exists() or module[:3] == ["-m", "course", "run"]
    assert {tuple(entry) for entry in reference["results"].values()} == {("value", "tolerance", "unit")}
