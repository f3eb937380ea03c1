"""The evaluator against direct computation, exact float32, and the command that prints its table."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from srlib import models
from srlib.commands import main
from srlib.images.color import to_gray
from srlib.images.tasks import pair
from srlib.measure import evaluation, grids, library, metrics

HOW = {"kernel": "bicubic", "scale": 4, "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def photos(sample):
    return sample.tensor("test", limit=4)


def test_run_model_gives_the_pair_and_a_clamped_output(photos):
    class Loud(nn.Module):
        def forward(self, lr):
            return 3 * models.Interpolation()(lr) - 1

    lr, output, target = evaluation.run_model(Loud(), photos, "rgb-rgb", **HOW)
    for ours, expected in zip((lr, target), pair(photos, "bicubic", 4)):
        torch.testing.assert_close(ours, expected)
    assert (output.min(), output.max()) == (0, 1)
    lr, output, target = evaluation.run_model(models.Interpolation(), photos, "gray-gray", **HOW)
    assert output.shape == (4, 1, 176, 176)
    torch.testing.assert_close(target, to_gray(photos.float() / 255))
    assert evaluation.run_model(models.Interpolation(), photos, "gray-rgb", **HOW)[2].shape[1] == 3


def test_score_against_numpy(photos):
    target = photos.double() / 255
    output = (target + 0.05 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    table = evaluation.score(output, target, crop_border=4)
    d = (output - target).numpy()[..., 4:-4, 4:-4]
    luma = np.array([65.481, 128.553, 24.966]) / 255  # Poynton's, as in MATLAB's rgb2ycbcr
    y, cb = (np.einsum("c,nchw->nhw", row, d) for row in (luma, np.array([-0.299, -0.587, 0.886]) / 1.772))
    for name, errors in {"mse": d, "y_mse": y, "cb_mse": cb}.items():
        wanted = np.array([(of_photo**2).mean() for of_photo in errors])
        np.testing.assert_allclose(table[name], wanted, rtol=3e-4)
        np.testing.assert_allclose(table[name.replace("mse", "psnr")], -10 * np.log10(wanted), atol=1e-3)
    gray = evaluation.score(to_gray(target), to_gray(target))
    assert set(gray) == {"mse", "psnr", "ssim"}
    assert torch.isinf(gray["psnr"]).all()


def test_evaluate_and_mean_psnr_do_not_depend_on_what_is_scored_beside(photos):
    many = photos.repeat(5, 1, 1, 1)  # more than one pass
    whole = evaluation.evaluate(models.Interpolation(), many, "rgb-rgb", **HOW, perceptual=True)
    assert {column.dtype for column in whole.values()} == {np.dtype("float64")}
    alone = evaluation.evaluate(models.Interpolation(), photos[1:2], "rgb-rgb", **HOW, perceptual=True)
    for name, column in whole.items():
        np.testing.assert_allclose(column[1::4], alone[name].repeat(5), rtol=1e-5)
    lr, hr = pair(photos, "bicubic", 4)
    output = models.Interpolation()(lr)
    direct = metrics.psnr(output, hr, crop_border=0, channels="as-is", average="none")
    np.testing.assert_allclose(whole["psnr"][:4], direct.numpy())
    np.testing.assert_allclose(whole["lpips"][:4], library.lpips(output, hr).numpy(), rtol=1e-5)
    assert evaluation.mean_psnr(models.Interpolation(), photos, "rgb-rgb", **HOW) == pytest.approx(direct.mean())


@pytest.mark.parametrize("measure", [evaluation.evaluate, evaluation.mean_psnr, evaluation.run_model, None])
def test_measuring_is_exact_float32_in_eval_mode_and_leaves_no_trace(measure, photos):
    cudnn, cublas, seen = torch.backends.cudnn, torch.backends.cuda.matmul, set()
    model = nn.Sequential(nn.Dropout().eval(), models.Interpolation())
    model.register_forward_hook(
        lambda *_: seen.add((cudnn.allow_tf32, cublas.allow_tf32, model.training, torch.is_grad_enabled()))
    )
    cublas.allow_tf32 = True
    try:
        measure(model, photos, "rgb-rgb", **HOW) if measure else grids.ripple(model, 3, 4)
        assert cudnn.allow_tf32
        assert cublas.allow_tf32
    finally:
        cublas.allow_tf32 = False
    assert seen == {(False, False, False, False)}
    assert (model.training, model[0].training) == (True, False)


def test_the_command_scores_a_split(tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["evaluate", "bicubic", "--device", "cpu", "--runs", str(tmp_path), "--json", str(report)]
    assert main([*arguments, "--split", "val"]) == 0
    content = json.loads(report.read_text())
    for who in ("model", "bicubic"):
        for channels in ("rgb", "y"):
            part = content[who][channels]
            assert part["psnr_mean"] >= part["psnr_of_mean_mse"] > 15, "Jensen's inequality"
    assert content["model"] == content["bicubic"]
    assert len(content["per_image"]) == content["images"] == 17
    assert "bicubic rgb" in capsys.readouterr().out
    assert main([*arguments, "--per-channel"]) == 2
    assert main(["evaluate", str(tmp_path / "none.pt"), *arguments[2:]]) == 2
    assert "none.pt" in capsys.readouterr().err


def test_the_command_scores_pairs_with_gray_ones_among_them(tmp_path, photos, capsys):
    folders, report = [tmp_path / "hr", tmp_path / "lr"], tmp_path / "report.json"
    for folder, ending, pictures in zip(folders, ("_HR", "x4"), reversed(pair(photos[:2], "bicubic", 4))):
        folder.mkdir()
        for name, picture in zip("ab", (255 * pictures).round().byte().permute(0, 2, 3, 1).numpy()):
            Image.fromarray(picture).convert("RGB" if name == "a" else "L").save(folder / f"{name}{ending}.png")
    arguments = ["evaluate", "bicubic", "--pairs", *map(str, folders), "--json", str(report), "--device", "cpu"]
    assert main(arguments) == 0
    content = json.loads(report.read_text())
    assert [content["model"][part]["images"] for part in ("rgb", "y")] == [1, 2]
    assert content["per_image"][1]["model"]["psnr"] is None
    paths = folders[0] / "b_HR.png", folders[1] / "bx4.png"
    hr, lr = (torch.tensor(np.array(Image.open(path)))[None, None] / 255 for path in paths)
    direct = metrics.mse(models.Interpolation()(lr), hr, crop_border=4, channels="as-is")
    assert content["per_image"][1]["model"]["y_mse"] == pytest.approx(float(direct), abs=1e-6)
    shutil.copy(folders[0] / "a_HR.png", folders[1] / "ax4.png")
    assert main(arguments) == 2
    assert "a: HR (176, 176) is not 4 times LR (176, 176)" in capsys.readouterr().err
    paths[1].unlink()
    assert main(arguments) == 2
    assert "no partner for: b" in capsys.readouterr().err
