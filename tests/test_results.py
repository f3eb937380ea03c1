"""The ledger: collected from pages, compared with what is expected, printed, made into README and expected."""

import math

import numpy as np
import pytest

from course import authoring, results
from course import notebooks as pages
from srlib.errors import UsageError
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


def runs_of(count, seed=0):
    """Ledgers of ``count`` made-up runs: a gain that moves by 0.1 dB, one that does not, a clock and a verdict."""
    draw, ledgers = np.random.default_rng(seed), []
    for _ in range(count):
        values = {"02.gain": entry(1.5 + 0.1 * draw.normal()), "02.more": entry(0.5 + 0.1 * draw.normal())}
        values |= {"02.exact": entry(26.6), "02.time": entry(draw.normal(), "s"), "02.photos": entry(15, "")}
        ledgers.append(values | {"02.verdict": entry("open", ""), "02.word": entry(str(draw.normal()), "")})
    return ledgers


def reference_of(ledgers):
    return results.expect(ledgers, "c", "m", ["seed 0, float32"] * len(ledgers))


def test_tolerances_come_from_the_spread_of_runs():
    kept = reference_of(runs_of(5))["results"]
    assert kept["02.gain"]["tolerance"] > 3 * 0.05, "five values say little about a spread"
    assert kept["02.gain"]["runs"] == 5
    assert kept["02.exact"]["tolerance"] == pytest.approx(0.002 * 26.6)
    assert (kept["02.photos"]["tolerance"], kept["02.verdict"]["tolerance"]) == (0, 0)
    assert kept["02.time"]["tolerance"] is kept["02.word"]["tolerance"] is None
    (once,) = runs_of(1)
    guesses = {key: entry["tolerance"] for key, entry in reference_of([once])["results"].items()}
    assert (guesses["02.gain"], guesses["02.photos"], guesses["02.time"]) == (0.15, 0, None), (
        "one run has no spread"
    )


def test_a_lone_result_has_its_own_spread_alone_and_zero_is_not_exact():
    """Three values say next to nothing, which Student's t with two degrees of freedom knows."""
    spread = [{f"02.{name}": entry(value + move) for name, value in zip("abc", (1.0, 2.0, 3.0))} for move in
              (-0.1, 0.0, 0.1)]  # fmt: skip
    ledgers = [ledger | {"02.lone": entry(5.0 + 0.001 * i)} for i, ledger in enumerate(spread)]
    kept = reference_of([ledger | {"02.ripple": entry(0.0, "levels")} for ledger in ledgers])["results"]
    assert kept["02.lone"]["tolerance"] == pytest.approx(31.6 * 0.001 * (4 / 3) ** 0.5, rel=0.01)
    assert kept["02.ripple"]["tolerance"] == results.TINY


def test_one_new_run_in_a_thousand_is_outside_and_what_has_moved_is_named():
    """The share of false alarms, over made-up references and new runs; and a value ten spreads off."""
    alarms = trials = 0
    for seed in range(400):
        *old, new = runs_of(6, seed)
        reference = reference_of(old)
        kept = reference["results"]["02.gain"]
        alarms, trials = alarms + len(results.compare(new, reference)), trials + 2
        moved = {**old[0], "02.gain": entry(kept["value"] + 10 * kept["spread"])}
        assert [text[:8] for text in results.compare(moved, reference)] == ["02.gain:"]
    assert alarms / trials < 0.006, "0.1 % by the formula, for runs of one kind"


@pytest.fixture
def finished(tmp_path):
    """A finished run's folder."""

    def make(data, ledger, name="run", **more):
        about = {
            "data": data,
            "budget": "quick",
            "seed": 0,
            "precision": "float32",
            "machine": {"summary": "2 cores"},
        }
        write_json(tmp_path / name / "environment.json", about | more)
        write_json(tmp_path / name / "results.json", ledger)
        return tmp_path / name

    return make


def test_finished_runs_become_the_reference(finished, tmp_path):
    first, second = runs_of(2)
    made = [finished("sample", first, "0"), finished("sample", second, "1", seed=1, precision="bfloat16")]
    (path,) = authoring.expect(made, tmp_path)
    assert path.name == "sample-quick.json"
    content = results.load_expected(path)
    assert content["machine"] == "2 cores"
    assert content["command"] == "python -m course run --data sample --budget quick --seed SEED"
    assert content["runs"] == ["seed 0, float32", "seed 1, bfloat16"]
    assert results.compare(first, content) == results.compare(second, content) == []
    with pytest.raises(UsageError, match="differ in photos or budget"):
        authoring.expect([made[0], finished("sample", second, "2", budget="full")], tmp_path)


def test_a_run_on_other_photos_gives_each_page_its_own_reference(finished, tmp_path):
    run = finished("/home/me/celeba", {"03.gain": entry(1.5), "05.images": entry(60, "")})
    paths = authoring.expect([run], tmp_path)
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
    assert len(results.compare(ledger, reference)) <= 2, results.compare(ledger, reference)
    assert ledger.keys() == reference["results"].keys()
    assert set(results.HEADLINE) <= set(ledger)
    silent = [key for key, e in reference["results"].items() if e["tolerance"] is None]
    assert len(silent) < 0.1 * len(ledger), f"not compared: {silent}"
    lost = [
        key for key in results.HEADLINE if abs((e := reference["results"][key])["value"]) < (e["tolerance"] or 0)
    ]
    assert not lost, "cannot be told from noise, so it is no headline"


@pytest.mark.parametrize("path", sorted((ROOT / "expected").glob("*.json")), ids=lambda path: path.stem)
def test_references_name_command_machine_and_tolerances(path):
    reference = results.load_expected(path)
    assert reference.keys() >= {"command", "machine", "results"}
    module = reference["command"].removeprefix("python ").split()
    assert (ROOT / module[0]).exists() or module[:3] == ["-m", "course", "run"]
    assert {tuple(entry)[:3] for entry in reference["results"].values()} == {("value", "tolerance", "unit")}
