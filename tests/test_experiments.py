"""The cache of experiments: shared, keyed by what shapes a training, discarded by a recipe raised by hand."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import weights

from srlib.data import open_store
from srlib.train import checkpoints
from srlib.train.checkpoints import experiment_key, train_once
from srlib.train.config import TrainConfig
from srlib.train.trainer import Trainer

RECORD = Path(__file__).with_name("recipe.json")
SMALL = TrainConfig(options={"width": 8, "depth": 1}, steps=6, batch_size=2, patch=32, validate_every=3, warmup=2)


def test_experiments_are_shared_and_say_so_and_an_interrupted_one_goes_on(sample, tmp_path):
    """Ctrl-C between two rows: the next call ends it, with the weights of an undisturbed one."""
    said, measured = [], []

    def measure(model):
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return {"largest": float(weights(model).max())}

    def trained(folder="whole", **how):
        how |= {"device": torch.device("cpu"), "precision": torch.float32, "say": said.append}
        return train_once(SMALL, sample, tmp_path / folder, **how)

    whole, again = trained(), trained()
    assert (whole.reused, again.reused, whole.history) == (False, True, again.history)
    assert not trained(fresh=math.inf).reused
    assert trained(fresh=time.time() - 60).reused, "trained since then"
    with pytest.raises(KeyboardInterrupt):
        trained("other", measure=measure, save_seconds=0)
    resumed, kept = (trained("other", measure=measure, save_seconds=0) for _ in "ab")
    assert (kept.reused, kept.history) == (True, resumed.history)
    assert [row["largest"] > 0 for row in kept.history] == [True, True]
    assert len(measured) == 3, "it went on: the first row was not measured again"
    for each in (again, resumed, kept):
        assert torch.equal(weights(whole.model), weights(each.model))
    loaded = f"loaded from runs/experiments/{whole.key}"
    told = ("trained 6 steps", loaded, "trained 6 steps", loaded, "went on with", "loaded")
    assert all(part in line for part, line in zip(told, said, strict=True))


def weighted(weight, factor=1.0, more=1.0):
    def loss(output, target, by=factor, *, again=more):
        return loss(output, output) + weight * (again * by * output - target).abs().mean()

    return loss


def test_what_shapes_a_training_makes_another_key(sample, monkeypatch):
    def key(*functions, config=SMALL, precision=torch.float32, init=None):
        return experiment_key(config, sample, precision, init, *functions)

    keys = {
        key(), key(),  # one and the same
        key(config=replace(SMALL, seed=1)), key(config=replace(SMALL, options={"width": 8, "depth": 2})),
        key(init={"weight": torch.zeros(2)}), key(init={"weight": torch.ones(2)}), key(precision=torch.bfloat16),
        key(weighted(1.0)), key(weighted(2.0)), key(weighted(1.0, 2.0)), key(weighted(1.0, more=2.0)),
        key(weighted(torch.zeros(2, dtype=torch.bfloat16))), key(weighted(torch.zeros(2))),
        key(weighted(torch.ones(1, 2))), key(weighted(torch.ones(2, 1))), key(None, lambda model: {}),
    }  # fmt: skip
    monkeypatch.setattr(checkpoints, "RECIPE", checkpoints.RECIPE + 1)
    assert len(keys | {key()}) == 16


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
    assert record["recipe"] == checkpoints.RECIPE, "RECIPE was raised: python tests/test_experiments.py"
    told = "other weights: raise RECIPE in srlib/train/checkpoints.py, then python tests/test_experiments.py"
    assert losses_of(RECIPES[name]) == pytest.approx(record["losses"][name], rel=2e-3), told


if __name__ == "__main__":
    losses = {name: losses_of(config) for name, config in RECIPES.items()}
    RECORD.write_text(json.dumps({"recipe": checkpoints.RECIPE, "losses": losses}, indent=1) + "\n")
