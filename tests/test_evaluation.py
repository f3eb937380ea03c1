"""The evaluator against direct computation, exact float32, and the command that prints its table."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from photo_files import exif_with, save_checkpoint
from PIL import Image
from torch import nn

from srlib import models
from srlib.commands import main
from srlib.device import exact_float32
from srlib.images.color import to_gray
from srlib.images.tasks import pair
from srlib.measure import evaluation, grids, library, metrics
from srlib.upscale import upscale

HOW = {"task": "rgb-rgb", "kernel": "bicubic", "scale": 4, "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def photos(sample):
    return sample.tensor("test", limit=4)


def test_scores_are_those_of_the_metrics_whatever_is_scored_beside(photos):
    many = photos.repeat(5, 1, 1, 1)  # more than one pass
    whole = evaluation.evaluate(models.Interpolation(), many, **HOW, crop_border=4, perceptual=True)
    lr, hr = pair(photos, "bicubic", 4)
    output = models.Interpolation()(lr)
    wanted = {"lpips": library.lpips(output, hr)}
    for prefix, channels in {"": "as-is", "y_": "y", "cb_": "cb", "cr_": "cr"}.items():
        error = metrics.mse(output, hr, crop_border=4, channels=channels)
        wanted |= {f"{prefix}mse": error, f"{prefix}psnr": -10 * error.log10()}
        if channels in ("as-is", "y"):
            wanted[f"{prefix}ssim"] = metrics.ssim(output, hr, crop_border=4, channels=channels)
    assert whole.keys() - wanted.keys() == {"saturation"}
    for name, values in wanted.items():
        assert whole[name].dtype == np.float64
        np.testing.assert_allclose(whole[name], values.repeat(5), rtol=1e-5, err_msg=name)
    mean = metrics.psnr(output, hr, crop_border=0, channels="as-is", average="images")
    assert evaluation.mean_psnr(models.Interpolation(), photos, **HOW) == pytest.approx(float(mean))
    gray = evaluation.score(to_gray(hr), to_gray(hr))
    assert set(gray) == {"mse", "psnr", "ssim"}
    assert torch.isinf(gray["psnr"]).all()


@pytest.mark.parametrize(
    "use",
    [
        partial(evaluation.evaluate, **HOW),
        partial(evaluation.mean_psnr, **HOW),
        partial(evaluation.run_model, **HOW),
        lambda model, _: grids.ripple(model, 3, 4),
        lambda model, photos: upscale(photos / 255, model, device="cpu"),
    ],
)
def test_networks_are_used_in_exact_float32_in_eval_mode_and_without_a_trace(use, photos):
    cudnn, cublas, seen = torch.backends.cudnn, torch.backends.cuda.matmul, []
    model = nn.Sequential(nn.Dropout().eval(), models.Interpolation())

    @model.register_forward_hook
    def note(used, given, _):
        if given[0].dtype == torch.float32:  # unlike those by which a receptive field is found
            seen.append((cudnn.allow_tf32, cublas.allow_tf32, used.training, torch.is_grad_enabled()))

    cublas.allow_tf32 = True
    try:
        use(model, photos)
        assert (cudnn.allow_tf32, cublas.allow_tf32) == (True, True)
    finally:
        cublas.allow_tf32 = False
    assert {*seen} == {(False, False, False, False)}
    assert (model.training, model[0].training) == (True, False)


def test_who_uses_the_newer_switch_of_tf32_has_exact_float32_too():
    switches = torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul
    before, switches[2].fp32_precision = [switch.fp32_precision for switch in switches], "tf32"
    with exact_float32(), exact_float32():
        inside = [switch.fp32_precision for switch in switches]
    after, switches[2].fp32_precision = [switch.fp32_precision for switch in switches], before[2]
    assert (inside, after) == (["ieee"] * 3, [*before[:2], "tf32"])


@pytest.fixture
def evaluate(tmp_path, capsys):
    """The command: the report that it writes, with its table, or the error that it prints."""

    def run(model, *words):
        report = tmp_path / "report.json"
        how = ["--device", "cpu", "--runs", str(tmp_path), "--json", str(report)]
        status, said = main(["evaluate", str(model), *map(str, words), *how]), capsys.readouterr()
        return said.err if status else json.loads(report.read_text()) | {"table": said.out}

    return run


def test_the_command_scores_a_split(tmp_path, evaluate):
    content = evaluate("bicubic", "--split", "val")
    for part in (content["model"]["rgb"], content["model"]["y"]):
        assert part["psnr_mean"] >= part["psnr_of_mean_mse"] > 15, "Jensen's inequality"
    assert content["model"] == content["bicubic"]
    assert "bicubic rgb" in content["table"]
    assert len(content["per_image"]) == content["images"] == 17
    gray = evaluate(save_checkpoint(tmp_path / "gray.pt", "gray-gray"), "--per-channel")
    assert gray["model"]["rgb"]["psnr_mean"] > gray["bicubic"]["rgb"]["psnr_mean"] - 2
    assert gray["model"]["lpips"] > 0
    assert "--per-channel needs a gray-gray network" in evaluate("bicubic", "--per-channel")
    assert "none.pt" in evaluate(tmp_path / "none.pt")


def test_the_command_scores_pairs_read_as_photos_are_with_gray_ones_among_them(tmp_path, photos, evaluate):
    """The HR picture of a lies on its side, and says so; b is gray, its HR picture of 16 bits."""
    lr, hr = pair(photos[:2, :, :, :160], "bicubic", 4)
    small, large = ((255 * x).round().byte().permute(0, 2, 3, 1).numpy() for x in (lr, hr))
    files = {"hr/a_HR": np.rot90(large[0]), "lr/ax4": small[0], "lr/bx4": small[1, ..., 1]}
    files["hr/b_HR"] = large[1, ..., 1].astype(np.uint16) * 257
    for name, pixels in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.copy()).save(
            tmp_path / f"{name}.png", exif=exif_with(6) if name == "hr/a_HR" else None
        )
    hr_folder, lr_folder = folders = tmp_path / "hr", tmp_path / "lr"

    content = evaluate("bicubic", "--pairs", *folders)
    assert [content["model"][part]["images"] for part in ("rgb", "y")] == [1, 2]
    a, b = (row["model"] for row in content["per_image"])
    assert b["psnr"] is None
    error = (models.Interpolation()(lr) - hr)[..., 4:-4, 4:-4].square()
    assert [a["mse"], b["y_mse"]] == pytest.approx([float(error[0].mean()), float(error[1, 1].mean())], rel=1e-4)

    (lr_folder / "bx4.png").write_bytes(b"II*")
    assert "bx4.png: not readable as a picture" in evaluate("bicubic", "--pairs", *folders)
    shutil.copy(hr_folder / "a_HR.png", lr_folder / "ax4.png")
    assert "a: HR (176, 160) is not 4 times LR (176, 160)" in evaluate("bicubic", "--pairs", *folders)
    (lr_folder / "bx4.png").unlink()
    assert "no partner for: b" in evaluate("bicubic", "--pairs", *folders)
    shutil.copy(hr_folder / "b_HR.png", hr_folder / "b.png")
    assert "two pictures have one name" in evaluate("bicubic", "--pairs", *folders)
