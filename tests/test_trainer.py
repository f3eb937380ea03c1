"""A training: its config, checked where it is made; what the loop learns, resumes to the last bit and refuses."""

import itertools
import math
import os
import weakref
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from functools import partial
from typing import get_args, get_type_hints
from unittest.mock import Mock

import pytest
import torch
from conftest import CARD, DROPOUT, SMALL, Stop, on_card, weights

from srlib import commands
from srlib.device import choose_precision
from srlib.errors import DataError, UsageError
from srlib.train.callbacks import Measure, stop_if_too_large
from srlib.train.checkpoints import Save, load, load_model, run_in, save, take_up
from srlib.train.config import TrainConfig, learning_rate
from srlib.train.trainer import Trainer


@pytest.mark.parametrize("entry", fields(TrainConfig), ids=lambda entry: entry.name)
def test_every_field_refuses_what_is_wrong_and_names_itself(entry):
    limits, hint = entry.metadata, get_type_hints(TrainConfig)[entry.name]
    kinds = get_args(hint) or (hint,)
    wrong = [object(), [1], b"x"]
    wrong += [math.nan, math.inf, -math.inf, "1", True] if {int, float} & {*kinds} else [1.5]
    wrong += [1.5] if kinds == (int,) else []
    wrong += [limits[bound] for bound in ("above", "below") if bound in limits]
    wrong += [limits[bound] + far for bound, far in (("low", -1), ("high", 4)) if bound in limits]
    wrong += ["no such name"] if "choices" in limits else []
    for value in wrong:
        with pytest.raises(UsageError, match=f"{entry.name}.*need.*got"):
            TrainConfig(**{entry.name: value})


def test_train_answers_bad_input_in_one_sentence(tmp_path, capsys):
    for arguments, message in (
        ("--steps 6 --minutes 1", "give steps or minutes"),
        ("--patch 30", "patch (--patch): need a multiple of the scale 4, got 30"),
        ("--late-patch 90", "late_patch (--late-patch): need a multiple of the scale 4"),
        ("--patch 8 --loss ssim", "patch (--patch): the loss ssim needs at least 11, got 8"),
        ("--scale 3 --patch 48", "scale (--scale): photos have 176 pixels a side, no multiple of 3"),
        ("--width 1", "width (--width): need a whole number at least 2, got 1"),
        ("--seed 9223372036854775808", "seed (--seed): need a whole number at least 0"),
        ("--device cpu:x", "unknown device 'cpu:x': choose from auto"),
        ("--head none", "head (--head): need one of subpixel, "),
        ("--out /proc/nowhere", "--out /proc/nowhere: cannot be written"),
        ("--resume", "nothing to resume"),
        ("--data /no/such/folder", "/no/such/folder"),
        ("--loss l7", "loss: no 'l7': choose from mse"),
    ):
        assert commands.main(["train", "--out", str(tmp_path / "out"), *arguments.split()]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1


@pytest.mark.parametrize("change", [{"steps": None}, {"options": {"batch_norm": True, "widht": 8}}])
def test_a_config_without_a_length_or_with_unknown_options_is_refused(change):
    with pytest.raises(UsageError, match=r"give steps or minutes|has no 'widht': choose from body, width"):
        TrainConfig(**change)


def test_schedules_start_and_end_where_they_say():
    config = TrainConfig(learning_rate=1e-2, final_learning_rate=1e-3, warmup=10)
    middles = {"cosine": (1e-2 + 1e-3) / 2, "exponential": (1e-2 * 1e-3) ** 0.5, "constant": 1e-2}
    for schedule, middle in middles.items():
        c, end = replace(config, schedule=schedule), 1e-2 if schedule == "constant" else 1e-3
        assert learning_rate(c, 0, 0.0) == pytest.approx(1e-3)  # a tenth of the way up
        rates = [learning_rate(c, 100, progress) for progress in (0.0, 0.5, 1.0)]
        assert rates == pytest.approx([1e-2, middle, end])


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_precision_is_decided_by_what_a_device_computes_natively(monkeypatch, native, dtype):
    cpu, card = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0) if native else (7, 5))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert [choose_precision(device)[0] for device in (cpu, card)] == [dtype, dtype]
    assert "a card" in choose_precision(card)[1]
    assert choose_precision(cpu, "float32") == (torch.float32, "float32 as asked")
    with pytest.raises(UsageError, match="unknown precision 'half'"):
        choose_precision(cpu, "half")


def train(config, store, **options):
    return Trainer(config, store, precision=torch.float32, **options).run()


