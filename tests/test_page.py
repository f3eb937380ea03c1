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
    ],
)
def test_wrong_parameters_are_named(open_page, change, message):
    with pytest.raises(UsageError, match=message):
        open_page(**change)


def test_missing_device_is_named(open_page):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match="device 'cuda' is not there"):
        open_page(device="cuda")


def test_environment_overrides_the_budget_and_says_so(open_page, monkeypatch, capsys):
    monkeypatch.setenv("SRLIB_BUDGET", "smoke")
    assert open_page(budget="quick").budget == "smoke"
    assert "SRLIB_BUDGET is set: budget 'smoke' instead of 'quick'" in capsys.readouterr().out
    monkeypatch.setenv("SRLIB_BUDGET", "tiny")
    with pytest.raises(UsageError, match="unknown budget 'tiny'"):
        open_page()


def test_pick(open_page):
    values = {"smoke": 1, "quick": 2, "full": 3}
    assert [open_page(budget=b).pick(**values) for b in values] == [1, 2, 3]


def test_claims_are_asserted_where_training_was_long_enough(open_page, capsys):
    open_page(budget="smoke").claim("a above b", False, "0 dB")
    assert capsys.readouterr().out.endswith("a above b: not decided at smoke\n")
    quick = open_page(budget="quick")
    quick.claim("a above b", True, "1 dB")
    assert capsys.readouterr().out.endswith("a above b: holds (1 dB)\n")
    with pytest.raises(AssertionError, match="a above b: 0 dB"):
        quick.claim("a above b", False, "0 dB")
    quick.data = "/somewhere"  # other photos: reported, never asserted
    quick.claim("a above b", False, "0 dB")
    assert "reported: does not hold (0 dB)" in capsys.readouterr().out


def test_ledger_reaches_the_output(open_page, monkeypatch):
    opened = open_page()
    opened.record("02.gain", 1.0, "dB")
    opened.record("02.gain", torch.tensor(1.23456789), "dB")  # the cell was run again
    opened.record("02.images", 9)
    with pytest.raises(ValueError, match=r"'03\.gain' must start with 02\."):
        opened.record("03.gain", 1.0)
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append(data))
    opened.summary()
    ledger = shown[0][results.MIME]
    assert json.loads(json.dumps(ledger)) == {
        "02.gain": {"value": 1.234568, "unit": "dB"},
        "02.images": {"value": 9, "unit": ""},
    }
    assert "1.23 dB" in shown[0]["text/plain"]
    assert "illustration" in shown[0]["text/html"]


def test_runs_count_from_the_repository(tmp_path):
    assert files.resolve("runs") == files.ROOT / "runs"
    assert files.resolve(tmp_path) == tmp_path


def test_precision_is_forced_from_outside_and_said(open_page, monkeypatch, capsys):
    monkeypatch.setenv("SRLIB_PRECISION", "bfloat16")
    assert open_page().precision == torch.bfloat16
    assert "bfloat16 as asked" in capsys.readouterr().out
    monkeypatch.setenv("SRLIB_PRECISION", "half")
    with pytest.raises(UsageError, match="unknown precision 'half'"):
        open_page()
