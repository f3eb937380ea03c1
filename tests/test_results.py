"""The ledger: collected from pages, compared with what is expected, printed, made into the README; peers."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import peers
from course import authoring, pages, results
from course.page import EXPECTED
from srlib.errors import UsageError
from srlib.files import ROOT, write_json
from srlib.measure import metrics
from srlib.upscale import SHIPPED

SIZES = {"a": 0.1, "b": 0.2, "c": 0.9}  # of the steps by which results of one kind move from run to run


def entry(value, unit="dB"):
    return {"value": value, "unit": unit}


def test_differences_are_sentences():
    for value, reference, tolerance, said in (
        (28.38, 28.5, 0.1, "01.a: 28.38 dB, expected 28.50 dB within 0.1"),
        (28.4, 28.5, 0.1, None),  # the bound itself, in spite of rounding
        (math.nan, 28.5, 0.1, "01.a: nan dB, expected 28.50 dB within 0.1"),
        (999.0, 1.0, None, None),
        (74129, 74128, 0, "01.a: 74,129 dB, expected 74,128 dB"),
        ("refuted", "confirmed", 0, "01.a: refuted dB, expected confirmed dB"),
        ("28.5", 28.5, 0.1, "01.a: 28.5 dB, expected 28.50 dB within 0.1"),
    ):
        expected = {"results": {"01.a": {**entry(reference), "tolerance": tolerance}}}
        assert results.compare({"01.a": entry(value)}, expected) == [said] * bool(said)
        (missing,) = results.compare({"01.b": entry(value)}, expected)
        assert missing.startswith("01.a: not recorded, expected")
        assert results.compare({"02.a": entry(value)}, expected) == [], "page 01 is no part of this"


def test_values_and_durations_are_printed_as_people_write_them():
    printed = {
        "28.39 dB": (28.386, "dB"), "0.00145": (0.0014499, ""), "2.50e-14": (2.5e-14, ""), "0": (0.0, ""),
        "162,770 photos": (162770, "photos"), "yes": (True, ""), "open": ("open", ""),
    }  # fmt: skip
    assert [results.show_with_unit(*value) for value in printed.values()] == [*printed]
    assert [results.duration(seconds) for seconds in (6.6, 185, 7800)] == ["7 s", "3 min 5 s", "2 h 10 min"]


def runs_of(count):
    """Ledgers of ``count`` made-up runs."""
    for run in range(count):
        values = {"02.gain": entry(1.5 + 0.1 * run), "02.exact": entry(26.6), "02.zero": entry(0.0)}
        values |= {f"02.{name}.psnr": entry(28 + size * run) for name, size in SIZES.items()}
        yield values | {"02.time": entry(run, "s"), "02.photos": entry(15, ""), "02.word": entry(str(run), "")}


def test_tolerances_come_from_the_spread_of_runs():
    several, once = (results.expect([*runs_of(n)], "", "", ["seed 0"] * n)["results"] for n in (3, 1))
    tolerances = {key[3:]: kept["tolerance"] for key, kept in several.items()}
    # half of the interval of 99.9 % for a new run, by Student's t with two degrees of freedom
    assert tolerances["gain"] == pytest.approx(31.6 * 0.1 * (4 / 3) ** 0.5, rel=0.01)
    # numbers of one kind: four more runs with the median of their variances
    for name, size in SIZES.items():
        spread = ((2 * size**2 + 4 * 0.2**2) / 6) ** 0.5
        assert tolerances[f"{name}.psnr"] == pytest.approx(5.96 * spread * (4 / 3) ** 0.5, rel=0.01)
    assert (tolerances["exact"], tolerances["zero"]) == (pytest.approx(0.002 * 26.6), results.TINY)
    assert [tolerances[key] for key in ("photos", "time", "word")] == [0, None, None]
    assert several["02.gain"]["value"] == pytest.approx(1.6), "the mean of the runs"
    assert [once[f"02.{key}"]["tolerance"] for key in ("gain", "photos", "time")] == [0.15, 0, None]


def finished(folder, ledger, data="sample", **more):
    """A finished run's folder."""
    about = {"data": data, "budget": "quick", "seed": 0, "precision": "float32"} | more
    write_json(folder / "environment.json", about | {"machine": {"summary": "2 cores"}})
    write_json(folder / "results.json", ledger)
    return folder


