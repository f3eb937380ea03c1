"""``python -m course``: execute the committed pages in place, and bring the README's tables up to date.

For authors. A page is executed as a reader would run it, with the parameters that stand in it.
"""

import argparse
import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

from course import doctor, results
from srlib.errors import UsageError
from course import notebooks as pages
from course.run import PAGE_LIMIT, check_pages, select
from course.execute import PageFailed, execute, kernel_environment
from course.progress import Progress
from course.report import duration

README = pages.ROOT / "README.md"
# What these pages call their numbers on other photos.
FAR = {"02": "forms", "03": "channels", "04": "heads", "05": "losses"}


def main() -> int:
    """Execute, stamp, rewrite; 1 where a page fails, which leaves that page as it was."""
    parser = argparse.ArgumentParser(prog="python -m course", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NN", help="this page, as in 03; may be given again")
    parser.add_argument("--fresh", action="store_true", help="reuse no trained network")
    parser.add_argument(
        "--expect", type=Path, metavar="RUN_FOLDER", help="instead: make a finished run the reference of expected/"
    )
    args = parser.parse_args()
    if args.expect:
        print(*expect(args.expect), sep="\n")
        return 0
    try:
        names = select(args.only)
        check_pages(names)
        refresh(names, fresh=time.time() if args.fresh else 0.0)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PageFailed as failure:
        print(f"{failure.page} failed in section {failure.section!r}:\n    {failure.error}\n{failure.traceback}")
        return 1
    if README.exists():
        README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
        (pages.folder() / "result.png").write_bytes(picture())
    return 0


def refresh(names: tuple[str, ...], fresh: float = 0.0) -> None:
    """Execute committed pages in place; a page that fails stays as it was.

    The hash of the code and the seconds that it took go into the page's metadata under ``srlib``.

    Raises:
        PageFailed: a cell raised or the time was up.
    """
    sources = {name: pages.folder() / f"{name}.ipynb" for name in names}
    progress = Progress({name: pages.code_cells(pages.read(path)) for name, path in sources.items()})
    scratch = pages.ROOT / "runs"
    scratch.mkdir(exist_ok=True)
    try:
        for name, source in sources.items():
            progress.page(name)
            start = time.monotonic()
            # beside the caches, where git does not look; a broken page stays there to be looked at
            output = scratch / f"{name}.ipynb"
            with (scratch / "notebooks.log").open("a", encoding="utf-8") as log:
                notebook = execute(
                    source,
                    output,
                    {},
                    limit=PAGE_LIMIT["quick"],
                    log=log,
                    env=kernel_environment(fresh),
                    on_cell=progress.cell,
                )
            stamp(notebook, time.monotonic() - start)
            pages.write(source, notebook)
            output.unlink()
            progress.done(name, duration(time.monotonic() - start))
    finally:
        progress.close()


def stamp(notebook: Any, seconds: float) -> None:
    """Note in a page that its outputs are those of its code."""
    notebook.metadata["srlib"] = {"code_hash": pages.code_hash(notebook), "wall_seconds": round(seconds)}


def picture(folder: Path | None = None) -> bytes:
    """The README's picture as PNG: the figure of the one cell that is tagged ``readme``.

    Raises:
        ValueError: no such figure, or more than one.
    """
    found = [
        output.data["image/png"]
        for name in pages.NAMES
        for cell in pages.read((folder or pages.folder()) / f"{name}.ipynb").cells
        if "readme" in cell.metadata.get("tags", ())
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    if len(found) != 1:
        raise ValueError(f"need one figure in a cell tagged readme, found {len(found)}")
    return base64.b64decode(found[0])


def expect(run_folder: Path, expected: Path | None = None) -> list[Path]:
    """Write what a finished run found into ``expected/``; tolerances that stand there stay.

    A run on the sample becomes ``sample-<budget>.json``; of a run on other photos each page that prints such
    numbers gets a file of its own (``FAR``), which names no folder of this machine.
    """
    run = json.loads((run_folder / "environment.json").read_text(encoding="utf-8"))
    ledger = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))
    machine = doctor.in_words(run["machine"], run["versions"]["torch"])
    parts = {f"{run['data_name']}-{run['budget']}.json": (run["command"], ledger)}
    if run["data"] != "sample":
        command = f"python -m srlib run --data FOLDER --budget {run['budget']} --seed {run['seed']} --only"
        parts = {
            f"{run['data_name']}-{topic}.json": (f"{command} {number}", part)
            for number, topic in FAR.items()
            if (part := {key: entry for key, entry in ledger.items() if key.startswith(number + ".")})
        }
    paths = []
    for name, (command, part) in parts.items():
        path = (expected or pages.ROOT / "expected") / name
        earlier = results.load_expected(path) if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        results.save_json(path, results.expect(part, command, machine, earlier))
        paths.append(path)
    return paths


def readme(text: str, folder: Path | None = None) -> str:
    """The README with its two generated tables made from the committed pages."""
    notebooks = {name: pages.read((folder or pages.folder()) / f"{name}.ipynb") for name in pages.NAMES}
    rows = ["| page | title | time on 2 cores |", "|---|---|---:|"]
    for name, notebook in notebooks.items():
        seconds = notebook.metadata["srlib"]["wall_seconds"]
        rows.append(f"| [{name[:2]}](notebooks/{name}.ipynb) | {pages.title(notebook)} | {duration(seconds)} |")
    ledger = results.merge(results.collect(notebook) for notebook in notebooks.values())
    text = results.fill(text, "pages", "\n".join(rows))
    return results.fill(text, "results", results.table_markdown(results.headline(ledger) or ledger))


if __name__ == "__main__":
    sys.exit(main())
