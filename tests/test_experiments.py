"""The cache of experiments: shared, keyed by what shapes a training, discarded by a recipe raised by hand."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trainings import weights

from srlib.data import open_store
from srlib.train import experiments
from srlib.train.config import TrainConfig
from srlib.train.experiments import experiment_key, train_once
from srlib.train.trainer import Trainer

RECORD = Path(__file__).with_name("recipe.json")
SMALL = TrainConfig(options={"width": 8, "depth": 1}, steps=6, batch_size=2, patch=32, validate_every=3, warmup=2)
HOW = {"device": torch.device("cpu"), "precision": torch.float32}


def test_experiments_are_shared_and_say_so(sample, tmp_path):
    said = []
    first, second = (train_once(SMALL, sample, tmp_path, **HOW, say=said.append) for _ in range(2))
    assert (first.reused, second.reused) == (False, True)
    assert torch.equal(weights(first.model), weights(second.model))
    assert first.history == second.history
    assert "trained 6 steps" in said[0]
    assert f"loaded from runs/experiments/{first.key}" in said[1]
    assert not train_once(SMALL, sample, tmp_path, fresh=math.inf, **HOW).reused
    assert train_once(SMALL, sample, tmp_path, fresh=time.time() - 60, **HOW).reused, "trained since then"


def weighted(weight):
    return lambda output, target: weight * (output - target).abs().mean()


def test_what_shapes_a_training_makes_another_key(sample, monkeypatch):
    def key(config=SMALL, precision=torch.float32, **more):
        return experiment_key(config, sample, precision, **more)

    start = {"weight": torch.zeros(2)}
    others = {
        key(replace(SMALL, seed=1)), key(replace(SMALL, options={"width": 8, "depth": 2})), key(init=start),
        key(init={"weight": torch.ones(2)}), key(loss=weighted(1.0)), key(loss=weighted(2.0)),
        key(precision=torch.bfloat16), key(measure=lambda model: {}),
    }  # fmt: skip
    assert len(others | {key()}) == 9
    assert key() == key()
    before = key()
    monkeypatch.setattr(experiments, "RECIPE", experiments.RECIPE + 1)
    assert key() != before


def test_an_interrupted_experiment_goes_on_and_measurements_are_kept(sample, tmp_path):
    """Ctrl-C between two rows: the next call ends it, with the weights of an undisturbed one."""
    whole = train_once(SMALL, sample, tmp_path / "whole", **HOW)
    calls = []

    def measure(model):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"largest": float(weights(model).max())}

    said, how = [], {"measure": measure, "save_seconds": 0, **HOW}
    with pytest.raises(KeyboardInterrupt):
        train_once(SMALL, sample, tmp_path, **how)
    resumed = train_once(SMALL, sample, tmp_path, **how, say=said.append)
    assert "went on with" in said[0]
    assert torch.equal(weights(whole.model), weights(resumed.model))
    again = train_once(SMALL, sample, tmp_path, **how)
    assert again.reused
    assert again.history == resumed.history
    assert all(row["largest"] > 0 for row in again.history)


RECIPES = {
    "residual, adam, mse": SMALL,
    "base, muon, charbonnier": replace(SMALL, model="base", options={}, optimiser="muon", loss="charbonnier"),
    "subpixel-bn-dropout, exponential": replace(SMALL, model="subpixel-bn-dropout", schedule="exponential"),
    "gray, lecture's LR, ssim": replace(SMALL, model="small", options={}, task="gray-gray", kernel="lecture",
                                        loss="ssim", late_patch=64),
}  # fmt: skip


def losses_of(config: TrainConfig) -> list[float]:
    return [row["loss"] for row in Trainer(config, open_store("sample"), precision=torch.float32).run().history]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_raised_when_a_training_gives_something_else(name):
    """Wide enough for any machine's float32, narrow against another draw, start, loss or step."""
    record = json.loads(RECORD.read_text())
    assert record["recipe"] == experiments.RECIPE, "RECIPE was raised: python tests/test_experiments.py"
    assert losses_of(RECIPES[name]) == pytest.approx(record["losses"][name], rel=2e-3), (
        "a training gives other weights than before: raise RECIPE in srlib/train/experiments.py, so that no page "
        "loads a network of the old kind, then renew the record: python tests/test_experiments.py"
    )


if __name__ == "__main__":
    losses = {name: losses_of(config) for name, config in RECIPES.items()}
    RECORD.write_text(json.dumps({"recipe": experiments.RECIPE, "losses": losses}, indent=1) + "\n")
