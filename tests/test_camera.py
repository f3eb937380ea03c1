"""Blur, noise and JPEG against SciPy and Pillow, and LR as a phone makes it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from srlib.data import Batches, open_store
from srlib.images import camera
from srlib.images.degrade import degrade
from srlib.measure.evaluation import mean_psnr
from srlib.measure.metrics import mse, to_decibel
from srlib.models import Interpolation


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Two photos whose sides are no multiples of 8, uint8."""
    return open_store("sample").tensor("val", limit=2)[..., :170, :149]


def through_pillow(photo: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    picture = Image.fromarray(photo.permute(1, 2, 0).numpy())
    picture.save(file, "JPEG", quality=quality, subsampling=2)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def decibels(x: Tensor, photos: Tensor) -> Tensor:
    return to_decibel(mse(x, photos / 255, crop_border=0, channels="as-is"))


def test_jpeg_is_that_of_pillow(photos: Tensor) -> None:
    qualities = [10, 40, 75, 95]
    ours = [camera.jpeg(photos / 255, quality) for quality in qualities]
    for quality, mine in zip(qualities, ours):
        theirs = torch.stack([through_pillow(photo, quality) for photo in photos])
        off = (255 * mine - theirs).abs()
        assert off.mean() < 1
        assert (off > 2).float().mean() < 0.1
        torch.testing.assert_close(decibels(mine, photos), decibels(theirs / 255, photos), atol=0.2, rtol=0)
    each = camera.jpeg(photos[[0, 0]] / 255, torch.tensor([10.0, 95.0]))  # a quality per picture
    assert torch.equal(each, torch.stack([ours[0][0], ours[-1][0]]))


def test_blur_is_that_of_scipy(photos: Tensor) -> None:
    x, sigmas = photos.double() / 255, (0.7, 2.0)
    blurred = camera.blur(x, torch.tensor(sigmas))
    for mine, photo, sigma in zip(blurred, x, sigmas):
        theirs = [gaussian_filter(plane, sigma, mode="nearest", radius=12) for plane in photo.numpy()]
        np.testing.assert_allclose(mine, theirs, atol=1e-7)
    torch.testing.assert_close(camera.blur(x, 0.0), x)


def test_noise_has_its_strength() -> None:
    gray = torch.full((2, 3, 64, 64), 0.5)
    torch.manual_seed(0)
    noisy = camera.noise(gray, torch.tensor([0.0, 0.1]))
    assert torch.equal(noisy[0], gray[0])
    assert float(noisy[1].std()) == pytest.approx(0.1, rel=0.03)


def test_real_lr_follows_the_generator_and_validation_is_the_same_each_time(photos: Tensor) -> None:
    store = open_store("sample")
    batches = Batches(store, "train", 4, 88, kernel="real")
    torch.manual_seed(1)
    (first, hr), (second, _) = batches.batch(0), batches.batch(0)
    torch.manual_seed(1)
    assert torch.equal(batches.batch(0)[0], first)
    assert not torch.equal(first, second)
    clean = degrade(hr, "bicubic", 4, round_lr=True)
    assert first.shape == clean.shape
    assert 15 < float(decibels(first, 255 * clean).min()) < 45
    how = {"scale": 4, "device": "cpu"}
    scores = [mean_psnr(Interpolation(), photos[..., :168, :148], "rgb-rgb", kernel="real", **how) for _ in "ab"]
    assert scores[0] == scores[1]
