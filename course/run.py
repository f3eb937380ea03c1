"""``python -m srlib run``: its options, and every check that can be made before any work starts."""

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import torch

from srlib.data import open_store
from course.doctor import free_gib
from srlib.errors import UsageError
from srlib.device import choose_device, resolve_runs
from course.page import BUDGETS
from course import notebooks as pages

# What a run may take of the disk, in GiB, and one page of time, in seconds. Several times what the pages
# need on 2 cores in float32: a limit is there to end what hangs.
DISK = {"smoke": 0.5, "quick": 1.0, "full": 4.0}
PAGE_LIMIT = {"smoke": 10 * 60, "quick": 40 * 60, "full": 12 * 3600}
EPILOG = """exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
After a failure or Ctrl-C the same command goes on: pages that were finished by the same code are kept."""


@dataclass(frozen=True)
class Request:
    """A checked command.

    Attributes:
        data: "sample" or an absolute folder. fingerprint: what its store holds.
        names: the pages to run, in reading order.
        folder: where the finished run goes.
    """

    data: str
    fingerprint: str
    budget: str
    seed: int
    device: torch.device
    names: tuple[str, ...]
    runs: Path
    folder: Path
    fresh: bool
    keep_going: bool
    command: str

    @property
    def parameters(self) -> dict[str, str | int]:
        """What is injected into each page."""
        return {
            "DATA": self.data,
            "BUDGET": self.budget,
            "SEED": self.seed,
            "DEVICE": str(self.device),
            "RUNS": str(self.runs),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``run``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--data", default="sample", metavar="sample|FOLDER", help="photos (default: sample)")
    parser.add_argument("--budget", default="quick", choices=BUDGETS, help="how long to train (default: quick)")
    parser.add_argument("--only", action="append", metavar="NN", help="this page, as in 03; may be given again")
    parser.add_argument("--seed", default=0, type=int, metavar="N", help="seed of everything (default: 0)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="default: auto")
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="where results and caches go (default: runs)"
    )
    parser.add_argument("--fresh", action="store_true", help="start over: reuse no page and no trained network")
    parser.add_argument("--keep-going", action="store_true", help="run the other pages when one fails")


def main(args: argparse.Namespace) -> int:
    """Check the options, then run; see ``EPILOG`` for the status."""
    request = check(args)
    from course.runner import run  # papermill and nbconvert take seconds to import

    return run(request)


def check(args: argparse.Namespace) -> Request:
    """The command as a :class:`Request`.

    Raises:
        UsageError: a page, folder, device or seed that does not exist, pages with other parameters than the
            five, too little disk, or a run folder that holds other photos.
    """
    if args.seed < 0:
        raise UsageError(f"--seed must be a whole number from 0 on, got {args.seed}")
    device = choose_device(args.device)
    names = select(args.only)
    check_pages(names)
    runs = resolve_runs(args.runs)
    free = free_gib(runs)
    if free < DISK[args.budget]:
        raise UsageError(f"{free:.1f} GiB free at {runs}, budget {args.budget} needs {DISK[args.budget]:g}")
    data = args.data
    if data != "sample":
        data = str(Path(data).expanduser().resolve())
        if not Path(data).is_dir():
            raise UsageError(f"--data {args.data}: no such folder; give a folder of photos, or 'sample'")
    store = open_store(data, runs)  # builds it where it is missing, so that a bad folder is found now
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).name).strip("-.") or "photos"
    folder = runs / f"{name}-{args.budget}-seed{args.seed}"
    return Request(
        data, store.fingerprint, args.budget, args.seed, device, names, runs, folder, args.fresh, args.keep_going,
        _command(args),
    )  # fmt: skip


def select(only: list[str] | None) -> tuple[str, ...]:
    """The pages that ``--only`` names by number or in full, in reading order; all five without it.

    Raises:
        UsageError: no such page.
    """
    wanted = set()
    for asked in only or pages.NAMES:
        found = [name for name in pages.NAMES if asked in (name, name[:2], name[1])]
        if not found:
            raise UsageError(f"--only {asked}: no such page; choose from {', '.join(n[:2] for n in pages.NAMES)}")
        wanted.update(found)
    return tuple(name for name in pages.NAMES if name in wanted)


def check_pages(names: tuple[str, ...]) -> None:
    """Every page is there and has exactly the five parameters.

    Raises:
        UsageError: naming what is wrong.
    """
    for name in names:
        path = pages.folder() / f"{name}.ipynb"
        if not path.exists():
            raise UsageError(f"{path} is missing: run from a clone of the repository")
        if wrong := pages.wrong_parameters(path):
            raise UsageError(wrong)


def _command(args: argparse.Namespace) -> str:
    words = [
        "python",
        "-m",
        "srlib",
        "run",
        "--data",
        args.data,
        "--budget",
        args.budget,
        "--seed",
        str(args.seed),
    ]
    words += ["--device", args.device, "--runs", args.runs]
    for page in args.only or ():
        words += ["--only", page]
    words += ["--fresh"] * args.fresh + ["--keep-going"] * args.keep_going
    return shlex.join(words)
