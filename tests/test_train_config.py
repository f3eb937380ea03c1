"""The config: every field checked where it is made, every field an option; precision; the schedule."""

import argparse
import math
from dataclasses import fields, replace
from typing import get_args, get_type_hints

import pytest
import torch

from srlib import commands
from srlib.commands import train as command
from srlib.device import choose_precision
from srlib.errors import UsageError
from srlib.train.config import MODEL_OPTIONS, TrainConfig, learning_rate


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


def test_every_field_and_every_option_of_a_network_is_an_option_of_train():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = {action.dest for action in parser._actions}
    assert {entry.name for entry in fields(TrainConfig)} - options == {"options"}
    assert options >= set(MODEL_OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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
    ],
)
def test_train_answers_bad_input_in_one_sentence(arguments, message, tmp_path, capsys):
    assert commands.main(["train", "--out", str(tmp_path / "out"), *arguments.split()]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("change", [{"steps": None}, {"options": {"widht": 8}}])
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
