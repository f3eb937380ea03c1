"""Colour and resampling against Pillow, scikit-image, PyTorch and MATLAB; round trips and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import color as skcolor
from skimage.transform import pyramid_reduce
from torch.nn import functional as F

from srlib.images import color
from srlib.images.degrade import degrade, degrade_matrix, least_norm, resize, resize_matrix, round_8bit, upsample
from srlib.images.tasks import pair
from srlib.measure import metrics

SET5 = Path(__file__).parents[2] / "shared" / "data" / "benchmarks" / "Set5"
PILLOW = {"nearest": Image.Resampling.BOX} | {  # enlarging, BOX shares a pixel where we choose one
    name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """A picture with every frequency in it, float64 in [0, 1]."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact(hr: torch.Tensor, kernel: str, scale: int) -> torch.Tensor:
    return degrade(hr, kernel, scale, round_lr=False)


def close(a, b, atol: float = 1e-12) -> None:
    torch.testing.assert_close(torch.as_tensor(a).double(), torch.as_tensor(b).double(), atol=atol, rtol=0)


def test_colours_are_those_of_pillow_and_scikit_image() -> None:
    rgb = (255 * noise(3, 40, 30)).round()
    picture = Image.fromarray(rgb.permute(1, 2, 0).byte().numpy())
    close(color.to_gray(rgb / 255)[0] * 255, np.array(picture.convert("L")), atol=0.51)  # Pillow rounds
    full = color.to_ycbcr(rgb / 255, limited=False).permute(1, 2, 0) * 255
    close(full, np.array(picture.convert("YCbCr")), atol=1.01)  # in whole numbers
    limited = color.to_ycbcr(rgb / 255, limited=True).permute(1, 2, 0) * 255
    close(limited, skcolor.rgb2ycbcr(np.asarray(picture)), atol=1e-3)  # its matrix has 3 decimals


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_ycbcr_there_and_back(seed: int, limited: bool) -> None:
    rgb = noise(2, 3, 5, 4, seed=seed)
    close(color.from_ycbcr(color.to_ycbcr(rgb, limited=limited), limited=limited), rgb)


def test_channels_saturation_and_errors() -> None:
    x = noise(2, 3, 8, 8)
    assert torch.equal(color.split_channels(x)[4, 0], x[1, 1])
    blue = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    both = color.saturation(torch.cat([x[:1, :1].expand(1, 3, 8, 8), blue]))
    close(both, [0.0, 255 * np.hypot(0.5, 0.114 / 1.402)], atol=1e-9)
    for call in (color.to_gray, lambda x: color.to_ycbcr(x, limited=True)):
        with pytest.raises(ValueError, match=r"must have shape \[\.\.\., 3, H, W\], got \(2, 1, 8, 8\)"):
            call(x[:, :1])


@pytest.mark.parametrize("interpolation", PILLOW)
def test_resize_is_pillows(interpolation: str) -> None:
    """Up and down, by whole numbers and others; on float pictures, so that nothing is rounded."""
    x = noise(44, 33)
    for size in [(11, 9), (20, 31), (48, 36), (176, 132), (97, 53)]:
        if interpolation != "nearest" or size < (44, 33):
            pillow = Image.fromarray(x.float().numpy()).resize(size[::-1], PILLOW[interpolation])
            close(resize(x, size, interpolation), np.array(pillow), atol=2e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(11, 9), (176, 132)])
