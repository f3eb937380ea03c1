"""The first cell of every page: parameters checked, claims decided by budget and data, the ledger."""

import json

import pytest
import torch

from course import page, results
from srlib import files
from srlib.errors import UsageError

GOOD = {"data": "sample", "budget": "smoke", "seed": 0, "device": "cpu"}


@pytest.fixture
def open_page(tmp_path, monkeypatch):
    monkeypatch.delenv("SRLIB_BUDGET", raising=False)
    return lambda **change: page.open_page("02_subpixel_cnn", **{**GOOD, "runs": str(tmp_path), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": "huge"}, "unknown budget 'huge': choose from smoke, quick, study, full"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"seed": -1}, "SEED must be a whole number from 0 on, got -1"),
        ({"seed": 1.5}, "SEED must be a whole number"),
        ({"data": "/no/such/folder"}, "/no/such/folder"),
        pytest.param({"device": "cuda"}, "sees no cuda on this machine",
                     marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(open_page, change, message):
    with pytest.raises(UsageError, match=message):
        open_page(**change)


def test_the_environment_overrides_the_budget_and_forces_the_precision(open_page, monkeypatch, capsys):
    monkeypatch.setenv("SRLIB_BUDGET", "smoke")
    monkeypatch.setenv("SRLIB_PRECISION", "bfloat16")
    opened = open_page(budget="quick")
    assert (opened.budget, opened.precision) == ("smoke", torch.bfloat16)
    out = capsys.readouterr().out
    assert "SRLIB_BUDGET is set: budget 'smoke' instead of 'quick'" in out
    assert "bfloat16 as asked" in out
    for name, value in (("PRECISION", "half"), ("BUDGET", "tiny")):
        monkeypatch.setenv(f"SRLIB_{name}", value)
        with pytest.raises(UsageError, match=f"unknown {name.lower()} '{value}'"):
            open_page()


def test_pick(open_page):
    values = {"smoke": 1, "quick": 2, "full": 3}
    opened = open_page(budget="study")
    assert opened.pick(**values) == 3
    assert opened.pick(**values, study=4) == 4
    assert [open_page(budget=b).pick(**values, study=4) for b in values] == [1, 2, 3]


def test_claims_are_asserted_where_training_was_long_enough(open_page, capsys):
    open_page(budget="smoke").claim("a above b", False, "0 dB")
    assert capsys.readouterr().out.endswith("a above b: not decided at smoke\n")
    quick = open_page(budget="quick")
    quick.claim("a above b", True, "1 dB")
    assert capsys.readouterr().out.endswith("so in this run: a above b (1 dB)\n")
    with pytest.raises(AssertionError, match="a above b: 0 dB"):
        quick.claim("a above b", False, "0 dB")
    quick.data = "/somewhere"  # other photos: reported, never asserted
    quick.claim("a above b", False, "0 dB")
    assert "not so in this run: a above b (0 dB)" in capsys.readouterr().out


def test_ledger_reaches_the_output(open_page, monkeypatch):
    opened = open_page()
    opened.record("02.gain", 1.0, "dB")
    opened.record("02.gain", torch.tensor(1.23456789), "dB")  # the cell was run again
    opened.record("02.images", 9)
    with pytest.raises(ValueError, match=r"'03\.gain' must start with 02\."):
        opened.record("03.gain", 1.0)
    assert files.resolve("runs") == files.ROOT / "runs", "runs count from the repository"
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append(data))
    opened.summary()
    ledger = {"02.gain": {"value": 1.234568, "unit": "dB"}, "02.images": {"value": 9, "unit": ""}}
    assert json.loads(json.dumps(shown[0][results.MIME])) == ledger
    assert "1.23 dB" in shown[0]["text/plain"]
    assert "illustration" in shown[0]["text/html"]
