"""A run from its first page to its report."""

import logging
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from course import doctor, results
from course import notebooks as pages
from course import report
from course.run import PAGE_LIMIT, Request
from course.execute import PageFailed, execute, kernel_environment
from course.progress import Progress
from course.staging import Staging

EXPECTED = pages.ROOT / "expected"
_log = logging.getLogger("course")


def run(request: Request) -> int:
    """Execute the pages of a request; the status of the command."""
    staging = Staging(request)
    try:
        with staging.locked():
            with _logging_to(staging.log):
                staging.open()
                _log.info("%s", request.command)
                if failures := _execute_all(request, staging):
                    _explain(failures, staging)
                    return 1
                ledgers, differences = _assemble(request, staging)
            staging.put_in_place()
    except KeyboardInterrupt:
        done = ", ".join(name[:2] for name in staging.records) or "none"
        print(f"\nInterrupted. Pages finished so far: {done}. To go on from there:")
        print(f"    {request.command.replace(' --fresh', '')}", flush=True)
        return 130
    _conclude(request, ledgers, differences)
    return 0


def _execute_all(request: Request, staging: Staging) -> list[PageFailed]:
    sources = {name: pages.folder() / f"{name}.ipynb" for name in request.names}
    cells = {name: pages.code_cells(pages.read(path)) for name, path in sources.items()}
    failures = []
    env = kernel_environment(staging.fresh)
    progress = Progress(cells)
    try:
        for name, source in sources.items():
            if name in staging.records:
                finished = report.when(staging.records[name]["finished"])
                progress.done(name, f"kept, finished at {finished} by the interrupted run")
                continue
            progress.page(name)
            start = time.monotonic()
            try:
                notebook = _execute_one(request, staging, source, progress, env)
            except PageFailed as failure:
                _log.error("%s\n%s", failure, failure.traceback)
                failures.append(failure)
                progress.done(name, f"FAILED after {report.duration(time.monotonic() - start)}")
                if not request.keep_going:
                    break
            else:
                staging.add(name, notebook, time.monotonic() - start)
                progress.done(name, report.duration(time.monotonic() - start))
    finally:
        progress.close()
    return failures


def _execute_one(request: Request, staging: Staging, source: Path, progress: Progress, env: dict[str, str]) -> Any:
    _log.info("page %s", source.stem)
    limit = PAGE_LIMIT[request.budget]
    with staging.log.open("a", encoding="utf-8") as log:
        output = staging.notebook(source.stem)
        return execute(source, output, request.parameters, limit=limit, log=log, env=env, on_cell=progress.cell)


def _assemble(request: Request, staging: Staging) -> tuple[dict[str, results.Ledger], list[results.Difference]]:
    """Write everything but the notebooks: rendered pages, results, environment, index."""
    this_run = staging.records
    before = staging.finished_run().get("pages", {})
    for name in before:
        if name not in this_run:  # --only renews its pages and leaves the others of the finished run
            shutil.copy2(staging.final / f"{name}.ipynb", staging.notebook(name))
    records = {
        name: {**(this_run if name in this_run else before)[name], "this_run": name in this_run}
        for name in pages.NAMES
        if name in this_run or name in before
    }
    for path in staging.folder.glob("*.ipynb"):
        if path.stem not in records:
            path.unlink()  # broken, and not asked for this time
    notebooks = {name: pages.read(staging.notebook(name)) for name in records}
    ledgers = {name: results.collect(notebook) for name, notebook in notebooks.items()}
    titles = {name: pages.title(notebook) for name, notebook in notebooks.items()}
    for name, notebook in notebooks.items():
        html = report.page_html(name, notebook, titles)
        (staging.folder / f"{name}.html").write_text(html, encoding="utf-8")
    merged = results.merge(ledgers.values())
    results.save_json(staging.folder / "results.json", merged)
    run = _environment(request, records)
    results.save_json(staging.folder / "environment.json", run)
    reference, differences = _differences(request, ledgers, merged)
    index = report.index_html(run, notebooks, ledgers, differences, reference)
    (staging.folder / "index.html").write_text(index, encoding="utf-8")
    return ledgers, differences


def _differences(
    request: Request, ledgers: dict[str, results.Ledger], merged: results.Ledger
) -> tuple[str, list[results.Difference]]:
    path = EXPECTED / f"sample-{request.budget}.json"
    if request.data != "sample" or not path.exists():
        return "", []
    expected = results.load_expected(path)
    if f"--seed {request.seed} " not in expected["command"] + " ":
        return "", []  # another seed gives other numbers; how far apart, the pages say
    numbers = {name[:2] for name in ledgers}
    expected["results"] = {key: e for key, e in expected["results"].items() if key[:2] in numbers}
    return f"{expected['command']}; {expected['machine']}", results.compare(merged, expected)


def _environment(request: Request, records: dict[str, Any]) -> dict[str, Any]:
    commit, changed = _commit()
    return {
        "command": request.command,
        "data": request.data,
        "data_name": Path(request.data).name,
        "data_fingerprint": request.fingerprint,
        "budget": request.budget,
        "seed": request.seed,
        "device": request.device.type,
        "commit": commit,
        "uncommitted_changes": changed,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "peak_memory_gib": max((r["peak_memory_gib"] or 0.0 for r in records.values()), default=0.0),
        "machine": doctor.machine(request.device),
        "versions": doctor.versions(),
        "pages": records,
    }


def _commit() -> tuple[str | None, bool | None]:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(pages.ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _explain(failures: list[PageFailed], staging: Staging) -> None:
    print(f"\nThe failed page with its output so far is in {staging.folder}, the tools' messages in run.log.")
    for failure in failures:
        print(f"{failure.page} failed in section {failure.section!r}:\n    {failure.error}", flush=True)


def _conclude(request: Request, ledgers: dict[str, results.Ledger], differences: list[results.Difference]) -> None:
    ledger = results.merge(ledgers.values())
    rows = report.rows(results.headline(ledger) or ledger)
    width, right = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    print()
    for key, value, unit in rows:
        print(f"{key:{width}}  {value:>{right}} {unit}".rstrip())
    for difference in differences:
        print(f"not as expected: {difference}")
    if request.data == "sample":
        print("\nThese numbers describe a few bundled photos: an illustration, not a verdict.")
    print(f"Report: {request.folder / 'index.html'}", flush=True)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Warnings and log lines of all tools go to ``run.log`` instead of the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    _log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()
