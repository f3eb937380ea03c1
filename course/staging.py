"""The run folder: built in a staging folder beside it, resumable, put in place only when all is done."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from course import doctor, results
from srlib.errors import UsageError
from course import notebooks as pages
from course.run import Request


class Staging:
    """``<run folder>.partial`` and its notes on which pages are finished.

    Attributes:
        final: the run folder.
        records: the finished pages: when and how long each ran, and the hash of the code that ran.
        fresh: since when trained networks must be, in seconds since 1970; 0 where any will do.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.final = request.folder
        self.folder = self.final.with_name(self.final.name + ".partial")
        self.earlier = self.final.with_name(self.final.name + ".old")
        self.lock = self.final.with_name(self.final.name + ".lock")
        self.log = self.folder / "run.log"
        self.key = _key(request)
        self.records: dict[str, Any] = {}
        self.fresh = 0.0

    def notebook(self, name: str) -> Path:
        return self.folder / f"{name}.ipynb"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No second run in the same folder at the same time.

        Raises:
            UsageError: another one is at it, or the folder holds a run of other photos.
        """
        self.final.parent.mkdir(parents=True, exist_ok=True)
        me = psutil.Process()
        mine = {"pid": me.pid, "started": me.create_time()}
        if self.lock.exists():
            other = json.loads(self.lock.read_text() or "{}")
            try:
                alive = psutil.Process(other.get("pid", -1)).create_time() == other["started"]
            except (psutil.Error, ValueError):
                alive = False
            if alive:
                raise UsageError(f"process {other['pid']} is running this very command; wait for it or stop it")
        results.save_json(self.lock, mine)
        try:
            if self.earlier.exists() and not self.final.exists():
                self.earlier.rename(self.final)  # a run was ended between the two renames of put_in_place
            held = self.finished_run().get("data", self.request.data)
            if held != self.request.data:
                raise UsageError(f"{self.final} holds a run on {held}; choose another --runs")
            self.folder.mkdir(exist_ok=True)
            yield
        finally:
            self.lock.unlink(missing_ok=True)

    def open(self) -> None:
        """Take up what an interrupted run of the same command has finished, or start over."""
        notes = self.folder / "state.json"
        state = json.loads(notes.read_text()) if notes.exists() else {}
        if self.request.fresh or state.get("key") != self.key:
            if state.get("pages") and not self.request.fresh:
                print("An interrupted run is here, but of other code, photos or packages: starting over.")
            for path in self.folder.iterdir():
                if path != self.log:
                    path.unlink()
            state = {"pages": {}, "fresh": time.time() if self.request.fresh else 0.0}
        self.fresh = state["fresh"]
        self.records = {
            name: record
            for name, record in state["pages"].items()
            if self.notebook(name).exists() and record["code_hash"] == _source_hash(name)
        }
        self._save()

    def add(self, name: str, notebook: Any, seconds: float) -> None:
        """Note that a page is finished."""
        self.records[name] = {
            "wall_seconds": round(seconds, 1),
            "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
            "code_hash": pages.code_hash(notebook),
            "peak_memory_gib": doctor.peak_memory_gib(),
        }
        self._save()

    def finished_run(self) -> dict[str, Any]:
        """``environment.json`` of the run that is in place now; empty where there is none."""
        path = self.final / "environment.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def put_in_place(self) -> None:
        """Swap the run folder for the staging folder."""
        (self.folder / "state.json").unlink()
        shutil.rmtree(self.earlier, ignore_errors=True)
        if self.final.exists():
            self.final.rename(self.earlier)
        self.folder.rename(self.final)
        shutil.rmtree(self.earlier, ignore_errors=True)

    def _save(self) -> None:
        results.save_json(
            self.folder / "state.json", {"key": self.key, "fresh": self.fresh, "pages": self.records}
        )


def _key(request: Request) -> str:
    """What makes the pages of an interrupted run usable: settings, photos, packages and the code they call."""
    package = pages.ROOT / "srlib"
    own = {package / "cli.py", package / "__main__.py", package / "doctor.py"}
    files = [f for f in sorted(package.rglob("*.py")) if f not in own and package / "series" not in f.parents]
    digest = hashlib.sha256(json.dumps([request.parameters, request.fingerprint, doctor.versions()]).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _source_hash(name: str) -> str:
    return pages.code_hash(pages.read(pages.folder() / f"{name}.ipynb"))