def test_another_seed_gives_other_weights_and_the_callers_random_numbers_are_left_alone(sample):
    before = torch.get_rng_state()
    one, other = (weights(train(replace(SMALL, seed=seed), sample).model) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


ON_CPU = [(change, "cpu") for change in ({}, DROPOUT, {"late_patch": 64}, {"optimiser": "muon"})]


@pytest.mark.parametrize(("change", "device"), [*ON_CPU, pytest.param(DROPOUT, CARD, marks=on_card)])
def test_resume_is_bit_for_bit(sample, tmp_path, monkeypatch, change, device):
    """Stopped after rows and gone on with: the same weights as without a stop."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # else it may add in another order each time
    config, last = replace(SMALL, late_share=0.6, **change), tmp_path / "last.pt"
    make = partial(Trainer, config, sample, device=device, precision=torch.float32)
    whole = make().run()
    for step in (3, 6, math.inf):
        part = make(callbacks=[Stop(step + 3), Save(last, 0)])
        if last.exists():
            take_up(last, part)
        with pytest.raises(InterruptedError) if step < 12 else nullcontext():
            part.run()
        assert load(last)["step"] == min(step, 12)
    torch.testing.assert_close(part.average.model.state_dict(), whole.average.model.state_dict(), rtol=0, atol=0)
    assert [row | {"seconds": 0} for row in whole.history] == [row | {"seconds": 0} for row in part.history]
    with pytest.raises(UsageError, match=r"learning_rate: 0\.002 there, 0\.5 here"):
        take_up(last, Trainer(replace(config, learning_rate=0.5), sample))


def test_checkpoints_hold_no_code_and_others_are_refused_in_a_sentence(sample, tmp_path, monkeypatch):
    """Among them what earlier versions left, and files that are cut off or not there."""
    last, model = tmp_path / "last.pt", tmp_path / "model.pt"
    trainer = Trainer(replace(SMALL, steps=1, optimiser="muon"), sample, callbacks=[Save(last)])
    assert run_in(tmp_path, trainer, resume=False).startswith("1 steps in ")
    state = torch.load(last, weights_only=True)  # refuses everything but tensors and plain values
    assert state["config"] == asdict(trainer.config)

    torch.save({"format": "srlib-1", "evil": os.system}, tmp_path / "evil.pt")
    (tmp_path / "half.pt").write_bytes(last.read_bytes()[:1000])
    for name, words in {"evil": r"\.pt: .*pickled code, which srlib never runs", "half": "", "none": ""}.items():
        with pytest.raises(UsageError, match=name + words) as refusal:
            load(tmp_path / f"{name}.pt")
        assert "weights_only" not in str(refusal.value)

    save(last, state | {"photos": "others"})
    with pytest.raises(UsageError, match=r"belongs to another training:\n  photos: 'others' there"):
        run_in(tmp_path, trainer, resume=True)
    state["optimisers"][0]["param_groups"].pop()  # as before kernels were grouped by shape
    save(last, state)
    with pytest.raises(UsageError, match=r"last\.pt: a training of another version"):
        run_in(tmp_path, trainer, resume=True)
    content = load(model)
    del content["config"]["validate_photos"]
    content["config"]["gone"] = 1
    save(model, content)
    assert torch.equal(weights(load_model(model)[0]), weights(trainer.average.model))
    content["config"]["model"] = "resnet"
    save(model, content)
    with pytest.raises(UsageError, match=r"model\.pt: a network of another version .*make it anew"):
        load_model(model)
    monkeypatch.setattr(torch, "save", Mock(side_effect=RuntimeError("unexpected pos 87936 vs 87824")))
    with pytest.raises(DataError, match=r"model\.pt cannot be written: is the disk full"):
        save(model, content)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_anything_is_saved(sample, tmp_path, kind):
    calls, measured = itertools.count(1), []

    def breaks(output, target):
        value = (output - target).square().mean()
        if next(calls) < 9:  # the last step before a row, after which all would be saved
            return value
        # a root at zero: 0 forward, infinity times 0 backward
        return value * math.nan if kind == "loss" else value + (output.sum() * 0).sqrt()

    watch = Measure(lambda model: measured.append(model) or {})
    with pytest.raises(FloatingPointError, match=f"the {kind} is not finite at step 9 .*try a tenth"):
        train(SMALL, sample, loss=breaks, callbacks=[watch, Save(tmp_path / "last.pt", 0)])
    assert load(tmp_path / "last.pt")["step"] == 6
    assert len(measured) == 2


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


def test_photos_take_their_room_before_a_batch_is_tried(sample):
    trainer = Trainer(SMALL, replace(sample))
    trainer.early.hold = True
    stop_if_too_large(trainer)
    assert [split for split, _ in trainer.early.store._held] == ["train"]


def test_length_in_minutes(sample):
    config = replace(SMALL, steps=None, minutes=0.02)
    last = train(config, sample).history[-1]
    assert 1.2 <= last["seconds"] < 60
    assert last["learning_rate"] < SMALL.learning_rate / 10
    resumed = Trainer(config, sample)
    resumed.world, resumed.step = 2, 90  # no step at which ranks agree on the clock
    for seconds in (0.9, 1.0):
        resumed.tick(seconds)
        assert resumed.share == 0.75, "known at once, and then not in every step"
