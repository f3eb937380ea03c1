"""A photo through a network: tiles that nobody can see, whatever comes in, and no colour from nowhere."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from photo_files import PORTRAITS, as_tensor, network, noise, save_checkpoint
from PIL import Image
from torch import nn

import srlib
from srlib import models
from srlib.upscale import enlarge as upscaling
from srlib.images.degrade import upsample
from srlib.errors import UsageError
from srlib.upscale.enlarge import Enlarger, cuts, reach

CPU = torch.device("cpu")

# ---------------------------------------------------------------- tiles


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (models.Interpolation("nearest"), 0),
        (models.Interpolation("bilinear"), 1),
        (models.Interpolation("bicubic"), 2),
        (models.Interpolation("lanczos"), 3),
        (models.build("subpixel"), 2 + 1 + 1 + 1),
        (models.build("subpixel-bn-dropout", width=8), 2 + 1 + 1 + 1),
        (models.build("residual", width=8, depth=3), 1 + 3 * 2 + 1),
        (models.build("residual", width=4, depth=20), 1 + 20 * 2 + 1),
        (models.PerChannel(models.build("residual", "gray-gray", width=8, depth=2)), 1 + 2 * 2 + 1),
    ],
)
def test_reach_is_the_receptive_field(model, wanted):
    assert reach(model) == wanted


def test_reach_does_not_depend_on_the_weights():
    model = models.build("subpixel", width=8)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, -100)  # every ReLU is shut
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert reach(model) == 5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_that_sees_everything_cannot_be_tiled():
    class Bright(nn.Module):
        def forward(self, lr):
            return upsample(lr, 4) * lr.mean()

    with pytest.raises(ValueError, match="cannot be used in tiles"):
        reach(Bright())


@pytest.mark.parametrize(("size", "most"), [(1, 256), (256, 256), (257, 256), (1000, 7), (6, 1)])
def test_cuts_cover_the_axis_evenly(size, most):
    parts = cuts(size, most)
    assert parts[0][0] == 0
    assert parts[-1][1] == size
    assert all(end == start for (_, end), (start, _) in pairwise(parts))
    lengths = [end - start for start, end in parts]
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("head", models.HEADS)
@pytest.mark.parametrize("body", ["plain", "residual"])
def test_tiled_equals_one_pass(head, body):
    torch.manual_seed(1)
    model = models.upscaler(3, 3, body=body, width=8, depth=2, head=head, init="orthogonal").eval()
    pixels = noise(41, 58, 3)
    with torch.no_grad():
        whole = model(as_tensor(pixels))[0].clamp(0, 1).permute(1, 2, 0).numpy()
    enlarger = Enlarger(model, tile=13, device=CPU)
    tiled = enlarger.array(pixels.astype(np.float32) / 255)
    np.testing.assert_allclose(tiled, whole, atol=2e-5)
    levels = np.abs(enlarger.array(pixels).astype(int) - np.rint(255 * whole))
    assert levels.max() <= 1
    assert (levels > 0).mean() < 1e-3  # only where rounding tips over


@pytest.mark.parametrize("kind", ["per channel", "self-ensemble", "both", "gray", "alpha", "16 bits"])
def test_tiled_equals_one_pass_for(kind):
    task = "gray-gray" if kind in ("per channel", "both") else "rgb-rgb"
    model = network(task=task)
    model = models.PerChannel(model) if task == "gray-gray" else model
    pixels = {"gray": noise(37, 50), "alpha": noise(37, 50, 4)}.get(kind, noise(37, 50, 3))
    pixels = pixels.astype(np.uint16) * 257 if kind == "16 bits" else pixels
    options = {"device": CPU, "self_ensemble": kind in ("self-ensemble", "both")}
    whole = Enlarger(model, tile=1000, **options).array(pixels)
    assert whole.shape == (148, 200, *pixels.shape[2:])
    assert whole.dtype == pixels.dtype
    for tile in (7, 20, 37):
        tiled = Enlarger(model, tile=tile, **options).array(pixels)
        assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (3, 2, 3)])
def test_a_photo_smaller_than_the_overlap(shape):
    model, pixels = network(), noise(*shape)
    with torch.no_grad():
        whole = model(as_tensor(pixels))[0].clamp(0, 1).permute(1, 2, 0).numpy()
    tiled = Enlarger(model, tile=2, device=CPU).array(pixels.astype(np.float32) / 255)
    np.testing.assert_allclose(tiled, whole, atol=2e-5)


def test_self_ensemble_is_the_mean_of_eight():
    model, pixels = network(), noise(9, 14, 3)
    with torch.no_grad():
        whole = models.SelfEnsemble(model)(as_tensor(pixels))
    ours = srlib.upscale(as_tensor(pixels), model, self_ensemble=True, device="cpu", tile=8)
    torch.testing.assert_close(ours, whole.clamp(0, 1), atol=2e-5, rtol=0)
    assert not torch.allclose(ours, srlib.upscale(as_tensor(pixels), model, device="cpu"), atol=1e-4)


# ---------------------------------------------------------------- srlib.upscale


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_an_image_keeps_its_mode(mode):
    image = Image.fromarray(noise(10, 12, 4)).convert(mode if mode != "I;16" else "L")
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image
    enlarged = srlib.upscale(image, network(), device="cpu")
    assert enlarged.mode == mode
    assert enlarged.size == (48, 40)
    array = srlib.upscale(np.asarray(image), network(), device="cpu")
    if mode not in ("LA", "RGBA"):
        np.testing.assert_array_equal(np.asarray(enlarged), array)


def test_arrays_and_tensors_come_back_as_what_they_were():
    pixels, model = noise(10, 12, 3), network()
    expected = Image.fromarray(srlib.upscale(pixels, model, device="cpu"))
    assert expected.size == (48, 40)
    one = srlib.upscale(as_tensor(pixels)[0].double(), model, device="cpu")
    assert (one.shape, one.dtype) == ((3, 40, 48), torch.float64)
    batch = srlib.upscale(as_tensor(pixels).repeat(2, 1, 1, 1), model, device="cpu")
    torch.testing.assert_close(batch[1].double(), one)
    np.testing.assert_array_equal((one * 255).round().permute(1, 2, 0).byte().numpy(), np.asarray(expected))
    assert srlib.upscale(pixels[..., 0], model, device="cpu").shape == (40, 48)
    assert srlib.upscale(as_tensor(pixels)[:, :1], model, device="cpu").shape == (1, 1, 40, 48)


@pytest.mark.parametrize("image", ["photo.jpg", noise(8, 8, 5), noise(8), np.zeros((8, 8)), torch.zeros(8, 8),
                                   torch.zeros(3, 8, 8, dtype=torch.uint8), noise(0, 8, 3)])  # fmt: skip
def test_other_things_are_refused(image):
    with pytest.raises(UsageError, match="cannot enlarge"):
        srlib.upscale(image, network(), device="cpu")


def test_the_given_network_stays_as_it_was():
    model = network().train().requires_grad_(True)
    srlib.upscale(noise(8, 8, 3), model, device="cpu")
    assert model.training
    assert next(model.parameters()).requires_grad
    assert torch.is_grad_enabled()


def test_gray_through_both_kinds_of_networks():
    gray = noise(10, 12)
    model = network()
    with torch.no_grad():
        rgb = model(as_tensor(gray[..., None]).expand(-1, 3, -1, -1))[0].permute(1, 2, 0).numpy()
    luma = (rgb @ np.array([0.299, 0.587, 0.114])).clip(0, 1)
    assert np.abs(srlib.upscale(gray, model, device="cpu") - np.rint(255 * luma)).max() <= 1
    own = models.PerChannel(network(task="gray-gray"))
    three = srlib.upscale(np.repeat(gray[..., None], 3, axis=2), own, device="cpu")
    np.testing.assert_array_equal(srlib.upscale(gray, own, device="cpu"), three[..., 1])


def test_names_mean_own_weights_before_shipped_ones(tmp_path, monkeypatch):
    runs, shipped = tmp_path / "runs", tmp_path / "weights"
    monkeypatch.setattr(upscaling, "SHIPPED", shipped)
    for name in ("small", "base"):
        save_checkpoint(shipped / f"{name}.pt")
    assert upscaling.find_weights("base", runs) == shipped / "base.pt"
    for name in ("base", "v1.2"):
        save_checkpoint(runs / name / "model.pt")
        assert upscaling.find_weights(name, runs) == runs / name / "model.pt"
    with pytest.raises(
        UsageError,
        match=r"no model 'huge': choose one shipped \(base, small\), one in .*runs \(base, v1.2\), or a file",
    ):
        upscaling.find_weights("huge", runs)
    assert srlib.upscale(noise(8, 8, 3), "small", runs=runs, device="cpu").shape == (32, 32, 3)
    assert srlib.upscale(noise(8, 8, 3), shipped / "small.pt", device="cpu").shape == (32, 32, 3)
    with pytest.raises(UsageError, match="no such checkpoint"):
        srlib.upscale(noise(8, 8, 3), tmp_path / "none.pt", device="cpu")


def test_networks_for_other_purposes_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"gray-rgb network invents colours.*rgb-rgb or gray-gray"):
        upscaling.load_network(save_checkpoint(tmp_path / "a.pt", "gray-rgb"))
    with pytest.raises(UsageError, match="enlarges 2 times"):
        upscaling.load_network(save_checkpoint(tmp_path / "b.pt", scale=2))
    gray, about = upscaling.load_network(save_checkpoint(tmp_path / "c.pt", "gray-gray"))
    assert isinstance(gray, models.PerChannel)
    assert about.startswith("residual gray-gray, ")


@pytest.mark.parametrize("name", ["small", "base"])
def test_shipped_weights_enlarge_a_photo_better_than_bicubic(name):
    if not (upscaling.SHIPPED / f"{name}.pt").exists():
        pytest.skip(f"no weights of {name} in the package")
    if not PORTRAITS.is_dir():
        pytest.skip("no portraits to try it on")
    gains = []
    for path in sorted(PORTRAITS.glob("*.jpg"))[::40]:
        image = Image.open(path).convert("RGB")
        image = image.crop((0, 0, image.width // 4 * 4, image.height // 4 * 4))
        small = image.resize((image.width // 4, image.height // 4), Image.Resampling.BICUBIC)
        ours = srlib.upscale(small, upscaling.SHIPPED / f"{name}.pt", device="cpu")
        bicubic = small.resize(image.size, Image.Resampling.BICUBIC)
        ours, bicubic = (np.square(np.asarray(x, float) - np.asarray(image)).mean() for x in (ours, bicubic))
        gains.append(10 * np.log10(bicubic / ours))
    assert np.mean(gains) > 0.3, gains


# ---------------------------------------------------------------- transparency


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_hidden_colours_do_not_bleed(dtype):
    """A gray disc; under the transparency around it lies pure green, which bicubic alone would draw in."""
    top = upscaling.LEVELS[np.dtype(dtype)]
    down, across = np.mgrid[:40, :30]
    disc = (down - 19.5) ** 2 + (across - 14.5) ** 2 < 100
    pixels = np.zeros((40, 30, 4), dtype)
    pixels[..., 1] = top
    pixels[disc] = (0.5 * top, 0.5 * top, 0.5 * top, top)
    enlarged = srlib.upscale(pixels, models.Interpolation(), tile=16, device="cpu")
    visible = enlarged[..., 3] > 0
    assert 0.2 < visible.mean() < 0.35
    np.testing.assert_allclose(enlarged[visible][:, :3] / top, 0.5, atol=0.003)
    alpha = upsample(torch.from_numpy(disc.astype(np.float64)), 4).clamp(0, 1).numpy()
    np.testing.assert_allclose(enlarged[..., 3] / top, alpha, atol=0.003)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (37, 5), (300, 3)])
def test_filling_takes_any_shape(shape):
    pixels = np.full((*shape, 2), (77, 0), np.uint8)
    pixels[-1, -1] = (200, 9)
    filled = upscaling.fill_transparent(pixels)
    assert (filled[..., 0] == 200).all()


def test_filling_takes_the_nearest_colours_and_leaves_visible_ones():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :20] = (200, 10, 10, 255)
    pixels[:, 44:] = (10, 10, 200, 3)
    filled = upscaling.fill_transparent(pixels)
    visible = pixels[..., 3] > 0
    np.testing.assert_array_equal(filled[visible], pixels[visible])
    np.testing.assert_array_equal(filled[..., 3], pixels[..., 3])
    assert (filled[:, 20:24, 0] > 190).all()
    assert (filled[:, 40:44, 2] > 190).all()
    for alpha in (0, 255):
        even = np.full((5, 7, 4), alpha, np.uint8)
        assert upscaling.fill_transparent(even) is even


def test_an_opaque_picture_stays_opaque():
    pixels = noise(20, 30, 4)
    pixels[..., 3] = 255
    enlarged = srlib.upscale(pixels, network(), device="cpu", tile=16)
    assert (enlarged[..., 3] == 255).all()
    np.testing.assert_array_equal(
        enlarged[..., :3], srlib.upscale(pixels[..., :3], network(), device="cpu", tile=16)
    )
