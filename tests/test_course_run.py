"""``python -m course run`` on tiny pages: what it writes, what it keeps, and how it fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from html import unescape
from unittest import mock

import nbformat
import psutil
import pytest
from filelock import FileLock
from papermill.engines import Engine, papermill_engines
from photo_files import files

from course import doctor, execute, results, site
from course import notebooks as pages
from course import run as course_run
from course.__main__ import main
from srlib.files import ROOT, write_json

NAME = "sample-smoke-seed0"
FIRST, SECOND = pages.NAMES[:2]


def run(runs, *options, only=""):
    words = [word for number in only.split() for word in ("--only", number)]
    return main(["run", "--budget", "smoke", "--device", "cpu", "--runs", str(runs), *options, *words])


class InProcess(Engine):
    """Executes cells in this process, since a kernel takes seconds to start."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, on_cell_start, **options):
        space = {}
        for index, cell in enumerate(nb_man.nb.cells):
            if cell.cell_type != "code":
                continue
            on_cell_start(cell=cell, cell_index=index)

            def display(data, raw, outputs=cell.outputs):
                outputs.append(nbformat.v4.new_output("display_data", data))

            try:
                with mock.patch("IPython.display.display", display):
                    exec(cell.source, space)
            except Exception as error:
                named = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
                cell.outputs.append(nbformat.v4.new_output("error", **named))
                return


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setitem(papermill_engines._engines, None, InProcess)


def touching(name):
    """A page's code that leaves a file that grows each time it is executed."""
    return [f"from pathlib import Path\n(Path(RUNS) / '{name}').open('a').write('x')"]


def times(runs, *names):
    """How often the pages that are :func:`touching` were executed."""
    return [len((runs / name).read_text()) for name in names]


def written(runs, name):
    """A JSON file of the finished run."""
    return json.loads((runs / NAME / f"{name}.json").read_text())


@pytest.fixture(autouse=True)
def quick_site(request, monkeypatch):
    """Sphinx takes many seconds, and only tests that are marked look at what it made."""
    if not request.node.get_closest_marker("sphinx"):
        monkeypatch.setattr(site, "build", lambda where, output: (output / "index.html").write_text("") and "")