def test_resize_is_pytorchs(mode: str, size: tuple[int, int]) -> None:
    """In its plain mode PyTorch repeats the border where we renormalise: the rim that this reaches is left out."""
    x = noise(1, 3, 44, 36)
    close(resize(x, size, mode), F.interpolate(x, size, mode=mode, antialias=True))
    rim = 2 * max(1, size[0] // 44)
    inside, ours = (..., slice(rim, -rim), slice(rim, -rim)), {"bicubic": "bicubic-0.75"}.get(mode, mode)
    theirs = F.interpolate(x, size, mode=mode, align_corners=False)
    close(resize(x, size, ours, antialias=False)[inside], theirs[inside])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kernels_are_those_of_their_libraries(scale: int) -> None:
    x = noise(48, 36)
    close(exact(x, "bicubic", scale), resize(x, (48 // scale, 36 // scale)))  # which is Pillow's
    close(exact(x, "area", scale), F.avg_pool2d(x[None], scale)[0])
    assert torch.equal(exact(x, "decimate", scale), x[scale // 2 :: scale, scale // 2 :: scale])
    assert torch.equal(upsample(x, scale, "nearest"), x.repeat_interleave(scale, -1).repeat_interleave(scale, -2))
    for shape in ((48, 36), (12, 12), (180, 180)):
        x = noise(*shape)
        close(exact(x, "lecture", scale), pyramid_reduce(x.numpy(), downscale=scale), atol=1e-9)


@pytest.mark.skipif(not SET5.is_dir(), reason="no Set5 in shared/data/benchmarks")
def test_bicubic_is_matlabs_up_to_its_rounding_and_scores_as_published() -> None:
    """MATLAB rounds between columns and rows; its border is mirrored, and left out. Scored is its LR enlarged."""
    gaps, scores = [], []
    for path in sorted((SET5 / "HR_x4").iterdir()):
        paths = path, SET5 / "LR_x4" / path.name.replace("_HR", "_LR")
        hr, lr = (torch.from_numpy(np.array(Image.open(p))).permute(2, 0, 1).double() / 255 for p in paths)
        rows, columns = (degrade_matrix(n, "bicubic", 4) for n in hr.shape[-2:])
        ours = degrade(hr, "bicubic", 4, round_lr=True), round_8bit(round_8bit(rows @ hr) @ columns.T)
        gaps.append([(255 * (x - lr)[:, 2:-2, 2:-2]).abs().round() for x in ours])
        output = round_8bit(upsample(lr[None], 4))
        psnr = metrics.psnr(output, hr[None], crop_border=4, channels="y", average="images")
        scores.append([psnr.item(), metrics.ssim(output, hr[None], crop_border=4, channels="y").item()])
    once, twice = ([float((gap > 0).double().mean()) for gap in of] for of in zip(*gaps))
    assert np.mean(once) < 0.12
    assert np.mean(twice) < 0.001
    assert max(float(gap.max()) for _, gap in gaps) <= 1
    assert (np.abs(np.mean(scores, axis=0) - (28.42, 0.8104)) < (0.02, 0.001)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 160), st.sampled_from([*PILLOW, "bicubic-0.75"]), st.booleans())
def test_every_row_sums_to_one_and_mirrors(size: int, new_size: int, interpolation: str, antialias: bool) -> None:
    """White stays white, and a mirrored picture gives the mirrored result."""
    a = resize_matrix(size, new_size, interpolation, antialias)
    assert a.shape == (new_size, size)
    close(a.sum(dim=1), torch.ones(new_size))
    if interpolation != "nearest":  # which must choose a side where a sample lies on the edge of two pixels
        close(a.flip(0, 1), a)


def test_rounding_is_to_the_nearest_level_and_explicit() -> None:
    x = 1.4 * noise(3, 64, 64) - 0.2
    rounded = round_8bit(x)
    assert (rounded.min(), rounded.max()) == (0, 1)
    assert (rounded - x.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-12
    assert torch.equal(round_8bit(rounded), rounded)
    photo = (255 * noise(2, 3, 16, 16)).byte()
    lr, hr = pair(photo, "bicubic", 4)
    raw, _ = pair(photo, "bicubic", 4, round_lr=False)
    assert lr.dtype == hr.dtype == torch.float32
    close(hr * 255, photo, atol=1e-4)
    close(round_8bit(raw), lr)
    assert not torch.equal(raw, lr)


def test_neither_autocast_nor_inference_mode_leaves_a_mark() -> None:
    x = noise(1, 3, 16, 16).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        inside = exact(x, "bicubic", 4)
    assert torch.equal(inside, exact(x, "bicubic", 4)), "autocast would blur a picture"
    with torch.inference_mode():
        upsample(torch.rand(1, 3, 17, 19), 2)
    upsample(noise(1, 3, 17, 19).float().requires_grad_(), 2).sum().backward()  # the kept matrix has a gradient


def test_errors_name_the_value_and_what_would_be_right() -> None:
    x = torch.zeros(1, 3, 18, 16)
    choices = "choose from bicubic, lecture, area, decimate"
    with pytest.raises(ValueError, match=f"unknown kernel 'bilinear': {choices}"):
        exact(x, "bilinear", 4)
    with pytest.raises(ValueError, match="18 pixels is no multiple of the scale 4: crop it first"):
        exact(x, "bicubic", 4)
    with pytest.raises(ValueError, match="unknown interpolation 'cubic': choose from nearest, bilinear"):
        resize(x, (8, 8), "cubic")
    with pytest.raises(ValueError, match="sizes must be at least 1, got 18 -> 0"):
        resize(x, (0, 8))


@pytest.mark.parametrize("kernel", ["bicubic", "area"])
def test_least_norm_shrinks_to_what_it_came_from_and_is_the_shortest_that_does(kernel: str) -> None:
    lr, reach = noise(1, 9, 20), 99 if kernel == "area" else 8
    hr = least_norm(lr, kernel, 4, reach)
    close(exact(hr, kernel, 4), lr, atol=1e-12 if kernel == "area" else 1e-4)
    rows, columns = (degrade_matrix(4 * side, kernel, 4) for side in lr.shape[-2:])
    close(hr, torch.linalg.pinv(rows) @ lr @ torch.linalg.pinv(columns).T, atol=1e-3)
    other = upsample(lr, 4)
    nearer = other + least_norm(lr - exact(other, kernel, 4), kernel, 4, 99)
    close(exact(nearer, kernel, 4), lr, atol=1e-10)
    assert nearer.norm() > hr.norm()