def test_finished_runs_become_the_reference_and_more_can_join(tmp_path):
    first, second, third = runs_of(3)
    made = [finished(tmp_path / "0", first), finished(tmp_path / "1", second, seed=1, precision="bfloat16")]
    (path,) = authoring.expect(made, tmp_path)
    content = results.load_expected(path)
    assert (path.name, content["machine"]) == ("sample-quick.json", "2 cores")
    assert content["command"] == "python -m course run --data sample --budget quick --seed SEED"
    assert content["runs"] == ["seed 0, float32", "seed 1, bfloat16"]
    assert results.compare(first, content) == results.compare(second, content) == []
    made.append(finished(tmp_path / "2", third, seed=2))
    together = authoring.expect(made, tmp_path / "together")[0].read_text()
    assert authoring.expect([path, made[2]], tmp_path / "joined")[0].read_text() == together
    (once,) = authoring.expect(made[:1], tmp_path / "once")
    with pytest.raises(UsageError, match=r"sample-quick\.json does not keep what its runs found"):
        authoring.expect([once, made[1]], tmp_path)
    with pytest.raises(UsageError, match="differ in photos or budget"):
        authoring.expect([made[0], finished(tmp_path / "3", second, budget="full")], tmp_path)


def test_a_run_on_other_photos_gives_each_page_a_reference_of_its_own(tmp_path):
    ledger = {"03.gain": entry(1.5), "05.images": entry(60, "")}
    paths = authoring.expect([finished(tmp_path / "run", ledger, "/home/me/celeba")], tmp_path)
    assert [path.name for path in paths] == ["celeba-channels.json", "celeba-losses.json"]
    for path, key in zip(paths, ledger):
        content = results.load_expected(path)
        assert content["command"] == f"python -m course run --data FOLDER --budget quick --seed 0 --only {key[:2]}"
        assert list(content["results"]) == [key]
        assert "/home/me" not in path.read_text()


def test_readme_shows_what_the_committed_pages_recorded():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert authoring.readme(text.replace(" dB |", " |")) == text, "older than the pages: run `make notebooks`"
    assert (ROOT / "notebooks" / "result.png").read_bytes() == authoring.picture()
    assert sorted(path.stem for path in pages.FOLDER.glob("*.ipynb")) == [*pages.NAMES], "a page is left out"


def test_committed_pages_agree_with_the_reference_and_record_every_headline():
    ledger = results.collect(*pages.read_all(ROOT / "notebooks").values())
    reference = results.load_expected(EXPECTED / "sample-quick.json")
    assert len(results.compare(ledger, reference)) <= 2, results.compare(ledger, reference)
    assert ledger.keys() == reference["results"].keys()
    silent = [key for key, kept in reference["results"].items() if kept["tolerance"] is None]
    assert len(silent) < 0.1 * len(ledger), f"not compared: {silent}"
    for kept in (reference["results"][key] for key in results.HEADLINE):
        assert abs(kept["value"]) >= (kept["tolerance"] or 0), "cannot be told from noise, so it is no headline"


def test_references_tell_a_command_that_is_there():
    for path in EXPECTED.glob("*.json"):
        _, script, *words = results.load_expected(path)["command"].split()
        assert (ROOT / script).exists() or [script, *words][:3] == ["-m", "course", "run"]


@pytest.fixture(scope="module")
def kept():
    """The numbers of published networks that ``benchmarks/peers.py`` made for page 06."""
    return {k[3:]: v["value"] for k, v in results.load_expected(EXPECTED / "peers.json")["results"].items()}


def test_kept_numbers_are_those_of_the_shipped_weights_and_the_kept_picture_is_of_them(kept):
    """Fails where weights were trained anew and ``benchmarks/peers.py score`` was not run."""
    shipped = {file.stem: peers.digest(file) for file in SHIPPED.glob("*.pt")}
    assert shipped == {name: kept.get(f"{name}.weights") for name in shipped}
    top, left, side = peers.SHOWN
    target = peers.portrait()[0][1][..., top : top + side, left : left + side]
    strip = torch.from_numpy(np.array(Image.open(EXPECTED / "peers.png"))).permute(2, 0, 1)[None] / 255
    for name, shown in zip(peers.PEERS, strip.split(side, dim=-1), strict=True):
        assert metrics.psnr(shown, target, crop_border=4, channels="y", average="images") > 22, name


def test_a_network_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(peers.PEERS, "other", ("no_such_package", "x"))
    with pytest.raises(ImportError, match=r"no-such-package.*srlib\[peers\]"):
        peers.files("other")


@pytest.mark.parametrize("name", peers.PEERS)
def test_an_installed_network_is_that_of_the_kept_numbers(kept, name):
    if find_spec(peers.PEERS[name][0]) is None:
        pytest.skip("needs the extra peers")
    layers, weights = peers.files(name)
    assert peers.digest(weights) == kept[f"{name}.weights"]
    assert peers.cost(layers) == (kept[f"{name}.parameters"], kept[f"{name}.multiply_adds"])
