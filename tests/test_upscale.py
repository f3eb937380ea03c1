"""A photo through a network: tiles that nobody can see, whatever comes in, and no colour from nowhere."""

import re

import numpy as np
import pytest
import torch
from photo_files import as_tensor, network, noise, picture, save_checkpoint
from torch import nn

import srlib.upscale as package
from srlib import models
from srlib.data import open_store
from srlib.errors import UsageError
from srlib.images.degrade import upsample
from srlib.measure.evaluation import mean_psnr
from srlib.upscale import SHIPPED, load_network, upscale
from srlib.upscale.tiles import LEVELS, Enlarger, reach

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [("subpixel-bn-dropout", {}, (4, 5)), ("residual", {"scale": 2, "depth": 20}, (2, 42))],
)
def test_reach_is_the_receptive_field_whatever_the_weights(name, options, wanted):
    model = models.build(name, width=4, **options)
    for parameter in model.parameters():
        nn.init.constant_(parameter, -100)  # every ReLU is shut
    assert reach(model) == wanted


def test_a_network_that_sees_everything_cannot_be_tiled():
    class Bright(nn.Module):
        def forward(self, lr):
            return upsample(lr, 4) * lr.mean()

    with pytest.raises(UsageError, match="cannot be used in tiles"):
        reach(Bright())


@pytest.mark.parametrize("head", models.HEADS)
def test_tiled_equals_one_pass(head):
    torch.manual_seed(1)
    model = models.upscaler(3, 3, body="plain", width=8, depth=2, head=head, init="orthogonal").eval()
    enlarger = Enlarger(model, tile=19, device=CPU)
    for shape in ((41, 58, 3), (1, 40, 3), (3, 2, 3)):  # the last are smaller than the overlap
        pixels = noise(*shape)
        with torch.no_grad():
            whole = model(as_tensor(pixels))[0].clamp(0, 1).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(enlarger.array(pixels.astype(np.float32) / 255), whole, atol=2e-5)
        assert np.abs(enlarger.array(pixels).astype(int) - np.rint(255 * whole)).max() <= 1


@pytest.mark.parametrize("kind", ["per channel", "self-ensemble", "consistent", "gray", "alpha", "16 bits"])
def test_tiled_equals_one_pass_for(kind):
    model = models.PerChannel(network(task="gray-gray")) if kind == "per channel" else network()
    pixels = noise(37, 50, *{"gray": (), "alpha": (4,)}.get(kind, (3,)))
    pixels = pixels.astype(np.uint16) * 257 if kind == "16 bits" else pixels
    how = {"self_ensemble": kind == "self-ensemble", "consistent": kind == "consistent"}
    whole, tiled = (Enlarger(model, tile=tile, device=CPU, **how).array(pixels) for tile in (1000, 12))
    assert (whole.shape, whole.dtype) == ((148, 200, *pixels.shape[2:]), pixels.dtype)
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= 1


def test_self_ensemble_is_the_mean_of_eight():
    model, lr = network(), as_tensor(noise(9, 14, 3))
    with torch.no_grad():
        whole = models.SelfEnsemble(model)(lr)
    ours = upscale(lr, model, self_ensemble=True, device="cpu", tile=8)
    torch.testing.assert_close(ours, whole.clamp(0, 1), atol=2e-5, rtol=0)
    assert not torch.allclose(ours, upscale(lr, model, device="cpu"), atol=1e-4)


def test_photos_are_enlarged_in_exact_float32():
    allowed, model = [], models.Interpolation()
    model.register_forward_hook(lambda *_: allowed.append(torch.backends.cudnn.allow_tf32))
    upscale(noise(8, 8, 3), model, device="cpu")
    assert allowed[-1] is False
    assert torch.backends.cudnn.allow_tf32


def test_images_arrays_and_tensors_come_back_as_what_they_were():
    model = network().train()
    for mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        image = picture(mode, noise(10, 12, 3))
        enlarged, expected = (upscale(x, model, device="cpu") for x in (image, np.asarray(image)))
        assert (enlarged.mode, enlarged.size) == (mode, (48, 40))
        np.testing.assert_array_equal(np.asarray(enlarged), expected)
    pixels = noise(10, 12, 3)
    one = upscale(as_tensor(pixels)[0].double(), model, device="cpu")
    assert (one.shape, one.dtype) == ((3, 40, 48), torch.float64)
    batch = upscale(as_tensor(pixels).repeat(2, 1, 1, 1), model, device="cpu")
    torch.testing.assert_close(batch[1].double(), one)
    expected = upscale(pixels, model, device="cpu")
    np.testing.assert_array_equal((one * 255).round().permute(1, 2, 0).byte().numpy(), expected)
    assert upscale(as_tensor(pixels)[:, :1], network(scale=2), device="cpu").shape == (1, 1, 20, 24)
    assert model.training, "the given network stays as it was"


@pytest.mark.parametrize("image", ["photo.jpg", noise(8, 8, 5), noise(8), np.zeros((8, 8)), torch.zeros(8, 8),
                                   torch.zeros(3, 8, 8, dtype=torch.uint8), noise(0, 8, 3)])  # fmt: skip
def test_other_things_are_refused(image):
    with pytest.raises(UsageError, match="cannot enlarge"):
        upscale(image, network(), device="cpu")


def test_gray_through_both_kinds_of_networks():
    gray, model = noise(10, 12), network()
    with torch.no_grad():
        rgb = model(as_tensor(gray[..., None]).expand(-1, 3, -1, -1))[0].permute(1, 2, 0).numpy()
    luma = (rgb @ np.array([0.299, 0.587, 0.114])).clip(0, 1)
    assert np.abs(upscale(gray, model, device="cpu") - np.rint(255 * luma)).max() <= 1
    own = models.PerChannel(network(task="gray-gray"))
    three = upscale(np.repeat(gray[..., None], 3, axis=2), own, device="cpu")
    np.testing.assert_array_equal(upscale(gray, own, device="cpu"), three[..., 1])


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
def test_shipped_weights_score_what_their_table_says(name):
    table = (SHIPPED / "README.md").read_text(encoding="utf-8")
    written = re.search(rf"`{name}`.*\| ([\d.]+) dB \| ([\d.]+) dB \|", table).groups()
    photos = open_store("sample").photos("test", CPU)
    for model, value in zip((load_network(name)[0], models.Interpolation()), written):
        score = mean_psnr(model, photos, "rgb-rgb", kernel="bicubic", scale=4, device=CPU)
        assert score == pytest.approx(float(value), abs=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_hidden_colours_do_not_bleed(dtype):
    """A gray disc; under the transparency around it lies pure green, which bicubic alone would draw in."""
    top = LEVELS[np.dtype(dtype)]
    down, across = np.mgrid[:40, :30]
    disc = (down - 19.5) ** 2 + (across - 14.5) ** 2 < 100
    pixels = np.zeros((40, 30, 4), dtype)
    pixels[..., 1] = top
    pixels[disc] = (0.5 * top, 0.5 * top, 0.5 * top, top)
    enlarged = upscale(pixels, models.Interpolation(), tile=16, device="cpu")
    visible = enlarged[..., 3] > 0
    assert 0.2 < visible.mean() < 0.35
    np.testing.assert_allclose(enlarged[visible][:, :3] / top, 0.5, atol=0.003)
    alpha = upsample(torch.from_numpy(disc.astype(np.float64)), 4).clamp(0, 1).numpy()
    np.testing.assert_allclose(enlarged[..., 3] / top, alpha, atol=0.003)
