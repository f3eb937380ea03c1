"""The first cell of every page: parameters checked, claims decided by budget and data, the ledger."""

import json
from dataclasses import replace

import pytest
import torch

from course import page, results
from srlib import files
from srlib.errors import UsageError


@pytest.fixture
def open_page(tmp_path, monkeypatch):
    monkeypatch.delenv("SRLIB_BUDGET", raising=False)
    good = {"data": "sample", "budget": "smoke", "seed": 0, "device": "cpu", "runs": str(tmp_path)}
    return lambda **change: page.open_page("02_subpixel_cnn", **good | change)


def test_wrong_parameters_are_named(open_page, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value, message in (
        ("device", "cuda", "sees no cuda on this machine"),
        ("seed", -1, "SEED must be a whole number from 0 on, got -1"),
        ("seed", 1.5, "got 1.5"),
        ("data", "/no/such/folder", "/no/such/folder"),
    ):
        with pytest.raises(UsageError, match=message):
            open_page(**{name: value})


def test_the_environment_overrides_the_budget_and_forces_the_precision(open_page, monkeypatch, capsys):
    for name, value in (("BUDGET", "smoke"), ("PRECISION", "bfloat16")):
        monkeypatch.setenv(f"SRLIB_{name}", value)
    opened, out = open_page(budget="quick"), capsys.readouterr().out
    assert (opened.budget, opened.precision) == ("smoke", torch.bfloat16)
    assert replace(opened, store=None).precision == torch.bfloat16, "page 03 opens its page on other photos"
    assert "SRLIB_BUDGET is set: budget 'smoke' instead of 'quick'" in out
    for name, value in (("PRECISION", "half"), ("BUDGET", "tiny")):
        monkeypatch.setenv(f"SRLIB_{name}", value)
        with pytest.raises(UsageError, match=f"unknown {name.lower()} '{value}'"):
            open_page()


def test_values_and_claims_follow_the_budget_and_claims_the_photos(open_page, capsys):
    def claim(opened, holds):
        opened.claim("a above b", holds, "1 dB")
        return capsys.readouterr().out.splitlines()[-1]

    values = {"smoke": 1, "quick": 2, "full": 3}
    assert [open_page(budget=budget).pick(**values, study=4) for budget in page.BUDGETS] == [1, 2, 4, 3]
    assert open_page(budget="study").pick(**values) == 3
    assert claim(open_page(), False) == "a above b: not decided at smoke"
    quick = open_page(budget="quick")
    assert claim(quick, True) == "so in this run: a above b (1 dB)"
    with pytest.raises(AssertionError, match="a above b: 1 dB"):
        claim(quick, False)
    quick.data = "/somewhere"
    assert claim(quick, False) == "not so in this run: a above b (1 dB)"


def test_ledger_reaches_the_output(open_page, displayed):
    opened = open_page()
    for value in (1.0, torch.tensor(1.23456789)):  # the cell was run again
        opened.record("02.gain", value, "dB")
    opened.record("02.images", 9)
    with pytest.raises(ValueError, match=r"'03\.gain' must start with 02\."):
        opened.record("03.gain", 1.0)
    assert files.resolve("runs") == files.ROOT / "runs", "runs count from the repository"
    opened.summary()
    shown = displayed[0][0]
    ledger = {"02.gain": {"value": 1.234568, "unit": "dB"}, "02.images": {"value": 9, "unit": ""}}
    assert json.loads(json.dumps(shown[results.MIME])) == ledger
    assert "1.23 dB" in shown["text/plain"]
    assert "illustration" in shown["text/html"]
    assert displayed[1][0]["text/html"].startswith("<script>"), "the one that folds solutions"
