"""The table of site/lower-psnr.md, computed again where Set5 is at hand."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srlib.files import ROOT
from srlib.images.degrade import degrade, resize, round_8bit, upsample
from srlib.measure.metrics import psnr

SET5 = ROOT.parent / "shared" / "data" / "benchmarks" / "Set5" / "HR_x4"
WAYS = {  # a part of the row's name: what differs
    "RGB instead": {"channels": "as-is"},
    "full range": {"channels": "y-full"},
    "before the logarithm": {"channels": "as-is", "average": "mse"},
    "no border": {"crop_border": 0},
    "without antialiasing": {"lr": "plain"},
    "every fourth": {"lr": "decimate"},
    "Gaussian pyramid": {"lr": "lecture"},
    "a = -0.75": {"up": "bicubic-0.75"},
}


def bicubic_on_set5(lr: str = "bicubic", up: str = "bicubic", average: str = "images", **how: object) -> float:
    choice = {"crop_border": 4, "channels": "y"} | how
    found = []
    for path in sorted(Path(SET5).glob("*.png")):
        hr = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 255
        small = tuple(side // 4 for side in hr.shape[-2:])
        plain = lr == "plain"
        shrunk = resize(hr, small, "bicubic", antialias=False) if plain else degrade(hr, lr, 4, round_lr=True)
        found.append(psnr(round_8bit(upsample(round_8bit(shrunk), 4, up)), hr, **choice, average="images"))
    values = torch.stack(found).double()
    return float(values.mean() if average == "images" else -10 * torch.log10((10 ** (-values / 10)).mean()))


@pytest.mark.skipif(not SET5.is_dir(), reason="Set5 is not here")
def test_the_table_is_what_comes_out() -> None:
    text = (ROOT / "site" / "lower-psnr.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) dB \| ([+-][\d.]+) dB \|$", text, re.MULTILINE)
    reference = bicubic_on_set5()
    assert f"{reference:.2f} dB" in text
    assert len(rows) == len(WAYS)
    for (name, value, offset), (part, change) in zip(rows, WAYS.items()):
        assert part in name
        found = bicubic_on_set5(**change)
        assert (value, offset) == (f"{found:.2f}", f"{found - reference:+.2f}"), name
