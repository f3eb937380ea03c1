"""The demo of the site: what a browser makes of a photo is what PyTorch makes of it, and the page stays alive."""

import base64
import io

import numpy as np
import pytest
import torch
from conftest import phone
from photo_files import as_tensor, noise
from PIL import Image

from course import site
from srlib import models
from srlib.data.sample import PHOTOS
from srlib.images.degrade import degrade
from srlib.measure.grids import phase_pattern
from srlib.measure.metrics import psnr
from srlib.models import Interpolation
from srlib.upscale import load_network, reach, upscale

READY, STATUS = "#try-save:enabled", "document.getElementById('try-status').textContent"


@pytest.fixture
def demo(built, browser):
    """The page, its first photo enlarged."""
    with phone(browser, built / "try.html") as page:
        page.wait_for_selector(READY, timeout=60_000)
        yield page


def choose(page, pixels):
    """Give the page a picture of the reader's own, and wait for what it says."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    page.evaluate(f"{STATUS} = ''")
    page.set_input_files("#try-file", {"name": "mine.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
    page.wait_for_function(STATUS)


def downloaded(page, name="mine_x4.png"):
    page.wait_for_selector(READY, timeout=120_000)
    with page.expect_download() as download:
        page.click("#try-save")
    assert download.value.suggested_filename == name
    return np.asarray(Image.open(download.value.path()).convert("RGB"))


def drawn(page, url):
    """What a canvas or another picture of the page holds."""
    data = page.evaluate(url).split(",")[1]
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def canvas(page, method):
    return drawn(page, f"document.getElementById('try-{method}').toDataURL()")


def levels(x):
    """The grid in 8-bit levels."""
    return float(255 * phase_pattern(x.double(), 4).mean(dim=1).square().mean().sqrt())


def test_it_is_what_pytorch_computes(demo):
    """A photo of several tiles, none of them whole; noise of an odd size; one pixel wide."""
    for pixels in (np.array(PHOTOS[3].read())[20:121, 30:163], noise(67, 37, 3), noise(9, 1, 3)):
        choose(demo, pixels)
        expected = upscale(pixels, "small", device="cpu").astype(int)
        interpolated = np.rint(255 * Interpolation()(as_tensor(pixels))[0].permute(1, 2, 0).numpy())
        for made, wanted in ((downloaded(demo), expected), (canvas(demo, "bicubic"), interpolated)):
            assert made.shape == wanted.shape
            assert np.abs(made - wanted).max() <= 1
            assert (made == wanted).mean() > 0.99
        assert demo.inner_text("#try-psnr-network") == "no original"
        assert demo.inner_text("#try-levels-network") == f"{levels(as_tensor(canvas(demo, 'network'))):.2f} levels"


def test_a_bundled_photo_has_an_original_to_compare_with(demo):
    original = as_tensor(drawn(demo, "DATA.photos[0].url"))
    lr = degrade(original, "bicubic", 4, round_lr=True)
    for method, network in (("bicubic", Interpolation()), ("network", load_network("small")[0])):
        with torch.inference_mode():
            output = network(lr).clamp(0, 1)
        expected = psnr(output, original, crop_border=0, channels="as-is", average="images")
        for what, value in (("psnr", float(expected)), ("levels", levels(output - original))):
            shown = demo.inner_text(f"#try-{what}-{method}").split()[0]
            assert float(shown) == pytest.approx(value, abs=0.011)
    pattern = 255 * phase_pattern(output - original, 4).mean(dim=1)[0].numpy()
    red, _, blue = canvas(demo, "grid-network").astype(int).transpose(2, 0, 1)
    assert (((red - blue) * pattern)[abs(pattern) > 0.02] > 0).all(), "orange is brighter, blue darker"


def test_half_a_megapixel_can_be_watched_and_stopped(demo):
    choose(demo, np.full((612, 816, 3), 128, dtype=np.uint8))
    demo.wait_for_function("document.getElementById('try-progress').value > 0", timeout=30_000)
    demo.focus("#try-split")
    before = demo.get_attribute("#try-network", "style")
    demo.keyboard.press("ArrowRight")
    assert demo.get_attribute("#try-network", "style") != before, "the page answers while the workers compute"
    demo.click("#try-stop")
    assert demo.inner_text("#try-status") == "Stopped."
    assert not demo.is_visible("#try-busy")
    assert demo.is_disabled("#try-save")
    demo.locator("#try-photos button").nth(1).click()
    demo.wait_for_selector(READY, timeout=60_000)


def test_what_cannot_be_enlarged_is_said_a_large_photo_is_an_original_and_one_can_be_dropped(demo):
    demo.set_input_files("#try-file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    demo.wait_for_function(f"{STATUS}.includes('no picture')")
    choose(demo, np.full((7, 4201, 3), 99, dtype=np.uint8))
    assert downloaded(demo).shape == (4, 4200, 3)
    assert demo.is_checked("#try-shrink")
    assert "taken as the original" in demo.inner_text("#try-status")
    choose(demo, np.zeros((1, 16_001, 3), dtype=np.uint8))
    demo.wait_for_function(f"{STATUS}.includes('too large')")
    demo.evaluate("""async () => {
        const blob = await (await fetch(DATA.photos[2].url)).blob(), data = new DataTransfer();
        data.items.add(new File([blob], "cup.v2.png", { type: "image/png" }));
        document.getElementById("try").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
    }""")
    demo.wait_for_function(f"{STATUS}.includes('From 352')", timeout=120_000)
    assert downloaded(demo, "cup.v2_x4.png").shape == (1408, 1408, 3)


def test_the_numbers_that_the_page_tells_are_those_of_the_network():
    text, network = (site.TEXTS / "try.md").read_text(encoding="utf-8"), load_network("small")[0]
    convolutions = sum(isinstance(layer, torch.nn.Conv2d) for layer in network.modules())
    assert f"{models.count_parameters(network):,} numbers" in text
    assert f"{models.count_multiply_adds(network, (1, 3, 1, 1)):,} multiply-adds" in text
    assert f"{convolutions} convolutions" in text
    assert f"a margin of {reach(network)[1]} pixels" in text
