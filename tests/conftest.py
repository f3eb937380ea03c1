"""What more than one test file needs: the sample, a short training, tiny pages, code of pages, a browser."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from nbformat import v4
from photo_files import save_checkpoint

from course import pages
from course.__main__ import main
from srlib import commands
from srlib.data import Store, open_store
from srlib.device import choose_device
from srlib.train.callbacks import Callback
from srlib.train.config import TrainConfig

# A shell starts background jobs with SIGINT ignored, and children inherit that: the Ctrl-C tests would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

PARAMETERS = "\n".join(f"{name} = {value!r}" for name, value in pages.PARAMETERS.items()).replace("'", '"')
LEDGER = """from IPython.display import display
entries = {"%s.gain": {"value": 1.5, "unit": "dB"}}
display({"application/vnd.course.results+json": entries, "text/plain": "gain 1.5 dB"}, raw=True)"""


@pytest.fixture
def tiny_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a folder of tiny pages, the code of chosen ones given by page number, and have the series use it."""

    def make(code: Mapping[str, Sequence[str]] = {}) -> Path:
        folder = tmp_path / "notebooks"
        folder.mkdir(exist_ok=True)
        for name in pages.NAMES:
            cells = [
                v4.new_markdown_cell(f"# Page {name[:2]}\n\nAbout $x^2$ and [the next](02_subpixel_cnn.ipynb)."),
                v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
                v4.new_markdown_cell("## A first section\n\n```\n# No heading\n```"),
                *map(v4.new_code_cell, code.get(name[:2], ["# Check\nassert 1 + 1 == 2"])),
                v4.new_markdown_cell("## What we found"),
                v4.new_code_cell(LEDGER % name[:2]),
            ]
            page = v4.new_notebook(cells=cells, metadata={"kernelspec": pages.KERNEL})
            pages.write(folder / f"{name}.ipynb", page)
        monkeypatch.setattr(pages, "FOLDER", folder)
        return folder

    return make


def code_cells(name: str) -> list[Any]:
    """A committed page's code cells."""
    return [cell for cell in pages.read(pages.FOLDER / f"{name}.ipynb").cells if cell.cell_type == "code"]


@pytest.fixture(scope="session")
def sample() -> Store:
    """The bundled photos."""
    return open_store("sample")


# A training of seconds; and the accelerator, if there is one.
SMALL = TrainConfig(
    options={"width": 8, "depth": 1}, ema=0.9, steps=12, batch_size=4, patch=32, validate_every=3,
    validate_photos=2, warmup=2,
)  # fmt: skip
DROPOUT = {"model": "subpixel-bn-dropout", "options": {"width": 8, "dropout": 0.3}}
CARD = choose_device("auto")
on_card = [pytest.mark.gpu, pytest.mark.skipif(CARD.type == "cpu", reason="needs CUDA or MPS")]
on_cuda = pytest.mark.skipif(CARD.type != "cuda", reason="needs CUDA")


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).cpu()


class Stop(Callback):
    """Ends a training by an error after a row."""

    def __init__(self, step: int) -> None:
        self.step = step

    def at_log(self, trainer, row):
        if row["step"] == self.step:
            raise InterruptedError


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, dict | None]]:
    """What a page displays: data and metadata."""
    calls: list[tuple[dict, dict | None]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata=None: calls.append((data, metadata)))
    return calls


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the committed pages."""
    folder = tmp_path_factory.mktemp("site")
    assert main(["site", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or Chrome where it is installed as usual; where CI lacks both that is a failure."""
    from playwright.sync_api import Error, sync_playwright  # the tests on a GPU do without

    found = shutil.which("chromium") or shutil.which("chromium-browser")
    how: dict[str, Any] = {"executable_path": found} if found else {"channel": "chrome"}
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(args=["--no-sandbox", "--disable-gpu"], **how)
        except Error as error:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs Chromium or Chrome: {error.message}")
        yield chromium
        chromium.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the browser."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):  # the cells of notebooks have none
            item.add_marker("browser")


@contextmanager
def phone(browser: Any, shown: Path | str, **options: Any) -> Iterator[Any]:
    """A file or HTML in a narrow tab without a network; it may ask for nothing and complain of nothing."""
    wrong: list[str] = []
    with browser.new_page(offline=True, viewport={"width": 390, "height": 844}, **options) as page:
        page.on("request", lambda request: re.match("file|data|blob", request.url) or wrong.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        if isinstance(shown, Path):
            page.goto(shown.as_uri())
        else:
            page.set_content(shown)
        yield page
        assert wrong == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def upscale(tmp_path, monkeypatch, capsys):
    """The command, by a tiny network, in an empty folder: ends with the status and returns what was printed."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = str(save_checkpoint(tmp_path / "tiny.pt"))

    def run(*words, status=0):
        assert commands.main(["upscale", "--model", model, "--device", "cpu", *map(str, words)]) == status
        return "".join(capsys.readouterr())

    return run
