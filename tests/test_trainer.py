"""The loop: what it learns, that it resumes to the last bit, what it refuses, and what it never saves."""

import math
import os
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace

import pytest
import torch

from srlib.data import Batches, open_store
from srlib.errors import UsageError
from srlib.train.callbacks import Callback, Measure, Save, fits
from srlib.train.checkpoints import load, load_model, run_in, save, take_up
from srlib.train.config import TrainConfig
from srlib.train.optimisers import Average
from srlib.train.trainer import Trainer

SHORT = {"steps": 12, "batch_size": 4, "patch": 32, "validate_every": 3, "validate_photos": 2, "warmup": 2}
SMALL = TrainConfig(options={"width": 8, "depth": 1}, ema=0.9, **SHORT)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store("sample", tmp_path_factory.mktemp("runs"))


def train(config, store, **options) -> Trainer:
    return Trainer(config, store, precision=torch.float32, **options).run()


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Stop(Callback):
    """Ends a training by an error after a row."""

    def __init__(self, step: int) -> None:
        self.step = step

    def at_log(self, trainer, row):
        if row["step"] == self.step:
            raise InterruptedError


def test_overfits_one_batch(store, monkeypatch):
    fixed = Batches(store, "train", 4, 32).crops(0)
    monkeypatch.setattr(Batches, "crops", lambda self, step: fixed)
    config = replace(SMALL, options={"width": 32, "depth": 2}, steps=300, validate_every=20, ema=0.0)
    history = train(config, store).history
    assert history[-1]["loss"] < 0.25 * history[0]["loss"]


def test_same_seed_same_weights_other_seed_other_weights(store):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = (weights(train(SMALL, store).average.model) for _ in range(2))
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers are left alone"
    assert torch.equal(one, two)
    assert not torch.equal(one, weights(train(replace(SMALL, seed=1), store).average.model))


def test_average_is_the_running_mean_of_the_weights():
    model, average = torch.nn.Linear(2, 2), Average(torch.nn.Linear(2, 2), 0.9)
    average.model.load_state_dict(model.state_dict())
    expected = weights(model)
    for step in range(200):
        with torch.no_grad():
            model.weight.add_(1.0)
        average.update(model, step)
        expected.lerp_(weights(model), 1 - min(0.9, (1 + step) / (10 + step)))
    torch.testing.assert_close(weights(average.model), expected)


