"""A photo through a network: tiles that nobody can see, whatever comes in, and no colour from nowhere."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from photo_files import as_tensor, network, noise, picture, save_checkpoint
from torch import nn

import srlib.upscale as package
from srlib import models
from srlib.errors import UsageError
from srlib.images.degrade import upsample
from srlib.measure.evaluation import mean_psnr
from srlib.models.networks import Consistent
from srlib.upscale import LEVELS, SHIPPED, Enlarger, load_network, reach

CPU = torch.device("cpu")
upscale = partial(package.upscale, device="cpu")


def test_reach_is_the_receptive_field_whatever_the_weights():
    networks = models.build("subpixel-bn-dropout", width=4), models.build("residual", scale=2, width=4, depth=20)
    for model, wanted in zip(networks, ((4, 5), (2, 42))):
        for parameter in model.parameters():
            nn.init.constant_(parameter, -100)  # every ReLU is shut
        assert reach(model) == wanted
    with pytest.raises(UsageError, match="cannot be used in tiles"):
        reach(nn.Sequential(models.Interpolation(), nn.InstanceNorm2d(3)))  # sees everything


WRAPPED = {"self_ensemble": models.SelfEnsemble, "consistent": Consistent}


@pytest.mark.parametrize("kind", [*models.HEADS, *WRAPPED, "per channel"])
def test_tiled_equals_one_pass(kind):
    torch.manual_seed(1)
    channels, head = 1 if kind == "per channel" else 3, {"head": kind} if kind in models.HEADS else {}
    model = models.upscaler(channels, channels, body="plain", width=8, depth=2, init="orthogonal", **head).eval()
    model = models.PerChannel(model) if kind == "per channel" else model
    wrapped = WRAPPED.get(kind, nn.Sequential)(model)
    enlarger = Enlarger(model, tile=19, device="cpu", **{option: option == kind for option in WRAPPED})
    for shape in ((41, 58, 3), (1, 40, 3), (3, 2, 3)):  # the last are smaller than the overlap
        pixels = noise(*shape)
        with torch.no_grad():
            whole = wrapped(as_tensor(pixels))[0].clamp(0, 1).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(enlarger.array(pixels.astype(np.float32) / 255), whole, atol=2e-5)
        assert np.abs(enlarger.array(pixels).astype(int) - np.rint(255 * whole)).max() <= 1


def test_images_arrays_and_tensors_come_back_as_what_they_were():
    model = network().train()
    for mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        image = picture(mode, noise(10, 12, 3))
        enlarged, tiled = upscale(image, model), upscale(np.asarray(image), model, tile=5)
        assert (enlarged.mode, enlarged.size, tiled.dtype) == (mode, (48, 40), np.asarray(image).dtype)
        assert np.abs(np.asarray(enlarged, int) - tiled).max() <= 1
    pixels = noise(10, 12, 3)
    expected = upscale(pixels, model).astype(int)
    batch = upscale(as_tensor(pixels).repeat(2, 1, 1, 1), model)
    one = upscale(as_tensor(pixels)[0].double(), model)
    assert (one.dtype, batch.dtype) == (torch.float64, torch.float32)
    for image in (one, *batch):
        np.testing.assert_array_equal((image * 255).round().permute(1, 2, 0), expected)
    for option in WRAPPED:
        assert np.abs(upscale(pixels, model, **{option: True}) - expected).max() > 1
    assert upscale(as_tensor(pixels)[:, :1], network(scale=2)).shape == (1, 1, 20, 24)
    assert model.training, "the given network stays as it was"


@pytest.mark.parametrize("image", ["photo.jpg", noise(8, 8, 5), noise(8), np.zeros((8, 8)), torch.zeros(8, 8),
                                   torch.zeros(3, 8, 8, dtype=torch.uint8), noise(0, 8, 3)])  # fmt: skip
def test_other_things_are_refused(image):
    with pytest.raises(UsageError, match="cannot enlarge"):
        upscale(image, network())


def test_gray_through_both_kinds_of_networks():
    gray, model = noise(10, 12), network()
    with torch.no_grad():
        rgb = model(as_tensor(gray[..., None]).expand(-1, 3, -1, -1))[0].permute(1, 2, 0).numpy()
    luma = (rgb @ np.array([0.299, 0.587, 0.114])).clip(0, 1)
    assert np.abs(upscale(gray, model) - np.rint(255 * luma)).max() <= 1
    own = models.PerChannel(network("gray-gray"))
    three = upscale(np.repeat(gray[..., None], 3, axis=2), own)
    np.testing.assert_array_equal(upscale(gray, own), three[..., 1])


def test_names_mean_own_weights_before_shipped_ones(tmp_path, monkeypatch):
    runs, shipped = tmp_path / "runs", tmp_path / "weights"
    monkeypatch.setattr(package, "SHIPPED", shipped)
    for path in (shipped / "base.pt", runs / "base" / "model.pt", runs / "v1.2" / "model.pt"):
        save_checkpoint(path)
        assert load_network("v1.2" if "v1.2" in str(path) else "base", runs)[1].endswith(str(path))
    with pytest.raises(UsageError, match=r"choose one shipped \(base\), one in .*runs \(base, v1.2\), or a file"):
        load_network("huge", runs)
    with pytest.raises(UsageError, match=r"gray-rgb network invents colours.*rgb-rgb or gray-gray"):
        load_network(save_checkpoint(tmp_path / "a.pt", "gray-rgb"))
    assert isinstance(load_network(save_checkpoint(tmp_path / "c.pt", "gray-gray"))[0], models.PerChannel)


@pytest.mark.parametrize("name", ["small", "base", "base-real"])
def test_shipped_weights_score_what_their_table_says(sample, name):
    table = (SHIPPED / "README.md").read_text(encoding="utf-8")
    written = re.search(rf"`{name}`.*\| ([\d.]+) dB \| ([\d.]+) dB \|", table).groups()
    for model, value in zip((load_network(name)[0], models.Interpolation()), written):
        score = mean_psnr(model, sample.photos("test"), "rgb-rgb", kernel="bicubic", scale=4, device=CPU)
        assert score == pytest.approx(float(value), abs=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_hidden_colours_do_not_bleed(dtype):
    """Gray beside transparency, under which lies pure green, which bicubic alone would draw in."""
    top = LEVELS[np.dtype(dtype)]
    pixels = np.zeros((40, 30, 4), dtype)
    pixels[:, :15], pixels[:, 15:, 1] = (0.5 * top, 0.5 * top, 0.5 * top, top), top
    enlarged = upscale(pixels, models.Interpolation(), tile=16) / top
    alpha = upsample(torch.from_numpy(pixels[..., 3] / top), 4).clamp(0, 1)
    np.testing.assert_allclose(enlarged[..., 3], alpha, atol=0.003)
    np.testing.assert_allclose(enlarged[enlarged[..., 3] > 0][:, :3], 0.5, atol=0.003)
