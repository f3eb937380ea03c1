"""``python -m course site``: executed pages and the texts of ``site/`` as web pages that need no network. Sphinx
does it, in a process of its own; its configuration is ``site/conf.py``."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from course import pages, results
from srlib.errors import DataError, UsageError
from srlib.files import ROOT

TEXTS = ROOT / "site"
FILES = ("results.json", "environment.json", "run.log")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="folder of a run (default: the committed pages)")
    parser.add_argument("--output", default="build/site", metavar="DIR", help="default: build/site")


def main(args: argparse.Namespace) -> int:
    """Build the site, warnings being errors; prints where it is."""
    where, output = Path(args.run).resolve() if args.run else pages.FOLDER, Path(args.output).resolve()
    if not pages.read_all(where):
        raise UsageError(f"{where}: no page of the course is in this folder")
    if problem := build(where, output, demo=True):
        raise DataError(problem)
    print(f"Site: {output / 'index.html'}", flush=True)
    return 0


def build(where: Path, output: Path, *, demo: bool = False) -> str:
    """Write the site of the pages in a folder into ``output``, which may be that folder; with ``demo`` the demo is
    in it and warnings are errors. What went wrong, empty if nothing did."""
    with TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        shutil.copytree(TEXTS, source, ignore=None if demo else shutil.ignore_patterns("try*", "demo"))
        for name in (*(f"{name}.ipynb" for name in pages.NAMES), *FILES):
            if (where / name).exists():
                shutil.copy2(where / name, source)
        shutil.copy2(ROOT / "notebooks" / "result.png", source)
        (source / "results.md").write_text(results_page(source), encoding="utf-8")
        words = [sys.executable, "-m", "sphinx", "-q", "-j", "2", "-d", f"{temporary}/doctrees"]
        words += [*["-W", "--keep-going"] * demo, str(source), str(made := Path(temporary) / "site" / "html")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, cwd=temporary, env=environment, capture_output=True, text=True)
        if made.exists():
            shutil.copytree(made, output, dirs_exist_ok=True)  # myst-nb leaves a folder beside it
    return f"the site could not be built:\n{done.stderr.strip()}" if done.returncode else ""


def results_page(folder: Path) -> str:
    """What the pages in a folder found, as Markdown; of a run also how it was made and what is not as expected."""
    notebooks, rows = pages.read_all(folder), []
    for name, page in notebooks.items():
        done = page.metadata.get("srlib", {"finished": "failed", "wall_seconds": 0})
        when, time = done["finished"][:16].replace("T", " "), results.duration(done["wall_seconds"])
        rows.append((f"[{pages.headings(page)[0][1]}]({name}.ipynb)", when, time))
    parts = [f"# What the pages found\n\n{results.table(('page', 'executed', 'time'), rows)}"]
    ledger, path = results.collect(*notebooks.values()), folder / "environment.json"
    run = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if run.get("data", "sample") == "sample":
        parts.append("The photos are a few bundled ones: the numbers are an illustration, not a verdict.")
    parts.append(f"## The results\n\n{results.table_markdown(results.headline(ledger))}")
    if (differences := run.get("not_as_expected")) is not None:
        parts.append("Not as in `expected/`:" if differences else "All are within the tolerances of `expected/`.")
        parts.append("\n".join(f"* {difference}" for difference in differences))
    parts.append(f"## All that the pages recorded\n\n{results.table_markdown(ledger)}")
    if run:
        parts.append(f"## The environment\n\n```json\n{json.dumps(run, indent=1)}\n```")
        parts.append(" ".join(f"{{download}}`{name}`" for name in FILES if (folder / name).exists()))
    return "\n\n".join(parts) + "\n"
