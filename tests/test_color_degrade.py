"""Colour and downscaling against Pillow, scikit-image, PyTorch and MATLAB; round trips; errors; properties."""

from collections.abc import Iterator
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
from srlib.measure import metrics
from srlib.images.degrade import (
    INTERPOLATIONS,
    KERNELS,
    degrade,
    degrade_matrix,
    pair,
    resize,
    resize_matrix,
    round_8bit,
    upsample,
)

SHARED = Path(__file__).parents[2] / "shared" / "data"
PILLOW = {
    "nearest": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """A picture with every frequency in it, float64 in [0, 1]."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, atol: float = 1e-6) -> None:
    torch.testing.assert_close(torch.as_tensor(a).double(), torch.as_tensor(b).double(), atol=atol, rtol=0)


# ---------------------------------------------------------------- colour


def test_gray_is_pillows_before_rounding() -> None:
    rgb = (255 * noise(3, 40, 30)).round()
    pillow = np.array(Image.fromarray(rgb.permute(1, 2, 0).byte().numpy()).convert("L"))
    close(color.to_gray(rgb / 255)[0] * 255, pillow, atol=0.51)  # half a level: Pillow rounds


def test_limited_ycbcr_is_scikit_images() -> None:
    rgb = noise(3, 20, 30)
    ours = color.to_ycbcr(rgb, limited=True).permute(1, 2, 0) * 255
    close(ours, skcolor.rgb2ycbcr(rgb.permute(1, 2, 0).numpy()), atol=1e-3)  # its matrix has 3 decimals


def test_full_range_ycbcr_is_pillows() -> None:
    rgb = (255 * noise(3, 40, 30)).round()
    pillow = np.array(Image.fromarray(rgb.permute(1, 2, 0).byte().numpy()).convert("YCbCr"))
    ours = color.to_ycbcr(rgb / 255, limited=False).permute(1, 2, 0) * 255
    close(ours, pillow, atol=1.01)  # Pillow works in whole numbers


@pytest.mark.parametrize(
    ("rgb", "limited"),
    [((0, 0, 0), (16, 128, 128)), ((1, 1, 1), (235, 128, 128)), ((0, 0, 1), (40.966, 240, 109.786))],
)
def test_ycbcr_of_known_colours(rgb: tuple, limited: tuple) -> None:
    ours = color.to_ycbcr(torch.tensor(rgb).double().view(3, 1, 1), limited=True).flatten() * 255
    close(ours, torch.tensor(limited), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_ycbcr_there_and_back(seed: int, limited: bool) -> None:
    rgb = noise(2, 3, 5, 4, seed=seed)
    close(color.from_ycbcr(color.to_ycbcr(rgb, limited=limited), limited=limited), rgb, atol=1e-12)


def test_split_and_merge() -> None:
    x = noise(2, 3, 5, 4)
    split = color.split_channels(x)
    assert split.shape == (6, 1, 5, 4)
    assert torch.equal(split[4, 0], x[1, 1])
    assert torch.equal(color.merge_channels(split), x)


def test_saturation() -> None:
    gray = noise(1, 1, 8, 8).expand(1, 3, 8, 8)
    blue = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    both = color.saturation(torch.cat([gray, blue]))
    close(both, [0.0, 255 * np.hypot(0.5, 0.114 / 1.402)], atol=1e-9)


@pytest.mark.parametrize("call", [color.to_gray, lambda x: color.to_ycbcr(x, limited=True)])
def test_colour_needs_three_channels(call) -> None:
    with pytest.raises(ValueError, match=r"must have shape \[\.\.\., 3, H, W\], got \(1, 4, 4\)"):
        call(torch.zeros(1, 4, 4))


def test_merge_needs_whole_pictures() -> None:
    with pytest.raises(ValueError, match="multiple of 3 pictures of one channel"):
        color.merge_channels(torch.zeros(4, 1, 2, 2))


# ---------------------------------------------------------------- against the libraries that define the kernels


DOWN, UP = [(11, 9), (20, 31)], [(48, 36), (176, 132), (97, 53)]


@pytest.mark.parametrize(
    ("interpolation", "size"),
    # enlarging, Pillow's BOX shares a pixel between two where "nearest" has to choose one
    [(name, size) for name in PILLOW for size in (DOWN if name == "nearest" else DOWN + UP)],
)
def test_resize_is_pillows(interpolation: str, size: tuple[int, int]) -> None:
    """Up and down, by whole numbers and others; on float pictures, so that nothing is rounded."""
    x = noise(44, 33)
    pillow = Image.fromarray(x.float().numpy()).resize(size[::-1], PILLOW[interpolation])
    close(resize(x, size, interpolation), np.array(pillow), atol=2e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(11, 9), (176, 132)])
def test_resize_is_pytorchs_antialiased(mode: str, size: tuple[int, int]) -> None:
    x = noise(1, 3, 44, 36)
    close(resize(x, size, mode), F.interpolate(x, size, mode=mode, antialias=True), atol=1e-12)


@pytest.mark.parametrize(("mode", "ours"), [("bilinear", "bilinear"), ("bicubic", "bicubic-0.75")])
@pytest.mark.parametrize("size", [(11, 9), (176, 132)])
def test_resize_is_pytorchs_plain_mode_inside(mode: str, ours: str, size: tuple[int, int]) -> None:
    """PyTorch repeats the border where we renormalise: the rim that its kernel reaches is left out."""
    x = noise(1, 3, 44, 36)
    rim = 2 * max(1, size[0] // 44)
    inside = (..., slice(rim, -rim), slice(rim, -rim))
    theirs = F.interpolate(x, size, mode=mode, align_corners=False)
    close(resize(x, size, ours, antialias=False)[inside], theirs[inside], atol=1e-12)


def test_nearest_enlarges_by_copies() -> None:
    x = noise(2, 3, 5, 6)
    assert torch.equal(upsample(x, 4, "nearest"), x.repeat_interleave(4, -1).repeat_interleave(4, -2))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_pillows(scale: int) -> None:
    x = noise(48, 36)
    pillow = Image.fromarray(x.float().numpy()).resize((36 // scale, 48 // scale), Image.Resampling.BICUBIC)
    close(degrade(x, "bicubic", scale, round_lr=False), np.array(pillow), atol=2e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shape", [(48, 36), (12, 12), (180, 180)])
def test_lecture_is_scikit_images_pyramid(scale: int, shape: tuple[int, int]) -> None:
    x = noise(*shape)
    close(degrade(x, "lecture", scale, round_lr=False), pyramid_reduce(x.numpy(), downscale=scale), atol=1e-9)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_area_is_the_mean_of_blocks(scale: int) -> None:
    x = noise(1, 3, 48, 36)
    close(degrade(x, "area", scale, round_lr=False), F.avg_pool2d(x, scale), atol=1e-12)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_decimate_takes_pixels(scale: int) -> None:
    x = noise(3, 24, 36)
    assert torch.equal(
        degrade(x, "decimate", scale, round_lr=False), x[:, scale // 2 :: scale, scale // 2 :: scale]
    )


@pytest.mark.parametrize("folder", ["Set5", "Set14"])
def test_bicubic_is_matlabs_up_to_its_rounding(folder: str, record_property) -> None:
    """MATLAB shrinks the columns first, rounds to 8 bits, and then shrinks the rows: done so, ours is the same.

    Rounded once, as here and in Pillow, about a tenth of the pixels differ by a level. The outermost two LR
    pixels are left out: there MATLAB mirrors the picture and we renormalise the weights.
    """
    inside = (..., slice(2, -2), slice(2, -2))
    once, twice = [], []
    for hr, lr in _benchmark(folder):
        rows, columns = (degrade_matrix(n, "bicubic", 4) for n in hr.shape[-2:])
        stepwise = round_8bit(round_8bit(rows @ hr) @ columns.T)
        once.append((255 * (degrade(hr, "bicubic", 4, round_lr=True) - lr)[inside]).abs().round())
        twice.append((255 * (stepwise - lr)[inside]).abs().round())
    shares = [float(torch.stack([(gap > 0).double().mean() for gap in gaps]).mean()) for gaps in (once, twice)]
    record_property("share of LR pixels that differ from MATLAB's, rounded once and twice", shares)
    print(f"{folder}: {shares[0]:.2%} of LR pixels differ from MATLAB's, {shares[1]:.3%} with its rounding")
    assert shares[0] < 0.12
    assert shares[1] < 0.001
    assert max(float(gap.max()) for gap in twice) <= 1


@pytest.mark.parametrize(("folder", "psnr", "ssim"), [("Set5", 28.42, 0.8104), ("Set14", 26.00, None)])
def test_bicubic_scores_as_published(folder: str, psnr: float, ssim: float | None) -> None:
    """Limited-range luma, 4 pixels cropped, from MATLAB's LR; Set14's gray picture is scored as it is."""
    table = []
    for hr, lr in _benchmark(folder):
        hr, lr = hr[None], lr[None]
        output = round_8bit(upsample(lr, 4))
        options = {"crop_border": 4, "channels": "y" if hr.shape[1] == 3 else "as-is"}
        table.append(
            [
                metrics.psnr(output, hr, average="images", **options).item(),
                metrics.ssim(output, hr, **options).item(),
            ]
        )
    means = np.mean(table, axis=0)
    assert means[0] == pytest.approx(psnr, abs=0.02)
    if ssim is not None:
        assert means[1] == pytest.approx(ssim, abs=0.001)


def _benchmark(folder: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The pairs ``(hr, lr)`` of Set5 or Set14, float64 in [0, 1], LR made by MATLAB."""
    where = SHARED / "benchmarks" / folder
    if not where.is_dir():
        pytest.skip(f"no {folder} in shared/data/benchmarks")
    for path in sorted((where / "HR_x4").iterdir()):
        yield tuple(_read(p) for p in (path, where / "LR_x4" / path.name.replace("_HR", "_LR")))


def _read(path: Path) -> torch.Tensor:
    pixels = np.atleast_3d(np.array(Image.open(path)))
    return torch.from_numpy(pixels).permute(2, 0, 1).double() / 255


# ---------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 160), st.sampled_from(sorted(INTERPOLATIONS)), st.booleans())
def test_every_row_sums_to_one_and_mirrors(size: int, new_size: int, interpolation: str, antialias: bool) -> None:
    """White stays white, and a mirrored picture gives the mirrored result."""
    a = resize_matrix(size, new_size, interpolation, antialias)
    assert a.shape == (new_size, size)
    close(a.sum(dim=1), torch.ones(new_size), atol=1e-12)
    if interpolation != "nearest":  # which must choose a side where a sample lies on the edge of two pixels
        close(a.flip(0, 1), a, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.sampled_from(KERNELS))
def test_every_kernel_keeps_white_and_the_shape(blocks: int, scale: int, kernel: str) -> None:
    a = degrade_matrix(blocks * scale, kernel, scale)
    assert a.shape == (blocks, blocks * scale)
    close(a.sum(dim=1), torch.ones(blocks), atol=1e-12)
    if kernel != "decimate":
        close(a.flip(0, 1), a, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(KERNELS))
def test_degrade_is_linear_and_works_channel_by_channel(seed: int, kernel: str) -> None:
    x, y = noise(2, 3, 16, 12, seed=seed)
    both = degrade(2 * x - y, kernel, 4, round_lr=False)
    parts = 2 * degrade(x, kernel, 4, round_lr=False) - degrade(y, kernel, 4, round_lr=False)
    close(both, parts, atol=1e-12)
    close(degrade(x, kernel, 4, round_lr=False)[1], degrade(x[1], kernel, 4, round_lr=False), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(("bicubic", "lecture", "area")))
def test_a_mirrored_photo_has_the_mirrored_lr(seed: int, kernel: str) -> None:
    x = noise(3, 24, 16, seed=seed)
    mirrored = degrade(x.flip(-1), kernel, 4, round_lr=False)
    close(mirrored, degrade(x, kernel, 4, round_lr=False).flip(-1), atol=1e-12)


def test_a_crop_on_the_grid_of_the_scale_commutes_inside() -> None:
    """What batches rely on: the LR of an aligned crop is the crop of the LR, but for the crop's rim."""
    x = noise(3, 96, 96)
    for kernel in KERNELS:
        of_crop = degrade(x[:, 16:80, 8:72], kernel, 4, round_lr=False)
        crop_of = degrade(x, kernel, 4, round_lr=False)[:, 4:20, 2:18]
        close(of_crop[:, 2:-2, 2:-2], crop_of[:, 2:-2, 2:-2], atol=1e-12)


def test_interpolation_passes_through_its_samples() -> None:
    """Enlarging by an odd factor puts every LR pixel at the middle of its block."""
    x = noise(3, 12, 12)
    for name in ("nearest", "bilinear", "bicubic", "lanczos"):
        close(upsample(x, 3, name)[:, 1::3, 1::3], x, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_rounding(seed: int) -> None:
    x = 1.4 * noise(3, 9, 9, seed=seed) - 0.2
    rounded = round_8bit(x)
    assert rounded.min() >= 0
    assert rounded.max() <= 1
    assert (rounded - x.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-12
    assert torch.equal(round_8bit(rounded), rounded)
    close(rounded * 255, (rounded * 255).round(), atol=1e-9)


def test_pair_is_explicit_about_rounding() -> None:
    photo = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lr, hr = pair(photo, "bicubic", 4)
    assert lr.dtype == hr.dtype == torch.float32
    close(hr * 255, photo, atol=1e-4)
    close(lr * 255, (lr * 255).round(), atol=1e-4)
    exact, _ = pair(photo, "bicubic", 4, round_lr=False)
    close(round_8bit(exact), lr)
    assert not torch.equal(exact, lr)


def test_autocast_does_not_blur_a_picture() -> None:
    x = noise(1, 3, 16, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = degrade(x, "bicubic", 4, round_lr=False)
    assert torch.equal(inside, degrade(x, "bicubic", 4, round_lr=False))


# ---------------------------------------------------------------- errors


def test_errors_name_the_value_and_what_would_be_right() -> None:
    x = torch.zeros(1, 3, 18, 16)
    with pytest.raises(
        ValueError, match="unknown kernel 'bilinear': choose from bicubic, lecture, area, decimate"
    ):
        degrade(x, "bilinear", 4, round_lr=True)
    with pytest.raises(ValueError, match="18 pixels is no multiple of the scale 4: crop it first"):
        degrade(x, "bicubic", 4, round_lr=True)
    with pytest.raises(ValueError, match="unknown interpolation 'cubic': choose from nearest, bilinear"):
        resize(x, (8, 8), "cubic")
    with pytest.raises(ValueError, match="sizes must be at least 1, got 18 -> 0"):
        resize(x, (0, 8))
