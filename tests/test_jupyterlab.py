"""In JupyterLab, which has shortcuts of its own, a slider follows the arrow keys and a button Enter."""

import os
import secrets
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from course import notebooks as pages
from srlib.files import ROOT

CODE = """import torch
from IPython.display import HTML
from course import blind, widgets
widgets.show("sampling", highest=2.5, start=0.9)
HTML(blind.embed([torch.rand(3, 64, 64)] * 8))"""


@pytest.fixture
def lab(tmp_path: Path):
    """The address of a JupyterLab that shows one notebook."""
    cells = [nbformat.v4.new_code_cell(CODE)]
    metadata = {"kernelspec": dict(pages.KERNEL)}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "moving.ipynb")
    token, port = secrets.token_hex(8), 20_000 + os.getpid() % 20_000
    options = [
        f"--port={port}",
        "--port-retries=0",
        f"--IdentityProvider.token={token}",
        f"--notebook-dir={tmp_path}",
    ]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")}
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api").close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/moving.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.browser
def test_sliders_and_buttons_keep_their_keys(lab, browser):
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(lab)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    page.click(".jp-CodeCell .cm-content")
    page.keyboard.press("Control+Enter")
    page.press("#moving-sampling input", "ArrowRight")
    assert "0.91 periods" in page.inner_text("#moving-sampling p")
    page.press(".abx button", "Enter")
    page.press(".abx-row button", "Enter")
    page.wait_for_selector(".abx-text:has-text('Question 2 of 64')", timeout=5000)
