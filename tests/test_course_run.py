"""``python -m course run`` on tiny pages: what it writes, what it keeps, and how it fails."""

import json
import os
import re
import sys
import time
from html import unescape

import psutil
import pytest
from filelock import FileLock
from photo_files import files

from course import doctor, pages, results, site
from course import run as course_run
from course.__main__ import main
from srlib.files import write_json

NAME = "sample-smoke-seed0"
FIRST, SECOND = pages.NAMES[:2]


def run(runs, *options, only=""):
    words = [word for number in only.split() for word in ("--only", number)]
    return main(["run", "--budget", "smoke", "--device", "cpu", "--runs", str(runs), *options, *words])


def touching(name):
    """A page's code that leaves a file that grows each time it is executed."""
    return [f"from pathlib import Path\n(Path(RUNS) / '{name}').open('a').write('x')"]


def times(runs, name):
    """How often a page that is :func:`touching` was executed."""
    return len((runs / name).read_text())


@pytest.fixture(autouse=True)
def quick_site(request, monkeypatch):
    """Sphinx takes many seconds, and only tests that are marked look at what it made."""
    if not request.node.get_closest_marker("sphinx"):
        monkeypatch.setattr(site, "build", lambda where, output: (output / "index.html").write_text("") and "")


@pytest.mark.sphinx
def test_a_run_writes_pages_report_results_and_environment(tiny_series, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SRLIB_BUDGET", "full")
    monkeypatch.setenv("MPLBACKEND", "pdf")
    monkeypatch.setattr(course_run, "EXPECTED", tmp_path)
    ledgers = [{f"{n}.gain": {"value": x, "unit": "dB"} for n, x in (("01", 1.5), ("02", 9.0), ("05", 9.0))}] * 2
    write_json(tmp_path / "sample-smoke.json", results.expect(ledgers, "run", "some machine", ["0", "1"]))
    names = ("SRLIB_BUDGET", "SRLIB_PRECISION", "SRLIB_FRESH", "MPLBACKEND")  # Jupyter sets the last one anew
    show = f"print(DATA, BUDGET, SEED, DEVICE, *map(os.environ.get, {names}), sys.executable, os.getcwd())"
    before, bar = dict(os.environ), "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    pass"
    folder = tiny_series({"01": ["import os, sys\n" + show, bar]})
    assert run(tmp_path / "runs", "--seed", "3", "--precision", "float32", only="01 02") == 0
    out, err = capfd.readouterr()
    assert (err, dict(os.environ)) == ("", before)
    assert re.search(r"\[1/2\] 01_data_preparation \.\.\.\n\[1/2\] 01_data_preparation: \d+ s\n\[2/2\]", out)
    assert "1.50 dB  02.gain\n" in out
    assert "1 of 2 results lie outside what earlier runs gave: see the report.\n" in out
    made = tmp_path / "runs" / "sample-smoke-seed3"
    assert out.splitlines()[-1] == f"Report: {made / 'index.html'}"
    environment, found = (json.loads((made / f"{name}.json").read_text()) for name in ("environment", "results"))
    assert found == {f"{n}.gain": {"value": 1.5, "unit": "dB"} for n in ("01", "02")}
    assert (environment["device"], environment["precision"], environment["seed"]) == ("cpu", "float32", 3)
    assert environment["versions"]["torch"]
    assert [*environment["pages"]] == [*pages.NAMES[:2]]
    sentence = "02.gain: 1.50 dB, expected 9.00 dB within 0.018"
    assert environment["not_as_expected"] == [sentence], "page 05 is no part of this run"
    page = pages.read(made / f"{FIRST}.ipynb")
    assert page.cells[4].outputs[0].text.split() == [
        *("sample", "smoke", "3", "cpu", "None", "float32", "0.0", "module://matplotlib_inline.backend_inline"),
        *(sys.executable, str(folder)),
    ]
    assert str(tmp_path) not in json.dumps(page.metadata)
    assert "Page 03" not in (made / "index.html").read_text()
    found = unescape(re.sub("<[^>]+>", "", (made / "results.html").read_text()))
    assert re.search(r"02\.gain\s*1\.50 dB", found)
    assert sentence in found
    assert '"command": "python -m course run' in found


def test_what_cannot_be_done_is_rejected_before_any_work(tiny_series, tmp_path, monkeypatch, capsys):
    def refused(*options):
        assert run(tmp_path / "runs", *options) == 2
        assert not (tmp_path / "runs").exists()
        return capsys.readouterr().err

    path = tiny_series() / f"{SECOND}.ipynb"
    assert "no page 07" in refused("--only", "07")
    assert "no/such/folder" in refused("--data", "no/such/folder")
    assert "got 4294967296" in refused("--seed", str(2**32))
    monkeypatch.setattr(doctor, "free_gib", lambda folder: 0.1)
    assert "0.1 GiB free" in refused()
    path.write_text(path.read_text().replace('"parameters"', '"others"'))
    assert SECOND in refused()
    path.unlink()
    assert SECOND in refused()


def test_other_photos_and_a_second_run_are_named(tiny_series, tmp_path, capsys):
    tiny_series()
    with FileLock(tmp_path / f".{NAME}.lock"):
        assert run(tmp_path) == 2
    assert f"{tmp_path / NAME}: this very run is at work" in capsys.readouterr().err
    # a run of other photos, which was ended between the two renames that put it in place
    write_json(tmp_path / f"{NAME}.old" / "environment.json", {"data": "/photos/sample"})
    assert run(tmp_path) == 2
    assert "/photos/sample" in capsys.readouterr().err
    assert files(tmp_path / NAME) == {"environment.json"}


def test_a_failing_page_damages_nothing_and_the_rest_is_kept(tiny_series, tmp_path, monkeypatch, capsys):
    """What is finished is kept while nothing changes."""
    one, three = touching("one"), touching("three")
    fails = "import os\nopen(f'{RUNS}/fresh', 'w').write(os.environ['SRLIB_FRESH'])\nraise KeyError('sharpness')"
    tiny_series({"03": three})
    assert run(tmp_path, only="03") == 0
    before = {name: (tmp_path / NAME / name).read_bytes() for name in files(tmp_path / NAME)}
    tiny_series({"01": one, "02": [fails], "03": three})
    assert run(tmp_path, only="01 02 03") == 1
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == ["02_subpixel_cnn failed in section 'A first section':", "    KeyError: 'sharpness'"]
    assert {name: (tmp_path / NAME / name).read_bytes() for name in files(tmp_path / NAME)} == before
    partial = tmp_path / f"{NAME}.partial"
    assert pages.read(partial / "02_subpixel_cnn.ipynb").cells[4].outputs[0].ename == "KeyError"
    assert "sharpness" in (partial / "run.log").read_text()
    assert times(tmp_path, "three") == 1, "the page after the failing one is not run"
    assert run(tmp_path, "--keep-going", only="01 02 03") == 1
    assert f"[1/3] {FIRST}: kept" in capsys.readouterr().out
    assert (times(tmp_path, "one"), times(tmp_path, "three")) == (1, 2)

    tiny_series({"01": [*one, "x = 1"], "02": [fails]})
    assert run(tmp_path, only="01 02") == 1
    assert times(tmp_path, "one") == 2, "the code is another"
    versions = doctor.versions()
    monkeypatch.setattr(doctor, "versions", lambda: {**versions, "torch": "99"})
    assert run(tmp_path, only="01 02") == 1
    assert times(tmp_path, "one") == 3, "a package is another"
    assert float((tmp_path / "fresh").read_text()) == 0
    start = time.time() - 0.1  # the clock of the file system is a little behind
    assert run(tmp_path, "--fresh", only="01 02") == 1
    since = float((tmp_path / "fresh").read_text())
    assert start <= since <= time.time()
    assert run(tmp_path, only="01 02") == 1
    assert float((tmp_path / "fresh").read_text()) == since, "it holds for what was left to do"
    (partial / "02_subpixel_cnn.ipynb").write_text("{")  # as if ended while it was written
    assert run(tmp_path, only="01") == 0
    assert times(tmp_path, "one") == 4
    tiny_series()
    assert run(tmp_path, only="02_subpixel_cnn") == 0
    assert json.loads((tmp_path / NAME / "results.json").read_text()).keys() == {"01.gain", "02.gain", "03.gain"}


FAILING = {
    "AssertionError: assert value == 4": ["value = 3\nassert value == 4"],
    "TimeoutError: the page was not done within its 4 s": ["import time\ntime.sleep(2)"] * 3,
    "DeadKernelError": ["1", "import os\nos._exit(1)"],
}


@pytest.mark.parametrize("message", FAILING)
def test_a_page_that_fails_takes_too_long_or_dies_is_named(message, tiny_series, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(pages.LIMIT, "smoke", 4.0 if "Timeout" in message else 600.0)
    tiny_series({"02": FAILING[message]})
    assert run(tmp_path, only="02") == 1
    section, error = capsys.readouterr().out.splitlines()[-2:]
    assert "'A first section'" in section or "Timeout" in message  # a slow machine may be that late before it
    assert message in error


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_a_state_from_which_the_same_command_goes_on(tiny_series, tmp_path, capfd):
    ctrl_c = "open(f'{RUNS}/sent', 'w').close(), os.kill(os.getppid(), signal.SIGINT), time.sleep(60)"
    once = f"import os, signal, time\nif not os.path.exists(f'{{RUNS}}/sent'):\n    {ctrl_c}"
    tiny_series({"01": touching("one"), "02": [once]})
    before = set(psutil.Process().children(recursive=True))
    assert run(tmp_path, only="01 02") == 130
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "Pages finished so far: 01." in out
    assert out.splitlines()[-1].split()[:4] == ["python", "-m", "course", "run"]
    left = set(psutil.Process().children(recursive=True)) - before
    assert psutil.wait_procs(left, timeout=20)[1] == []
    assert run(tmp_path, only="01 02") == 0
    assert times(tmp_path, "one") == 1
