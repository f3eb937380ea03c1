"""The loop: what it learns, that it resumes to the last bit, what it refuses, and what it never saves."""

import math
import os
import weakref
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from trainings import DROPOUT, SMALL, Stop, weights

from srlib.errors import UsageError
from srlib.train.callbacks import Measure, Save, stop_if_too_large
from srlib.train.checkpoints import load, load_model, run_in, save, take_up
from srlib.train.optimisers import Average
from srlib.train.trainer import Trainer


def train(config, store, **options):
    return Trainer(config, store, precision=torch.float32, **options).run()


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


def test_checkpoints_hold_no_code_and_others_are_refused_in_a_sentence(sample, tmp_path):
    """Among them what earlier versions left, and files that are cut off or not there."""
    last, model = tmp_path / "last.pt", tmp_path / "model.pt"

    def trainer():
        how = {"precision": torch.float32, "callbacks": [Save(last)]}
        return Trainer(replace(SMALL, steps=1, optimiser="muon"), sample, **how)

    assert run_in(tmp_path, done := trainer(), resume=False).startswith("1 steps in ")
    state = torch.load(last, weights_only=True)  # refuses everything but tensors and plain values
    assert state["config"] == asdict(done.config)

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"format": "srlib-1", "evil": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "half.pt").write_bytes(last.read_bytes()[:1000])
    for name, words in {"evil": r"\.pt: .*pickled code, which srlib never runs", "half": "", "none": ""}.items():
        with pytest.raises(UsageError, match=name + words) as refusal:
            load(tmp_path / f"{name}.pt")
        assert "weights_only" not in str(refusal.value)
    assert not (tmp_path / "ran").exists()

    state["optimisers"][0]["param_groups"].pop()  # as before kernels were grouped by shape
    save(last, state)
    with pytest.raises(UsageError, match=r"last\.pt: a training of another version"):
        run_in(tmp_path, trainer(), resume=True)
    content = load(model)
    content["config"] = {k: v for k, v in content["config"].items() if k != "validate_photos"} | {"gone": 1}
    save(model, content)
    assert torch.equal(weights(load_model(model)[0]), weights(done.average.model))
    content["config"]["model"] = "resnet"
    save(model, content)
    with pytest.raises(UsageError, match=r"model\.pt: a network of another version .*make it anew"):
        load_model(model)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_anything_is_saved(sample, tmp_path, kind):
    calls, measured = 0, []

    def breaks(output, target):
        nonlocal calls
        calls += 1
        value = (output - target).square().mean()
        if calls < 9:  # the last step before a row, after which all would be saved
            return value
        # a root at zero: 0 forward, infinity times 0 backward
        return value * float("nan") if kind == "loss" else value + (output.sum() * 0).sqrt()

    watch = Measure(lambda model: measured.append(bool(torch.isfinite(weights(model)).all())) or {})
    with pytest.raises(FloatingPointError, match=f"the {kind} is not finite at step 9 .*try a tenth"):
        train(SMALL, sample, loss=breaks, callbacks=[watch, Save(tmp_path / "last.pt", 0)])
    state = load(tmp_path / "last.pt")
    assert state["step"] == 6
    assert all(torch.isfinite(t).all() for t in state["model"].values())
    assert measured == [True, True]


def test_a_batch_that_fits_is_found_after_the_last_one_is_freed(sample):
    """Inside the handler the traceback would keep the activations alive, and the size named be too small."""
    trainer, activations = Trainer(replace(SMALL, batch_size=16), sample), []
    forward = trainer.model.forward

    def limited(kind, lr):
        assert all(reference() is None for reference in activations), "an earlier attempt is still in memory"
        kept = torch.zeros(len(lr))
        activations.append(weakref.ref(kept))
        if len(lr) > 5:
            raise kind("MPS backend out of memory")
        return forward(lr)

    for kind in (torch.OutOfMemoryError, RuntimeError):  # Apple's GPUs have no type of their own for it
        trainer.model.forward = partial(limited, kind)
        with pytest.raises(UsageError, match=r"16 crops of 32 pixels do not fit .* one of 4 does"):
            stop_if_too_large(trainer)


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


def test_a_resumed_rank_knows_at_once_how_much_of_its_time_is_gone(sample):
    trainer = Trainer(replace(SMALL, steps=None, minutes=1.0), sample)
    trainer.world, trainer.step = 2, 90  # no step at which ranks agree on the clock
    trainer.tick(45.0)
    assert trainer.share == 0.75
    trainer.tick(48.0)
    assert trainer.share == 0.75, "and then not in every step"


def test_photos_take_their_room_before_a_batch_is_tried(sample):
    trainer = Trainer(SMALL, replace(sample))
    trainer.early.hold = True
    stop_if_too_large(trainer)
    assert [split for split, _ in trainer.early.store._held] == ["train"]


def test_length_in_minutes(sample):
    result = train(replace(SMALL, steps=None, minutes=0.02), sample)
    assert 1.2 <= result.history[-1]["seconds"] < 60
    assert result.history[-1]["learning_rate"] < SMALL.learning_rate / 10
