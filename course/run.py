"""``python -m course run``: a plain loop over the pages, in a folder that is put in place when all are done."""

import argparse
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import traceback
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from course import doctor, pages, results, site
from course.page import BUDGETS, EXPECTED
from srlib.data import open_store
from srlib.device import PRECISIONS, choose_device, choose_precision
from srlib.errors import DataError, UsageError
from srlib.files import ROOT, resolve, write_json

DISK = {"smoke": 0.5, "quick": 1.0, "study": 4.0, "full": 4.0}  # GiB that a run may take
EPILOG = """exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
After a failure or Ctrl-C the same command goes on: pages that were finished by the same code are kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    add = parser.add_argument
    add("--data", default="sample", metavar="sample|FOLDER", help="photos (default: sample)")
    add("--budget", default="quick", choices=BUDGETS, help="how long to train (default: quick)")
    add("--only", action="append", metavar="NN", help="this page, as in 03; may be given again")
    add("--seed", default=0, type=int, metavar="N", help="seed of everything (default: 0)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="default: auto")
    add("--precision", default="auto", choices=PRECISIONS, help="of training (default: what pays on the device)")
    add("--runs", default="runs", metavar="DIR", help="where results and caches go (default: runs)")
    add("--fresh", action="store_true", help="start over: reuse no page and no trained network")
    add("--keep-going", action="store_true", help="run the other pages when one fails")


def main(args: argparse.Namespace) -> int:
    """Check the options, then run; UsageError for what can be known to be wrong before any work starts."""
    run = Run(args)
    try:
        with FileLock(run.folder.with_name(f".{run.folder.name}.lock"), timeout=0):
            run.take_up()
            if failures := run.execute():
                site.build(run.partial, run.partial)
                print(f"\nThe pages so far: {run.partial / 'index.html'}; the tools' messages: run.log beside it.")
                print(*failures, sep="\n", flush=True)
                return 1
            ledger, differences = run.finish()
    except Timeout:
        raise UsageError(f"{run.folder}: this very run is at work already; wait for it or stop it") from None
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it would miss the kernel, some time later
        print(f"\nInterrupted. Pages finished so far: {', '.join(name[:2] for name in run.done) or 'none'}.")
        print(f"To go on from there:\n    {run.command}", flush=True)
        return 130
    print()
    for label, entry in results.headline(ledger).items():
        print(f"{results.show_with_unit(**entry):>14}  {label}")
    if differences:
        print(f"{len(differences)} of {len(ledger)} results lie outside what earlier runs gave: see the report.")
        print("One or two may: each was expected with a probability of 99.9 %.")
    if args.data == "sample":
        print("These numbers describe a few bundled photos: an illustration, not a verdict.")
    print(f"Report: {run.folder / 'index.html'}", flush=True)
    return 0


class Run:
    """A checked command, and ``done``, the names of the pages that are finished so far. It is made in ``partial``,
    which becomes ``folder``; ``key``, in a page's stamp, stands for all that makes it but its own code."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.names, self.done = args, pages.select(args.only), list[str]()
        self.device, runs, data = choose_device(args.device), resolve(args.runs), args.data
        if not 0 <= args.seed < 2**32:  # NumPy's limit
            raise UsageError(f"--seed must be a whole number from 0 to 2**32 - 1, got {args.seed}")
        if (free := doctor.free_gib(runs)) < DISK[args.budget]:
            raise UsageError(f"{free:.1f} GiB free at {runs}, budget {args.budget} needs {DISK[args.budget]:g}")
        data = data if data == "sample" else os.path.realpath(os.path.expanduser(data))
        self.photos = open_store(data, runs).fingerprint  # built where missing, so that a bad folder is found now
        self.parameters = dict(zip(pages.PARAMETERS, (data, args.budget, args.seed, str(self.device), str(runs))))
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).name).strip("-.") or "photos"
        name += f"-{args.budget}-seed{args.seed}"
        self.folder, self.partial, self.earlier = (runs / (name + end) for end in ("", ".partial", ".old"))
        files = (file for part in ("srlib", "course", "expected") for file in (ROOT / part).rglob("*.*"))
        kinds = (".py", ".js", ".css", ".pt", ".json", ".png")
        code = [hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files) if f.suffix in kinds]
        key = json.dumps([self.parameters, args.precision, self.photos, doctor.versions(), code])
        self.key = hashlib.sha256(key.encode()).hexdigest()[:16]
        asked = ("data", "runs", "budget", "device", "precision", "seed")
        words = [f"--{name}={getattr(args, name)}" for name in asked]
        words += [f"--only={number}" for number in args.only or ()] + ["--keep-going"] * args.keep_going
        self.command = shlex.join(["python", "-m", "course", "run", *words])
        runs.mkdir(parents=True, exist_ok=True)

    def take_up(self) -> None:
        """Find out what an interrupted run has left."""
        if self.earlier.exists() and not self.folder.exists():
            self.earlier.rename(self.folder)  # it was ended between the renames of finish
        path, data = self.folder / "environment.json", self.parameters["DATA"]
        if path.exists() and (held := json.loads(path.read_text(encoding="utf-8"))["data"]) != data:
            raise UsageError(f"{self.folder} holds a run on {held}; choose another --runs")
        since = self.partial / "fresh"  # when --fresh was asked for: it holds for all that is left to do
        if self.args.fresh:
            shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(exist_ok=True)
        if self.args.fresh:
            since.touch()
        self.fresh = since.stat().st_mtime if since.exists() else 0.0
        for name in pages.NAMES:
            with suppress(OSError, ValueError, AttributeError):  # not there, half a file, or not finished
                was, now = (pages.read(where / f"{name}.ipynb") for where in (self.partial, pages.FOLDER))
                if (was.metadata.srlib.key, was.metadata.srlib.code_hash) == (self.key, pages.code_hash(now)):
                    self.done.append(name)

    def execute(self) -> list[DataError]:
        """Execute the pages that are not done; the failures."""
        failures = []
        with pages.kernels(self.partial / "run.log", self.fresh, self.args.precision) as log:
            print(self.command, file=log)
            for number, name in enumerate(self.names, start=1):
                label = f"[{number}/{len(self.names)}] {name}"
                if name in self.done:
                    print(f"{label}: kept, finished by the interrupted run", flush=True)
                    continue
                source, output = (where / f"{name}.ipynb" for where in (pages.FOLDER, self.partial))
                try:
                    pages.execute(source, output, self.parameters, label, key=self.key)
                    self.done.append(name)
                except DataError as failure:
                    traceback.print_exception(failure, file=log)
                    failures.append(failure)
                    if not self.args.keep_going:
                        break
        return failures

    def finish(self) -> tuple[results.Ledger, list[str]]:
        """Write all but the notebooks, put the run in place; what it found, and what of it is not as expected."""
        for path in self.partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)  # of the site that a failed run leaves
            elif path.name != "run.log" and not (path.suffix == ".ipynb" and path.stem in self.done):
                path.unlink()  # that too, or a page that is broken and was not asked for this time
        for path in self.folder.glob("*.ipynb"):  # --only leaves the other pages of the finished run
            if path.stem not in self.done:
                shutil.copy2(path, self.partial)
        notebooks = pages.read_all(self.partial)
        ledger = results.collect(*notebooks.values())
        differences, path = None, EXPECTED / f"sample-{self.args.budget}.json"
        if self.args.data == "sample" and path.exists():
            differences = results.compare(ledger, results.load_expected(path))
        git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() if shutil.which("git") else ""
        environment = {
            "command": self.command + " --fresh" * self.args.fresh,
            **{name.lower(): value for name, value in self.parameters.items()},
            "precision": str(choose_precision(self.device, self.args.precision)[0]).removeprefix("torch."),
            "photos": self.photos,
            "commit": commit,
            "machine": doctor.machine(self.device),
            "versions": doctor.versions(),
            "not_as_expected": differences,
            "pages": {name: notebook.metadata["srlib"] for name, notebook in notebooks.items()},
        }
        write_json(self.partial / "results.json", ledger)
        write_json(self.partial / "environment.json", environment)
        if problem := site.build(self.partial, self.partial):
            print(problem, flush=True)  # the results are there all the same
        shutil.rmtree(self.earlier, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(self.earlier)
        self.partial.rename(self.folder)
        shutil.rmtree(self.earlier, ignore_errors=True)
        return ledger, differences or []
