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
from srlib.commands.evaluate import read_pairs
from srlib.errors import UsageError
from srlib.images.color import to_gray
from srlib.images.tasks import pair
from srlib.measure import evaluation, grids, library, metrics

HOW = {"kernel": "bicubic", "scale": 4, "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def photos(sample):
    return sample.tensor("test", limit=4)


def test_scores_are_those_of_the_metrics_whatever_is_scored_beside(photos):
    many = photos.repeat(5, 1, 1, 1)  # more than one pass
    whole = evaluation.evaluate(models.Interpolation(), many, "rgb-rgb", **HOW, crop_border=4, perceptual=True)
    assert {column.dtype for column in whole.values()} == {np.dtype("float64")}
    lr, hr = pair(photos, "bicubic", 4)
    output = models.Interpolation()(lr).clamp(0, 1)
    for prefix, channels in {"": "as-is", "y_": "y", "cb_": "cb", "cr_": "cr"}.items():
        error = metrics.mse(output, hr, crop_border=4, channels=channels)
        np.testing.assert_allclose(whole[f"{prefix}mse"], error.repeat(5), rtol=1e-5)
        np.testing.assert_allclose(whole[f"{prefix}psnr"], -10 * error.log10().repeat(5), rtol=1e-5)
    for name, channels in {"ssim": "as-is", "y_ssim": "y"}.items():
        found = metrics.ssim(output, hr, crop_border=4, channels=channels)
        np.testing.assert_allclose(whole[name], found.repeat(5), rtol=1e-5)
    np.testing.assert_allclose(whole["lpips"], library.lpips(output, hr).repeat(5), rtol=1e-5)
    mean = metrics.psnr(output, hr, crop_border=0, channels="as-is", average="images")
    assert evaluation.mean_psnr(models.Interpolation(), photos, "rgb-rgb", **HOW) == pytest.approx(float(mean))
    gray = evaluation.score(to_gray(hr), to_gray(hr))
    assert set(gray) == {"mse", "psnr", "ssim"}
    assert torch.isinf(gray["psnr"]).all()


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
        assert (cudnn.allow_tf32, cublas.allow_tf32) == (True, True)
    finally:
        cublas.allow_tf32 = False
    assert seen == {(False, False, False, False)}
    assert (model.training, model[0].training) == (True, False)


def test_the_command_scores_a_split(tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["evaluate", "bicubic", "--device", "cpu", "--runs", str(tmp_path), "--json", str(report)]
    assert main([*arguments, "--split", "val"]) == 0
    content = json.loads(report.read_text())
    for part in (content["model"]["rgb"], content["model"]["y"]):
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
    shutil.copy(paths[0], folders[0] / "b.png")
    assert main(arguments) == 2
    assert "two pictures have one name" in capsys.readouterr().err


def test_pairs_are_read_as_photos_are(tmp_path):
    """Upright, transparency over white, gray of 16 bits as gray; what is broken is named."""
    pixels = np.random.default_rng(0).integers(256, size=(8, 12), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (12, 8)).save(tmp_path / "clear.png")
    wanted = {"deep": pixels, "turned": np.rot90(pixels, 3), "clear": np.full((8, 12), 255)}
    for name, right in wanted.items():
        pair = {name: [tmp_path / f"{name}.png"] * 2}
        ((lr, hr),) = read_pairs(pair, 1, torch.device("cpu"))
        assert hr.shape[1] == (1 if name == "deep" else 3)
        assert (255 * lr).round().int().numpy()[0].tolist() == [right.tolist()] * 3
    (tmp_path / "deep.png").write_bytes(b"II*")
    with pytest.raises(UsageError, match=r"deep\.png: not readable as a picture"):
        list(read_pairs({"deep": [tmp_path / "deep.png"] * 2}, 1, torch.device("cpu")))
