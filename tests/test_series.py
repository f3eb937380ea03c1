"""The runner on tiny pages: what it writes, what it keeps, and how it fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest

from srlib import cli
from course import results
from course import __main__ as refresh
from course import command, report, runner
from course import notebooks as pages
from course.progress import Progress

Make = Callable[..., Path]
NAME = "sample-smoke-seed0"


def run(runs: Path, *options: str) -> int:
    return cli.main(["run", "--budget", "smoke", "--device", "cpu", "--runs", str(runs), *options])


def touching(name: str) -> list[str]:
    """A page's code that leaves a file each time it is executed."""
    return [f"from pathlib import Path\n(Path(RUNS) / '{name}').open('a').write('x')"]


# ---------------------------------------------------------------- a run that goes well


def test_a_run_writes_pages_report_results_and_environment(
    tiny_series: Make, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRLIB_BUDGET", "full")
    show = (
        "import os, sys\nprint(DATA, BUDGET, SEED, DEVICE)\n"
        "print(os.environ.get('SRLIB_BUDGET'), sys.executable, os.getcwd())"
    )
    folder = tiny_series({"01": [show]})
    assert run(tmp_path / "runs", "--seed", "3") == 0
    out = "".join(capfd.readouterr())
    assert "05_psnr_limits" in out
    assert "03.gain  1.50 dB" in out
    assert out.splitlines()[-1] == f"Report: {tmp_path / 'runs' / 'sample-smoke-seed3' / 'index.html'}"
    assert not re.search("TCP|frozen|debugger|WARNING|Traceback", out)

    made = tmp_path / "runs" / "sample-smoke-seed3"
    expected = {f"{name}.{kind}" for name in pages.NAMES for kind in ("ipynb", "html")}
    expected |= {"index.html", "results.json", "environment.json", "run.log"}
    assert {path.name for path in made.iterdir()} == expected
    assert [path.name for path in made.parent.iterdir()] == [made.name]

    ledger = json.loads((made / "results.json").read_text())
    assert ledger == {f"{name[:2]}.gain": {"value": 1.5, "unit": "dB"} for name in pages.NAMES}
    environment = json.loads((made / "environment.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["device"] == "cpu"
    assert set(environment["pages"]) == set(pages.NAMES)
    assert 0.05 < environment["peak_memory_gib"] < 8
    assert all(record["wall_seconds"] > 0 for record in environment["pages"].values())
    assert "TCP" in (made / "run.log").read_text()

    first = pages.read(made / "01_data_preparation.ipynb")
    printed = first.cells[4].outputs[0].text.split()
    assert printed == ["sample", "smoke", "3", "cpu", "None", sys.executable, str(folder)]
    assert "papermill" not in first.metadata


def test_the_report_needs_no_network(tiny_series: Make, tmp_path: Path) -> None:
    tiny_series({"01": ["from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    pass"]})
    assert run(tmp_path, "--only", "01", "--only", "2") == 0
    for path in (tmp_path / NAME).glob("*.html"):
        html = path.read_text()
        assert not re.search(r"<script[^>]*\bsrc=|<link[^>]*\bhref=|@import|url\(['\"]?(?!data:)http", html), path
        assert "cdn" not in html.lower().replace("cdnjs", "cdn") or "cdn" not in re.sub(
            r"/\*.*?\*/", "", html, flags=re.S
        )
    page = (tmp_path / NAME / "01_data_preparation.html").read_text()
    assert "<math><msup><mi>x</mi><mn>2</mn></msup></math>" in page
    assert 'href="02_subpixel_cnn.html"' in page
    index = (tmp_path / NAME / "index.html").read_text()
    assert 'href="01_data_preparation.html"' in index
    assert "Page 02" in index
    assert "03_channel" not in index
    assert re.search(r"01\.gain</td><td class=\"number\">1\.50</td><td class=\"unit\">dB", index)


def test_only_renews_its_pages_and_keeps_the_others(tiny_series: Make, tmp_path: Path) -> None:
    tiny_series({"01": touching("one"), "02": touching("two")})
    assert run(tmp_path, "--only", "01", "--only", "02") == 0
    assert run(tmp_path, "--only", "02_subpixel_cnn") == 0
    assert ((tmp_path / "one").read_text(), (tmp_path / "two").read_text()) == ("x", "xx")
    assert set(json.loads((tmp_path / NAME / "results.json").read_text())) == {"01.gain", "02.gain"}
    records = json.loads((tmp_path / NAME / "environment.json").read_text())["pages"]
    assert [record["this_run"] for record in records.values()] == [False, True]
    assert "from the run of" in (tmp_path / NAME / "index.html").read_text()


def test_results_are_compared_with_what_is_expected(
    tiny_series: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tiny_series()
    monkeypatch.setattr(runner, "EXPECTED", tmp_path)
    ledger = {"01.gain": {"value": 1.52, "unit": "dB"}, "05.gain": {"value": 9.0, "unit": "dB"}}
    reference = results.expect(ledger, "python -m srlib run --seed 0", "some machine")
    results.save_json(tmp_path / "sample-smoke.json", reference)
    assert run(tmp_path / "runs", "--only", "01") == 0
    assert "not as expected" not in capsys.readouterr().out
    assert run(tmp_path / "runs", "--only", "05") == 0
    assert "not as expected: 05.gain: 1.50 dB, expected 9.00 dB within 0.15" in capsys.readouterr().out
    assert "05.gain: 1.50 dB" in (tmp_path / "runs" / NAME / "index.html").read_text()
    assert run(tmp_path / "runs", "--only", "05", "--seed", "1") == 0
    assert "not as expected" not in capsys.readouterr().out, "the reference was made with seed 0"


# ---------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "07"], "07"),
        (["--only", "cnn"], "cnn"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--seed", "-1"], "-1"),
        (["--seed", "1.5"], "1.5"),
        (["--budget", "fast"], "fast"),
        (["--device", "tpu"], "tpu"),
        (["--bugdet", "smoke"], "--bugdet"),
    ],
)
def test_what_is_unknown_is_rejected_before_any_work(
    options: list[str], message: str, tiny_series: Make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tiny_series()
    try:
        status = run(tmp_path / "runs", *options)
    except SystemExit as error:  # argparse
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("spoil", ["parameter", "tag", "gone"])
def test_pages_with_other_parameters_are_rejected_before_any_work(
    spoil: str, tiny_series: Make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tiny_series() / "04_checkerboard_artifacts.ipynb"
    page = pages.read(path)
    if spoil == "parameter":
        page.cells[1].source += "\nSTEPS = 100"
    else:
        page.cells[1].metadata = {}
    nbformat.write(page, path)
    if spoil == "gone":
        path.unlink()
    assert run(tmp_path / "runs") == 2
    assert "04_checkerboard_artifacts" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_found_before_any_work(
    tiny_series: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tiny_series()
    monkeypatch.setattr(command, "free_gib", lambda folder: 0.1)
    assert run(tmp_path / "runs") == 2
    assert "0.1 GiB free" in capsys.readouterr().err


def test_a_run_folder_of_other_photos_is_left_alone(
    tiny_series: Make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tiny_series()
    (tmp_path / NAME).mkdir()
    results.save_json(tmp_path / NAME / "environment.json", {"data": "/photos/sample"})
    assert run(tmp_path) == 2
    assert "/photos/sample" in capsys.readouterr().err


def test_two_runs_do_not_share_a_folder(tiny_series: Make, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny_series()
    me = psutil.Process()
    lock = tmp_path / f"{NAME}.lock"
    results.save_json(lock, {"pid": me.pid, "started": me.create_time()})
    assert run(tmp_path, "--only", "01") == 2
    assert str(me.pid) in capsys.readouterr().err
    results.save_json(lock, {"pid": me.pid, "started": 1.0})  # a process of that number, but an earlier one
    assert run(tmp_path, "--only", "01") == 0
    assert not lock.exists()


# ---------------------------------------------------------------- failures


def test_a_failing_cell_is_named_and_damages_nothing(
    tiny_series: Make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tiny_series()
    assert run(tmp_path, "--only", "03") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / NAME).iterdir()}
    tiny_series({"03": ["x = 1", "raise KeyError('sharpness')"]})
    capsys.readouterr()
    assert run(tmp_path, "--only", "03", "--only", "04") == 1
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == ["03_channel_experiments failed in section 'A first section':", "    KeyError: 'sharpness'"]
    assert {path.name: path.read_bytes() for path in (tmp_path / NAME).iterdir()} == before
    broken = pages.read(tmp_path / f"{NAME}.partial" / "03_channel_experiments.ipynb")
    assert any(output.output_type == "error" for cell in broken.cells for output in cell.get("outputs", ()))
    assert not (tmp_path / f"{NAME}.partial" / "04_checkerboard_artifacts.ipynb").exists()


def test_keep_going_runs_the_rest_and_the_next_run_only_what_is_missing(
    tiny_series: Make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = {"01": touching("one"), "05": touching("five")}
    tiny_series({**good, "03": ["x = 1\nassert x == 2"]})
    assert run(tmp_path, "--keep-going") == 1
    assert "AssertionError: assert x == 2" in capsys.readouterr().out.splitlines()[-1]
    assert not (tmp_path / NAME).exists()
    tiny_series(good)  # 03 is mended, the others are as they were
    assert run(tmp_path) == 0
    assert "[1/5] 01_data_preparation: kept" in capsys.readouterr().out
    assert ((tmp_path / "one").read_text(), (tmp_path / "five").read_text()) == ("x", "x")
    assert len(json.loads((tmp_path / NAME / "results.json").read_text())) == 5


def test_a_page_is_not_kept_when_its_code_or_the_photos_change(tiny_series: Make, tmp_path: Path) -> None:
    tiny_series({"01": touching("one"), "02": ["1 / 0"]})
    assert run(tmp_path, "--only", "01", "--only", "02") == 1
    tiny_series({"01": [*touching("one"), "x = 1"], "02": ["1 / 0"]})
    assert run(tmp_path, "--only", "01", "--only", "02") == 1
    assert (tmp_path / "one").read_text() == "xx"
    state = tmp_path / f"{NAME}.partial" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "key": "of other photos"}))
    assert run(tmp_path, "--only", "01") == 0
    assert (tmp_path / "one").read_text() == "xxx"


def test_a_page_that_is_edited_while_it_runs_stays_in_the_report(tiny_series: Make, tmp_path: Path) -> None:
    edit = "import nbformat\npath = '01_data_preparation.ipynb'\npage = nbformat.read(path, 4)\n"
    edit += "page.cells[-1].source += '\\nx = 1'\nnbformat.write(page, path)"
    before = pages.code_hash(pages.read(tiny_series({"01": [edit]}) / "01_data_preparation.ipynb"))
    assert run(tmp_path, "--only", "01") == 0
    assert set(json.loads((tmp_path / NAME / "results.json").read_text())) == {"01.gain"}
    record = json.loads((tmp_path / NAME / "environment.json").read_text())["pages"]["01_data_preparation"]
    assert record["code_hash"] == before  # of what ran


def test_fresh_starts_over_and_reaches_the_pages(tiny_series: Make, tmp_path: Path) -> None:
    show = "import os\nopen(f'{RUNS}/fresh', 'w').write(os.environ.get('SRLIB_FRESH', 'not set'))"
    tiny_series({"01": touching("one"), "02": [show], "03": ["1 / 0"]})
    only = ("--only", "01", "--only", "02", "--only", "03")
    assert run(tmp_path, *only) == 1
    assert (tmp_path / "fresh").read_text() == "not set"
    start = time.time()
    assert run(tmp_path, "--fresh", *only) == 1
    assert (tmp_path / "one").read_text() == "xx"
    assert start <= float((tmp_path / "fresh").read_text()) <= time.time()


def test_a_page_that_hangs_is_ended_by_its_time_limit(
    tiny_series: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(command.PAGE_LIMIT, "smoke", 3.0)
    tiny_series({"02": ["import time\ntime.sleep(0.5)"] * 3 + ["while True:\n    time.sleep(0.5)"]})
    start = time.monotonic()
    assert run(tmp_path, "--only", "02") == 1
    assert time.monotonic() - start < 30
    assert "TimeoutError: the page was not done within its 3 s" in capsys.readouterr().out.splitlines()[-1]


def test_a_page_whose_process_dies_is_named(
    tiny_series: Make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tiny_series({"05": ["import os\nos._exit(1)"]})
    assert run(tmp_path, "--only", "05") == 1
    assert "DeadKernelError" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_a_state_from_which_the_same_command_goes_on(tiny_series: Make, tmp_path: Path) -> None:
    wait = (
        "from pathlib import Path\nimport time\nif not Path(RUNS, 'go').exists():\n"
        "    Path(RUNS, 'waits').touch()\n    time.sleep(60)"
    )
    folder = tiny_series({"01": touching("one"), "02": [wait]})
    driver = (
        "import sys; from pathlib import Path; from srlib import cli; from course import pages;"
        "pages.folder = lambda: Path(sys.argv[1]); sys.exit(cli.main(sys.argv[2:]))"
    )
    runs = tmp_path / "runs"
    words = [sys.executable, "-c", driver, str(folder), "run", "--budget", "smoke", "--runs", str(runs)]
    words += ["--only", "01", "--only", "02"]
    env = {**os.environ, "PYTHONPATH": str(pages.ROOT)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    deadline = time.monotonic() + 90
    while not (runs / "waits").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out
    assert "Pages finished so far: 01." in out
    assert "python -m srlib run" in out.splitlines()[-1]
    assert psutil.wait_procs(kernels, timeout=20)[1] == []
    (runs / "go").touch()
    again = subprocess.run(words, capture_output=True, text=True, env=env)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stderr == ""
    assert (runs / "one").read_text() == "x"
    assert (runs / NAME / "index.html").exists()


def test_a_run_that_was_ended_between_the_two_renames_is_put_back(tiny_series: Make, tmp_path: Path) -> None:
    tiny_series({"02": ["1 / 0"]})
    assert run(tmp_path, "--only", "01") == 0
    (tmp_path / NAME).rename(tmp_path / f"{NAME}.old")
    assert run(tmp_path, "--only", "02") == 1
    assert (tmp_path / NAME / "01_data_preparation.ipynb").exists()


# ---------------------------------------------------------------- the committed pages are re-executed


def test_refresh_executes_stamps_and_leaves_no_trace_of_the_machine(
    tiny_series: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tiny_series({"01": ["print(BUDGET)"], "02": ["1 / 0"]})
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    refresh.refresh(("01_data_preparation",))
    path = folder / "01_data_preparation.ipynb"
    page = pages.read(path)
    assert page.cells[3].outputs[0].text == "quick\n"
    assert [c.execution_count for c in page.cells if c.cell_type == "code"] == [1, 2, 3]
    assert page.metadata["srlib"]["code_hash"] == pages.code_hash(page)
    assert str(tmp_path) not in path.read_text()
    assert "papermill" not in path.read_text()

    broken = folder / "02_subpixel_cnn.ipynb"
    before = broken.read_bytes()
    with pytest.raises(refresh.PageFailed, match="ZeroDivisionError"):
        refresh.refresh(("02_subpixel_cnn",))
    assert broken.read_bytes() == before


def test_a_finished_run_can_become_the_reference(tiny_series: Make, tmp_path: Path) -> None:
    tiny_series()
    assert run(tmp_path, "--only", "01") == 0
    (path,) = refresh.expect(tmp_path / NAME, tmp_path)
    assert path.name == "sample-smoke.json"
    expected = results.load_expected(path)
    assert expected["results"] == {"01.gain": {"value": 1.5, "tolerance": 0.15, "unit": "dB"}}
    assert "--budget smoke" in expected["command"]
    expected["results"]["01.gain"]["tolerance"] = 0.4
    results.save_json(path, expected)
    refresh.expect(tmp_path / NAME, tmp_path)
    assert results.load_expected(path) == expected


def test_a_run_on_other_photos_gives_each_page_its_own_reference(tmp_path: Path) -> None:
    machine = {"device_name": "a CPU", "threads": 2, "system": "Linux"}
    environment = {
        "data": "/home/me/celeba", "data_name": "celeba", "budget": "quick", "seed": 0, "machine": machine,
        "versions": {"torch": "2"}, "command": "python -m srlib run --data /home/me/celeba --budget quick",
    }  # fmt: skip
    ledger = {"03.gain": {"value": 1.5, "unit": "dB"}, "05.images": {"value": 60, "unit": ""}}
    results.save_json(tmp_path / "environment.json", environment)
    results.save_json(tmp_path / "results.json", ledger)
    paths = refresh.expect(tmp_path, tmp_path)
    assert [path.name for path in paths] == ["celeba-channels.json", "celeba-losses.json"]
    for path, number in zip(paths, ("03", "05")):
        content = results.load_expected(path)
        assert content["command"] == f"python -m srlib run --data FOLDER --budget quick --seed 0 --only {number}"
        assert all(key.startswith(number) for key in content["results"])
        assert "/home/me" not in path.read_text()


# ---------------------------------------------------------------- parts


def test_code_hash_follows_the_code_and_nothing_else(tiny_series: Make) -> None:
    page = pages.read(tiny_series() / "01_data_preparation.ipynb")
    before = pages.code_hash(page)
    page.cells[0].source = "# Another title"
    page.cells[1].execution_count = 7
    page.cells.insert(2, nbformat.v4.new_code_cell("SEED = 1", metadata={"tags": [pages.INJECTED]}))
    assert pages.code_hash(page) == before
    page.cells[-1].source += "\n1 + 1"
    assert pages.code_hash(page) != before


def test_section_is_the_last_heading_above() -> None:
    markdown, python = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    page = nbformat.v4.new_notebook(
        cells=[
            python("1"),
            markdown("# Title\n\ntext\n\n## Deep"),
            python("2"),
            markdown("```\n# no\n```"),
            python("3"),
        ]
    )
    assert [pages.section(page, i) for i in (0, 2, 4)] == ["(before the first heading)", "Deep", "Deep"]
    assert pages.title(page) == "Title"


@pytest.mark.parametrize(("seconds", "text"), [(6.6, "7 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")])
def test_duration(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


@pytest.mark.parametrize(
    "formula",
    [
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"10\log_{10}\frac{\mathrm{MAX}^2}{\mathrm{MSE}}",
        r"\operatorname{PS}(T)_{x,y,c} = T_{\lfloor x/r \rfloor, \lfloor y/r \rfloor}",
        r"\mathbb{E}\left[\lVert x - \hat{x} \rVert_2^2 \mid y\right]",
        r"\begin{cases} 1 & x < 0 \\ 0 & \text{else} \end{cases}",
    ],
)
def test_formulas_become_mathml(formula: str) -> None:
    mathml = report.to_mathml(formula, block=True)
    assert mathml.startswith("<math")
    assert "\\" not in mathml


def test_links_lead_to_pages_of_the_run_or_are_plain_text() -> None:
    targets = ["02_subpixel_cnn.ipynb#x", "03_x.ipynb", "../a.py", "../README.md", "https://a.org", "#up"]
    text = " ".join(f"[link]({target})" for target in targets)
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    html = report.page_html("01_data_preparation", page, {"02_subpixel_cnn": "Two"})
    body = html[html.index("<main") :]
    found = set(re.findall(r'href="([^"]+)"', body[body.index("jp-Cell") :]))
    assert found == {"02_subpixel_cnn.html#x", "https://a.org", "#up", "index.html"}


def test_progress_on_a_terminal_is_one_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    progress = Progress({"01_a": 2, "02_b": 3})
    progress.page("01_a")
    progress.cell(1)
    progress.cell(2)
    assert progress.bar is not None
    assert progress.bar.n == 1
    progress.done("01_a", "2 s")
    assert progress.bar.n == 2
    progress.close()
    assert "[1/2] 01_a: 2 s\n" in capsys.readouterr().out
