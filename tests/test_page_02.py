"""Page 02's own definitions against the package's and PyTorch's."""

from dataclasses import replace

import pytest
import torch
from page_code import definitions
from torch import nn

from srlib import models
from srlib.data import open_store
from srlib.images.tasks import TASKS
from srlib.measure import metrics
from srlib.train.config import TrainConfig
from srlib.train.trainer import Trainer


@pytest.fixture(scope="module")
def page():
    return definitions("02_subpixel_cnn")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pixel_shuffle_and_its_inverse(page, scale):
    x = torch.randn(2, 3 * scale**2, 5, 6)
    shuffled = page.pixel_shuffle(x, scale)
    assert torch.equal(shuffled, nn.PixelShuffle(scale)(x))
    assert torch.equal(page.pixel_unshuffle(shuffled, scale), x)


def test_network_equals_the_packages(page):
    for task, (inside, outside) in TASKS.items():
        ours, theirs = page.SubPixelCNN(inside, outside), models.build("subpixel", task)
        ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values())))
        x = torch.rand(2, inside, 8, 9)
        torch.testing.assert_close(ours(x), theirs(x))


def test_psnr_equals_the_packages(page):
    output, target = torch.rand(2, 3, 16, 16).unbind()
    ours = metrics.psnr(output[None], target[None], crop_border=0, channels="as-is", average="images")
    assert page.psnr(output, target, 1.0) == pytest.approx(float(ours), abs=1e-5)
    assert page.psnr(255 * output, 255 * target, 255.0) == pytest.approx(float(ours), abs=1e-5)


def test_loop_by_hand_trains_the_packages_weights(page, tmp_path):
    config = TrainConfig(
        model="subpixel", options={"width": 8}, schedule="exponential", learning_rate=1e-2,
        final_learning_rate=1e-3, warmup=0, ema=0.0, clip=0.0, batch_size=4, patch=32, steps=30, seed=3,
    )  # fmt: skip
    store = open_store("sample", tmp_path)
    by_hand, losses = page.train_by_hand(config, store)
    result = Trainer(config, store, precision=torch.float32).run()
    for a, b in zip(by_hand.parameters(), result.average.model.parameters()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert sum(losses) / len(losses) == pytest.approx(result.history[-1]["loss"], rel=1e-5)
    other, _ = page.train_by_hand(replace(config, seed=4), store)
    assert any(not torch.equal(a, b) for a, b in zip(by_hand.parameters(), other.parameters()))


def test_receptive_field_of_known_networks(page):
    for layers, side in (([nn.Conv2d(3, 4, 3, padding=1)], 3), ([nn.Conv2d(3, 4, 5, padding=2)] * 1, 5)):
        network = nn.Sequential(*layers)
        field = page.receptive_field(network, size=15)
        rows = field.sum(dim=1).nonzero()
        assert int(rows.max() - rows.min()) + 1 == side


def test_rings_of_known_networks(page):
    lr = torch.rand(1, 3, 30, 30)
    nearest = models.Interpolation("nearest")
    assert page.rings(nearest, lr, [(12, 15), (9, 20)], reach=5).tolist() == [1, 0, 0, 0, 0, 0]
    even = nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.Upsample(scale_factor=4))
    nn.init.ones_(even[0].weight)
    assert page.rings(even, lr, [(12, 15)], reach=4).tolist() == pytest.approx([1, 1, 1, 0, 0])
