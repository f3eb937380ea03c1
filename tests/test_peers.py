"""The numbers that page 06 keeps of published networks, and how ``benchmarks/peers.py`` makes them."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import peers
from course import results
from course.page import EXPECTED
from srlib.measure import metrics
from srlib.upscale import SHIPPED


@pytest.fixture(scope="module")
def kept():
    return {k[3:]: v["value"] for k, v in results.load_expected(EXPECTED / "peers.json")["results"].items()}


def test_kept_numbers_are_those_of_the_shipped_weights_and_the_kept_picture_is_of_them(kept):
    """Fails where weights were trained anew and ``benchmarks/peers.py score`` was not run."""
    shipped = {file.stem: peers.digest(file) for file in SHIPPED.glob("*.pt")}
    assert shipped == {name: kept.get(f"{name}.weights") for name in shipped}
    top, left, side = peers.SHOWN
    target = peers.portrait()[0][1][..., top : top + side, left : left + side]
    strip = torch.from_numpy(np.array(Image.open(EXPECTED / "peers.png"))).permute(2, 0, 1)[None] / 255
    for name, shown in zip(peers.PEERS, strip.split(side, dim=-1), strict=True):
        assert metrics.psnr(shown, target, crop_border=4, channels="y", average="images") > 22, name


def test_a_network_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(peers.PEERS, "other", ("no_such_package", "x"))
    with pytest.raises(ImportError, match=r"no-such-package.*srlib\[peers\]"):
        peers.files("other")


@pytest.mark.parametrize("name", peers.PEERS)
def test_an_installed_network_is_that_of_the_kept_numbers(kept, name):
    if find_spec(peers.PEERS[name][0]) is None:
        pytest.skip("needs the extra peers")
    layers, weights = peers.files(name)
    assert peers.digest(weights) == kept[f"{name}.weights"]
    assert peers.cost(layers) == (kept[f"{name}.parameters"], kept[f"{name}.multiply_adds"])