@pytest.mark.sphinx
def test_a_run_writes_pages_report_results_and_environment(tiny_series, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SRLIB_BUDGET", "full")
    monkeypatch.setenv("MPLBACKEND", "pdf")
    names = ("SRLIB_BUDGET", "SRLIB_PRECISION", "SRLIB_FRESH", "MPLBACKEND")  # Jupyter sets the last one anew
    show = f"print(DATA, BUDGET, SEED, DEVICE, *map(os.environ.get, {names}), sys.executable, os.getcwd())"
    before, bar = dict(os.environ), "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    pass"
    folder = tiny_series({"01": ["import os, sys\n" + show, bar]})
    assert run(tmp_path / "runs", "--seed", "3", "--precision", "float32", only="01 02") == 0
    assert dict(os.environ) == before
    out, err = capfd.readouterr()
    assert err == ""
    assert re.search(r"\[1/2\] 01_data_preparation \.\.\.\n\[1/2\] 01_data_preparation: \d+ s\n\[2/2\]", out)
    assert "1.50 dB  02.gain\n" in out
    made = tmp_path / "runs" / "sample-smoke-seed3"
    assert out.splitlines()[-1] == f"Report: {made / 'index.html'}"
    assert files(made.parent) > {f"{made.name}/{name}.html" for name in (FIRST, SECOND, "index", "results")}

    ledger, environment = (json.loads((made / f"{name}.json").read_text()) for name in ("results", "environment"))
    assert ledger == {f"{number}.gain": {"value": 1.5, "unit": "dB"} for number in ("01", "02")}
    assert environment["versions"]["torch"]
    assert (environment["device"], environment["precision"], environment["seed"]) == ("cpu", "float32", 3)
    assert [about["wall_seconds"] > 0 for about in environment["pages"].values()] == [True, True]
    page = pages.read(made / f"{FIRST}.ipynb")
    assert page.cells[4].outputs[0].text.split() == [
        *("sample", "smoke", "3", "cpu", "None", "float32", "0.0", "module://matplotlib_inline.backend_inline"),
        *(sys.executable, str(folder)),
    ]
    assert str(tmp_path) not in json.dumps(page.metadata)

    html = (made / f"{FIRST}.html").read_text()
    assert "<math><msup><mi>x</mi><mn>2</mn></msup></math>" in html
    assert f'href="{SECOND}.html"' in html
    assert f'href="{FIRST}.html">Page 01</a>' in (made / "index.html").read_text()
    assert "Page 03" not in (made / "index.html").read_text()
    found = (made / "results.html").read_text()
    assert re.search(r'<p>02\.gain</p></td>\s*<td class="text-right"><p>1\.50 dB</p></td>', found)
    assert '"command": "python -m course run' in unescape(re.sub("<[^>]+>", "", found))


def test_only_renews_its_pages_and_keeps_the_others_even_if_edited_meanwhile(in_process, tiny_series, tmp_path):
    edit = f"import nbformat\npage = nbformat.read('{FIRST}.ipynb', 4)\n"
    edit += f"page.cells[-1].source += '\\nx = 1'\nnbformat.write(page, '{FIRST}.ipynb')"
    folder = tiny_series({"01": [*touching("one"), edit], "02": touching("two")})
    code_hash = pages.code_hash(pages.read(folder / f"{FIRST}.ipynb"))
    assert run(tmp_path, only="01 02") == 0
    first = written(tmp_path, "environment")["pages"]
    assert first[FIRST]["code_hash"] == code_hash, "it is the hash of what ran"
    assert run(tmp_path, only="02_subpixel_cnn") == 0
    assert times(tmp_path, "one", "two") == [1, 2]
    assert set(written(tmp_path, "results")) == {"01.gain", "02.gain"}
    assert written(tmp_path, "environment")["pages"][FIRST] == first[FIRST]


def test_results_are_compared_with_what_is_expected(in_process, tiny_series, tmp_path, monkeypatch, capsys):
    tiny_series()
    monkeypatch.setattr(course_run, "EXPECTED", tmp_path)
    ledgers = [{f"{n}.gain": {"value": value, "unit": "dB"} for n, value in (("01", 1.5), ("05", 9.0))}] * 2
    expected = results.expect(ledgers, "run", "some machine", ["seed 0", "seed 1"])
    write_json(tmp_path / "sample-smoke.json", expected)
    assert run(tmp_path, only="05") == 0
    out = capsys.readouterr().out
    assert "1 of 1 results lie outside what earlier runs gave: see the report.\n" in out
    sentence = "05.gain: 1.50 dB, expected 9.00 dB within 0.018"
    assert written(tmp_path, "environment")["not_as_expected"] == [sentence], "page 01 is no part of this run"
    assert written(tmp_path, "environment")["precision"] in ("float32", "bfloat16"), "what auto took"
    assert sentence in site.results_page(tmp_path / NAME)
    assert run(tmp_path, "--seed", "1", only="01") == 0
    assert "lie outside" not in capsys.readouterr().out


UNKNOWN = "--only 07, --only cnn, --data no/such/folder, --seed -1, --seed 1.5, --budget fast, --bugdet smoke, now"


@pytest.mark.parametrize("options", [*UNKNOWN.split(", "), "--device tpu", "--precision float8"])
def test_what_is_unknown_is_rejected_before_any_work(options, tiny_series, tmp_path, capsys):
    tiny_series()
    try:
        status = run(tmp_path / "runs", *options.split())
    except SystemExit as error:  # argparse
        status = error.code
    assert status == 2
    assert options.removesuffix(" smoke").split()[-1] in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("spoil", ["parameter", "tag", "gone"])
def test_pages_with_other_parameters_are_rejected_before_any_work(spoil, tiny_series, tmp_path, capsys):
    path = tiny_series() / "04_checkerboard_artifacts.ipynb"
    page = pages.read(path)
    page.cells[1].update({"source": "STEPS = 100"} if spoil == "parameter" else {"metadata": {}})
    nbformat.write(page, path)
    if spoil == "gone":
        path.unlink()
    assert run(tmp_path / "runs") == 2
    assert "04_checkerboard_artifacts" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_other_photos_and_a_second_run_are_named(tiny_series, tmp_path, monkeypatch, capsys):
    tiny_series()
    with monkeypatch.context() as full:
        full.setattr(doctor, "free_gib", lambda folder: 0.1)
        assert run(tmp_path) == 2
    assert "0.1 GiB free" in capsys.readouterr().err
    with FileLock(tmp_path / f".{NAME}.lock"):
        assert run(tmp_path) == 2
    assert f"{tmp_path / NAME}: this very run is at work" in capsys.readouterr().err
    # a run of other photos, which was ended between the two renames that put it in place
    write_json(tmp_path / f"{NAME}.old" / "environment.json", {"data": "/photos/sample"})
    assert run(tmp_path) == 2
    assert "/photos/sample" in capsys.readouterr().err
    assert written(tmp_path, "environment") == {"data": "/photos/sample"}


def test_a_failing_page_damages_nothing_and_the_run_goes_on_from_there(in_process, tiny_series, tmp_path, capsys):
    good = {"01": touching("one"), "03": touching("three")}
    tiny_series(good)
    assert run(tmp_path, only="03") == 0
    before = {name: (tmp_path / NAME / name).read_bytes() for name in files(tmp_path / NAME)}
    tiny_series({**good, "02": ["x = 1", "raise KeyError('sharpness')"]})
    assert run(tmp_path, only="01 02 03") == 1
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == ["02_subpixel_cnn failed in section 'A first section':", "    KeyError: 'sharpness'"]
    assert {name: (tmp_path / NAME / name).read_bytes() for name in files(tmp_path / NAME)} == before
    broken = pages.read(tmp_path / f"{NAME}.partial" / "02_subpixel_cnn.ipynb")
    assert broken.cells[5].outputs[0].ename == "KeyError"
    assert "sharpness" in (tmp_path / f"{NAME}.partial" / "run.log").read_text()
    assert times(tmp_path, "one", "three") == [1, 1], "the page after the failing one is not run"

    assert run(tmp_path, "--keep-going", only="01 02 03") == 1
    assert f"[1/3] {FIRST}: kept" in capsys.readouterr().out
    assert times(tmp_path, "one", "three") == [1, 2]
    tiny_series(good)
    assert run(tmp_path, only="02") == 0
    assert times(tmp_path, "one", "three") == [1, 2]
    assert set(written(tmp_path, "results")) == {"01.gain", "02.gain", "03.gain"}


def test_a_page_is_not_kept_when_code_photos_or_packages_change(in_process, tiny_series, tmp_path, monkeypatch):
    tiny_series({"01": touching("one"), "02": ["1 / 0"]})
    assert run(tmp_path, only="01 02") == 1
    tiny_series({"01": [*touching("one"), "x = 1"], "02": ["1 / 0"]})
    assert run(tmp_path, only="01 02") == 1
    assert times(tmp_path, "one") == [2]
    versions = doctor.versions()
    monkeypatch.setattr(doctor, "versions", lambda: {**versions, "torch": "99"})
    (tmp_path / f"{NAME}.partial" / "02_subpixel_cnn.ipynb").write_text("{")  # as if ended while it was written
    assert run(tmp_path, only="01") == 0
    assert times(tmp_path, "one") == [3]


def test_fresh_starts_over_and_holds_for_what_is_left_to_do(in_process, tiny_series, tmp_path):
    show = "import os\nopen(f'{RUNS}/fresh', 'w').write(os.environ['SRLIB_FRESH'])"
    tiny_series({"01": touching("one"), "02": [show, "1 / 0"]})
    start, found = time.time() - 0.1, []  # the clock of the file system is a little behind
    for options in ((), ("--fresh",), ()):
        assert run(tmp_path, *options, only="01 02") == 1
        found.append(float((tmp_path / "fresh").read_text()))
    assert times(tmp_path, "one") == [2]
    assert found[0] == 0
    assert start <= found[1] == found[2] <= time.time()


FAILING = {
    "AssertionError: assert value == 4": ["value = 3\nassert value == 4"],
    "TimeoutError: the page was not done within its 4 s": ["import time\ntime.sleep(2)"] * 3,
    "DeadKernelError": ["1", "import os\nos._exit(1)"],
}


@pytest.mark.parametrize("message", FAILING)
def test_a_page_that_fails_takes_too_long_or_dies_is_named(message, tiny_series, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(execute.LIMIT, "smoke", 4.0 if "Timeout" in message else 600.0)
    tiny_series({"02": FAILING[message]})
    assert run(tmp_path, only="02") == 1
    section, error = capsys.readouterr().out.splitlines()[-2:]
    assert "'A first section'" in section or "Timeout" in message  # a slow machine may be that late before it
    assert message in error


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_a_state_from_which_the_same_command_goes_on(tiny_series, tmp_path, request):
    wait = "import time\nopen(f'{RUNS}/waits', 'a').close()\ntime.sleep(60 * (not os.path.exists(f'{RUNS}/go')))"
    folder, runs = tiny_series({"01": touching("one"), "02": [f"import os\n{wait}"]}), tmp_path / "runs"
    driver = "import sys; from pathlib import Path; from course import __main__, notebooks;"
    driver += "notebooks.FOLDER = Path(sys.argv[1]); sys.exit(__main__.main(sys.argv[2:]))"
    words = [sys.executable, "-c", driver, str(folder), "run", "--budget", "smoke", "--runs", str(runs)]
    words += ["--device", "cpu", "--only", "01", "--only", "02"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)
    deadline = time.monotonic() + 300
    while not (runs / "waits").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out
    assert "Pages finished so far: 01." in out
    assert out.splitlines()[-1].split()[:4] == ["python", "-m", "course", "run"]
    assert psutil.wait_procs(kernels, timeout=20)[1] == []
    (runs / "go").touch()
    request.getfixturevalue("in_process")
    assert run(runs, only="01 02") == 0
    assert times(runs, "one") == [1]
    assert (runs / NAME / "index.html").exists()