CHANGES = {
    "residual": {},
    "batch-norm-dropout": {"model": "subpixel-bn-dropout", "options": {"width": 8, "dropout": 0.3}},
    "late-patch": {"late_patch": 64},
    "muon": {"optimiser": "muon"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_resume_is_bit_for_bit(store, tmp_path, name):
    """Stopped after rows and gone on with: the same weights as without a stop."""
    config, last = replace(SMALL, late_share=0.6, **CHANGES[name]), tmp_path / "last.pt"
    whole, parts = train(config, store), []
    for step in (3, 6, math.inf):
        parts.append(Trainer(config, store, precision=torch.float32, callbacks=[Stop(step + 3), Save(last, 0)]))
        if last.exists():
            take_up(last, parts[-1])
        with pytest.raises(InterruptedError) if step < 12 else nullcontext():
            parts[-1].run()
        assert load(last)["step"] == min(step, 12)
    states = [trainer.average.model.state_dict().values() for trainer in (whole, parts[-1])]
    assert all(torch.equal(one, other) for one, other in zip(*states))
    rows = [[{**row, "seconds": 0} for row in trainer.history] for trainer in (whole, parts[-1])]
    assert rows[0] == rows[1]
    with pytest.raises(UsageError, match=r"learning_rate: 0\.002 there, 0\.5 here"):
        take_up(last, Trainer(replace(config, learning_rate=0.5), store, precision=torch.float32))


def test_a_training_of_another_version_is_refused_in_words(store, tmp_path):
    config = replace(SMALL, optimiser="muon")
    train(config, store, callbacks=[Save(tmp_path / "last.pt")])
    state = load(tmp_path / "last.pt")
    state["optimisers"][0]["param_groups"].pop()  # as before kernels were grouped by shape
    save(tmp_path / "last.pt", state)
    with pytest.raises(UsageError, match=r"last\.pt: a training of another version"):
        run_in(tmp_path, Trainer(config, store, precision=torch.float32), resume=True)


def test_checkpoints_hold_no_code(tmp_path, store):
    train(SMALL, store, callbacks=[Save(tmp_path / "last.pt")])
    state = torch.load(tmp_path / "last.pt", weights_only=True)  # refuses everything but tensors and plain values
    assert state["config"] == asdict(SMALL)

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"format": "srlib-1", "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UsageError, match=r"evil\.pt: .*pickled code, which srlib never runs") as refusal:
        load(tmp_path / "evil.pt")
    assert "weights_only" not in str(refusal.value)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "half.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:1000])
    for name in ("half.pt", "none.pt"):
        with pytest.raises(UsageError, match=name):
            load(tmp_path / name)


def test_models_of_earlier_versions_are_read_or_refused_in_a_sentence(store, tmp_path):
    trainer = Trainer(replace(SMALL, steps=1), store, precision=torch.float32)
    assert run_in(tmp_path, trainer, resume=False).startswith("1 steps in ")
    content = load(tmp_path / "model.pt")
    content["config"] = {k: v for k, v in content["config"].items() if k != "validate_photos"} | {"gone": 1}
    torch.save(content, tmp_path / "old.pt")
    assert torch.equal(weights(load_model(tmp_path / "old.pt")[0]), weights(trainer.average.model))
    content["config"]["model"] = "resnet"
    torch.save(content, tmp_path / "older.pt")
    with pytest.raises(UsageError, match=r"older\.pt: a network of another version .*make it anew"):
        load_model(tmp_path / "older.pt")


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_anything_is_saved(store, tmp_path, kind):
    calls = 0

    def breaks(output, target):
        nonlocal calls
        calls += 1
        value = (output - target).square().mean()
        if calls == 8 and kind == "loss":
            return value * float("nan")
        # a root at zero: 0 forward, infinity times 0 backward
        return value + (output.sum() * 0).sqrt() if calls == 8 else value

    measured = []
    watch = Measure(lambda model: measured.append(bool(torch.isfinite(weights(model)).all())) or {})
    with pytest.raises(FloatingPointError, match=f"the {kind} is not finite at step 8 .*try a tenth"):
        train(SMALL, store, loss=breaks, callbacks=[watch, Save(tmp_path / "last.pt", 0)])
    state = load(tmp_path / "last.pt")
    assert state["step"] == 6
    assert all(torch.isfinite(t).all() for t in state["model"].values())
    assert measured == [True, True]


def test_a_batch_that_fits_is_found_after_the_last_one_is_freed():
    """Inside the handler the traceback would keep the activations alive, and the size named be too small."""
    activations, sizes = [], []

    def attempt(size: int) -> None:
        assert all(reference() is None for reference in activations), "an earlier attempt is still in memory"
        kept = torch.zeros(size)
        activations.append(weakref.ref(kept))
        sizes.append(size)
        if size > 5:
            raise torch.OutOfMemoryError("out of memory")

    assert [fits(attempt, size) for size in (16, 8, 4)] == [False, False, True]
    assert sizes == [16, 8, 4]


def test_the_loss_sees_float32_that_is_not_tf32_and_late_crops_are_larger(store):
    sizes, before = [], torch.backends.cudnn.allow_tf32

    def loss(output, target):
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)
        assert output.dtype == torch.float32
        sizes.append(target.shape[-1])
        return (output - target).square().mean()

    Trainer(replace(SMALL, late_patch=64, late_share=0.25), store, precision=torch.bfloat16, loss=loss).run()
    assert sizes == [32] * 9 + [64] * 3
    assert torch.backends.cudnn.allow_tf32 == before


def test_length_in_minutes(store):
    result = train(replace(SMALL, steps=None, minutes=0.02), store)
    assert 1.2 <= result.history[-1]["seconds"] < 60
    assert result.history[-1]["learning_rate"] < SMALL.learning_rate / 10


def test_callbacks_are_left_in_the_reverse_order_and_see_every_step(store):
    told = []

    class Witness(Callback):
        @contextmanager
        def around(self, trainer):
            place = trainer.callbacks.index(self)
            yield
            told.append(f"{place} out")

        def after_step(self, trainer):
            told.append(trainer.step)

    trainer = train(replace(SMALL, steps=2), store, callbacks=[Witness(), Witness()])
    last = len(trainer.callbacks) - 1
    assert told == [1, 1, 2, 2, f"{last} out", f"{last - 1} out"]
