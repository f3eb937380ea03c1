"""The loop: what it learns, that it resumes to the last bit, what it refuses, and what it never saves."""

import math
import os
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace

import pytest
import torch
from trainings import DROPOUT, SMALL, Stop, weights

from srlib.data import Batches
from srlib.errors import UsageError
from srlib.train.callbacks import Callback, Measure, Save, fits
from srlib.train.checkpoints import load, load_model, run_in, save, take_up
from srlib.train.optimisers import Average
from srlib.train.trainer import Trainer


def train(config, store, **options):
    return Trainer(config, store, precision=torch.float32, **options).run()


def test_overfits_one_batch(sample, monkeypatch):
    fixed = Batches(sample, "train", 4, 32).crops(0)
    monkeypatch.setattr(Batches, "crops", lambda self, step: fixed)
    config = replace(SMALL, options={"width": 32, "depth": 2}, steps=300, validate_every=20, ema=0.0)
    history = train(config, sample).history
    assert history[-1]["loss"] < 0.25 * history[0]["loss"]


def test_same_seed_same_weights_other_seed_other_weights(sample):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = (weights(train(SMALL, sample).average.model) for _ in range(2))
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers are left alone"
    assert torch.equal(one, two)
    assert not torch.equal(one, weights(train(replace(SMALL, seed=1), sample).average.model))


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


@pytest.mark.parametrize("change", [{}, DROPOUT, {"late_patch": 64}, {"optimiser": "muon"}])
def test_resume_is_bit_for_bit(sample, tmp_path, change):
    """Stopped after rows and gone on with: the same weights as without a stop."""
    config, last = replace(SMALL, late_share=0.6, **change), tmp_path / "last.pt"
    whole, parts = train(config, sample), []
    for step in (3, 6, math.inf):
        parts.append(Trainer(config, sample, precision=torch.float32, callbacks=[Stop(step + 3), Save(last, 0)]))
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
        take_up(last, Trainer(replace(config, learning_rate=0.5), sample, precision=torch.float32))


def test_checkpoints_hold_no_code(tmp_path, sample):
    train(SMALL, sample, callbacks=[Save(tmp_path / "last.pt")])
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


def test_what_earlier_versions_left_is_read_or_refused_in_a_sentence(sample, tmp_path):
    config = replace(SMALL, steps=1, optimiser="muon")
    trainer = Trainer(config, sample, precision=torch.float32, callbacks=[Save(tmp_path / "last.pt")])
    assert run_in(tmp_path, trainer, resume=False).startswith("1 steps in ")
    state = load(tmp_path / "last.pt")
    state["optimisers"][0]["param_groups"].pop()  # as before kernels were grouped by shape
    save(tmp_path / "last.pt", state)
    with pytest.raises(UsageError, match=r"last\.pt: a training of another version"):
        run_in(tmp_path, Trainer(config, sample, precision=torch.float32), resume=True)
    content = load(tmp_path / "model.pt")
    content["config"] = {k: v for k, v in content["config"].items() if k != "validate_photos"} | {"gone": 1}
    torch.save(content, tmp_path / "old.pt")
    assert torch.equal(weights(load_model(tmp_path / "old.pt")[0]), weights(trainer.average.model))
    content["config"]["model"] = "resnet"
    torch.save(content, tmp_path / "older.pt")
    with pytest.raises(UsageError, match=r"older\.pt: a network of another version .*make it anew"):
        load_model(tmp_path / "older.pt")


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_anything_is_saved(sample, tmp_path, kind):
    calls = 0

    def breaks(output, target):
        nonlocal calls
        calls += 1
        value = (output - target).square().mean()
        if calls == 9 and kind == "loss":  # the last step before a row, after which all would be saved
            return value * float("nan")
        # a root at zero: 0 forward, infinity times 0 backward
        return value + (output.sum() * 0).sqrt() if calls == 9 else value

    measured = []
    watch = Measure(lambda model: measured.append(bool(torch.isfinite(weights(model)).all())) or {})
    with pytest.raises(FloatingPointError, match=f"the {kind} is not finite at step 9 .*try a tenth"):
        train(SMALL, sample, loss=breaks, callbacks=[watch, Save(tmp_path / "last.pt", 0)])
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


def test_the_loss_sees_float32_that_is_not_tf32_and_late_crops_are_larger(sample):
    sizes, before = [], torch.backends.cudnn.allow_tf32

    def loss(output, target):
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)
        assert output.dtype == torch.float32
        sizes.append(target.shape[-1])
        return (output - target).square().mean()

    Trainer(replace(SMALL, late_patch=64, late_share=0.25), sample, precision=torch.bfloat16, loss=loss).run()
    assert sizes == [32] * 9 + [64] * 3
    assert torch.backends.cudnn.allow_tf32 == before


def test_length_in_minutes(sample):
    result = train(replace(SMALL, steps=None, minutes=0.02), sample)
    assert 1.2 <= result.history[-1]["seconds"] < 60
    assert result.history[-1]["learning_rate"] < SMALL.learning_rate / 10


def test_callbacks_see_every_step_and_are_left_in_the_reverse_order(sample):
    told = []

    class Witness(Callback):
        @contextmanager
        def around(self, trainer):
            yield
            told.append(trainer.callbacks.index(self))

        def after_step(self, trainer):
            told.append(f"step {trainer.step}")

    train(replace(SMALL, steps=2), sample, callbacks=[Witness(), Witness()])
    *steps, first, second = told
    assert steps == ["step 1"] * 2 + ["step 2"] * 2
    assert first == second + 1
