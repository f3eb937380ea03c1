"""Colour, resampling, blur, noise and JPEG against Pillow, scikit-image, SciPy, PyTorch and MATLAB; batches."""

import hashlib
import io
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from photo_files import as_tensor
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import color as skcolor
from skimage.transform import pyramid_reduce
from torch.nn import functional as F

from srlib.data import Batches
from srlib.files import ROOT
from srlib.images import camera, color
from srlib.images.degrade import KERNELS, degrade, degrade_matrix, resize, round_8bit, upsample
from srlib.measure import metrics
from srlib.measure.evaluation import mean_psnr
from srlib.models import Interpolation

SET5 = ROOT.parent / "shared" / "data" / "benchmarks" / "Set5"
PILLOW = {"nearest": Image.Resampling.BOX} | {  # enlarging, BOX shares a pixel where we choose one
    name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")
}
exact = partial(degrade, round_lr=False)


def noise(*shape):
    """A picture with every frequency in it, float64 in [0, 1]."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def close(a, b, atol=1e-12):
    torch.testing.assert_close(torch.as_tensor(a).double(), torch.as_tensor(b).double(), atol=atol, rtol=0)


def test_colours_are_those_of_pillow_and_scikit_image():
    rgb = (255 * noise(3, 40, 30)).round()
    picture = Image.fromarray(rgb.permute(1, 2, 0).byte().numpy())
    close(color.to_gray(rgb / 255)[0] * 255, np.array(picture.convert("L")), atol=0.51)  # Pillow rounds
    full, limited = (color.to_ycbcr(rgb / 255, limited=limited) for limited in (False, True))
    close(255 * full.permute(1, 2, 0), np.array(picture.convert("YCbCr")), atol=1.01)  # in whole numbers
    close(255 * limited.permute(1, 2, 0), skcolor.rgb2ycbcr(np.asarray(picture)), atol=1e-3)  # has 3 decimals
    close(color.from_ycbcr(full, limited=False), rgb / 255)
    close(color.from_ycbcr(limited, limited=True), rgb / 255)
    x = noise(2, 1, 8, 8).repeat(1, 3, 1, 1)  # gray
    x[1] = torch.tensor([0, 0, 1])[:, None, None]  # blue
    close(color.saturation(x), [0.0, 255 * np.hypot(0.5, 0.114 / 1.402)], atol=1e-9)


@pytest.mark.parametrize("name", PILLOW)
def test_resize_is_pillows_and_in_its_plain_mode_pytorchs(name):
    """Up and down, by whole numbers and others; on float pictures, so that nothing is rounded."""
    x = noise(44, 33)
    for size in [(11, 9), (20, 31), (48, 36), (176, 132), (97, 53)]:
        if name != "nearest" or size < (44, 33):
            pillow = Image.fromarray(x.float().numpy()).resize(size[::-1], PILLOW[name])
            close(resize(x, size, name), np.array(pillow), atol=2e-6)
    for size in [(11, 9), (176, 132)] if name in ("bilinear", "bicubic") else []:
        theirs = F.interpolate(x[None, None], size, mode=name, align_corners=False)[0, 0]
        rim = 2 * max(1, size[0] // 44)  # where PyTorch repeats the border, and we renormalise
        gap = theirs - resize(x, size, {"bicubic": "bicubic-0.75"}.get(name, name), antialias=False)
        assert gap[rim:-rim, rim:-rim].abs().max() < 1e-12


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kernels_are_those_of_their_libraries(scale):
    x = noise(48, 36)
    close(exact(x, "bicubic", scale), resize(x, (48 // scale, 36 // scale)))  # which is Pillow's
    close(exact(x, "area", scale), F.avg_pool2d(x[None], scale)[0])
    assert torch.equal(exact(x, "decimate", scale), x[scale // 2 :: scale, scale // 2 :: scale])
    assert torch.equal(upsample(x, scale, "nearest"), x.repeat_interleave(scale, -1).repeat_interleave(scale, -2))
    for shape in ((48, 36), (12, 12), (180, 180)):
        x = noise(*shape)
        close(exact(x, "lecture", scale), pyramid_reduce(x.numpy(), downscale=scale), atol=1e-9)


def test_rounding_is_to_the_nearest_level():
    x = 1.4 * noise(3, 64, 64) - 0.2
    close(255 * round_8bit(x), np.rint(255 * x.numpy()).clip(0, 255))


def test_neither_autocast_nor_inference_mode_leaves_a_mark():
    x = noise(1, 3, 16, 16).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        inside = exact(x, "bicubic", 4)
    assert torch.equal(inside, exact(x, "bicubic", 4)), "autocast would blur a picture"
    with torch.inference_mode():
        upsample(torch.rand(1, 3, 17, 19), 2)
    upsample(noise(1, 3, 17, 19).float().requires_grad_(), 2).sum().backward()  # the kept matrix has a gradient


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (color.to_gray, (), r"must have shape .*, got \(2, 1, 18, 16\)"),
        (exact, ("bilinear", 4), "kernel 'bilinear': choose from bicubic, lecture"),
        (exact, ("bicubic", 4), "18 pixels is no multiple of the scale 4: crop it first"),
        (resize, ((8, 8), "cubic"), "interpolation 'cubic': choose from nearest, bilinear"),
        (resize, ((0, 8),), "sizes must be at least 1, got 18 -> 0"),
    ],
)
def test_errors_name_the_value_and_what_would_be_right(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(2, 1, 18, 16), *args)


def test_jpeg_is_that_of_pillow_blur_that_of_scipy_and_noise_has_its_strength(sample):
    photos = sample.tensor("val", limit=2)[..., :170, :149]  # no multiples of 8
    blocks = (255 * noise(2, 3, 85, 75)).byte().repeat_interleave(2, -1).repeat_interleave(2, -2)
    for pictures, qualities in product((photos, blocks), ([10, 40], [75, 95])):  # one for each picture
        made = camera.jpeg(pictures / 255, torch.tensor(qualities))
        for mine, picture, quality in zip(made, pictures, qualities):
            file, image = io.BytesIO(), Image.fromarray(picture.permute(1, 2, 0).numpy())
            image.save(file, "JPEG", quality=quality, subsampling=2)
            off = 255 * (mine - as_tensor(np.array(Image.open(file)))[0]).abs()
            assert off.mean() < 1.2
            assert (off > 2).float().mean() < 0.12
    x, sigmas = photos.double() / 255, (0.7, 2.0)
    for mine, photo, sigma in zip(camera.blur(x, torch.tensor(sigmas)), x, sigmas):
        close(mine, gaussian_filter(photo.numpy(), (0, sigma, sigma), mode="nearest", radius=12), atol=1e-7)
    close(camera.blur(x, 0.0), x, atol=1e-7)
    noisy = camera.noise(x, torch.tensor([0.0, 0.1])) - x
    assert not noisy[0].any()
    assert float(noisy[1].std()) == pytest.approx(0.1, rel=0.03)


def test_real_lr_follows_the_generator_and_validation_is_the_same_each_time(sample):
    batches = Batches(sample, "train", 4, 88, kernel="real")
    torch.manual_seed(1)
    (first, hr), (second, _) = batches.batch(0), batches.batch(0)
    torch.manual_seed(1)
    assert torch.equal(batches.batch(0)[0], first)
    assert not torch.equal(first, second)
    assert 0.005 < (first - exact(hr, "bicubic", 4)).square().mean() ** 0.5 < 0.18
    photos, how = sample.tensor("val", limit=2), {"kernel": "real", "scale": 4, "device": "cpu"}
    assert len({mean_psnr(Interpolation(), photos, "rgb-rgb", **how) for _ in "ab"}) == 1


@pytest.mark.skipif(not SET5.is_dir(), reason="no Set5 in shared/data/benchmarks")
def test_bicubic_is_matlabs_up_to_its_rounding_and_scores_as_published():
    """MATLAB rounds between columns and rows; its border is mirrored, and left out. Scored is its LR enlarged."""
    scores = []
    for path in (SET5 / "HR_x4").iterdir():
        paths = path, SET5 / "LR_x4" / path.name.replace("_HR", "_LR")
        hr, lr = (as_tensor(np.array(Image.open(path))).double() for path in paths)
        rows, columns = (degrade_matrix(n, "bicubic", 4) for n in hr.shape[-2:])
        gap = 255 * (round_8bit(round_8bit(rows @ hr) @ columns.T) - lr)[..., 2:-2, 2:-2].abs()
        assert gap.max() < 1.01
        assert (gap > 0.5).double().mean() < 0.005
        both, how = (round_8bit(upsample(lr, 4)), hr), {"crop_border": 4, "channels": "y"}
        scores.append([metrics.psnr(*both, **how, average="images").item(), metrics.ssim(*both, **how).item()])
    assert (np.abs(np.mean(scores, axis=0) - (28.42, 0.8104)) < (0.02, 0.001)).all()


PINNED = {  # batch size, patch, seed and more, and what 6 batches of crops and 4 draws have for a SHA-1
    "24efe573a6bd2ac323a81f6fc93ef19b80d26141": ("train", 16, 88, 7, {}),
    "815224f678631c33514ff71c5f0689a4ae37b5b1": ("train", 6, 176, 123456789, {}),
    "a36a38127007377048c3a4b2cecf4aa139c480c8": ("val", 8, 48, 0, {"rank": 1, "world_size": 2}),
    "d40ca5152cd036bd4f965e141bfcced8c921f5b1": ("train", 8, 32, -1, {"scale": 2}),
}


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("pinned", PINNED)
def test_these_crops_never_change(sample, pinned, hold):
    """Recorded scores hang on which crops a seed gives; indexing on the device gives those that slices give."""
    split, size, patch, seed, more = PINNED[pinned]
    batches, digest = Batches(sample, split, size, patch, seed=seed, hold=hold, **more), hashlib.sha1()
    for step in (0, 1, 13, 14, 15, 1000):
        digest.update(batches.crops(step).numpy().tobytes())
    digest.update(repr([[x.tolist() for x in batches.draw(step)] for step in (0, 14, 29, 500)]).encode())
    assert digest.hexdigest() == pinned


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_batch_is_crops_on_whole_lr_pixels_mirrored_or_not_and_their_lr_by_the_kernel(sample, kernel):
    batches = Batches(sample, "train", 64, 32, kernel)
    lr, hr = batches.batch(0)
    for crop, row, top, left, flip in zip(hr, *batches.draw(0)):
        wanted = torch.from_numpy(sample.images[row, :, top : top + 32, left : left + 32])
        assert torch.equal(crop, (wanted.flip(-1) if flip else wanted) / 255)
        assert top % 4 == left % 4 == 0
    assert torch.equal(lr, degrade(hr, kernel, 4, round_lr=True))


def test_photos_are_put_on_a_device_once_and_shared(sample):
    apart = replace(sample, split={**sample.split, "val": np.arange(1, 99, 2)})
    held = apart.photos("val")
    assert torch.equal(held, apart.tensor("val"))
    assert held is apart.photos("val", torch.device("cpu"))
    whole = sample.photos("train")  # rows that lie together are not copied
    assert whole.data_ptr() == sample.images[sample.rows("train")[0]].ctypes.data


def test_wrong_arguments_are_named(sample):
    store = replace(sample, split={**sample.split, "test": np.array([], int)})
    for name, value in (("patch", 30), ("patch", 180), ("batch_size", 3), ("split", "test"), ("split", "dev")):
        with pytest.raises(ValueError, match=f"{name} .*{value}"):
            Batches(store, **{"split": "train", "batch_size": 4, "patch": 32, name: value}, world_size=2)
