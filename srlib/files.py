"""Files and folders: written whole or not at all, and resolved the same way everywhere."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srlib.errors import UsageError

_HOME = Path(__file__).resolve().parent.parent
ROOT = _HOME if (_HOME / "pyproject.toml").exists() else Path.cwd()  # the checkout; without one, where we are


def resolve(path: str | Path) -> Path:
    """``RUNS``, ``--runs`` and ``--out`` as a path; a relative one counts from ROOT, in pages too."""
    return Path(os.path.realpath(ROOT / os.path.expanduser(path)))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to, renamed to it when the block ends well: it is never half a file. A link
    stays, and what it points to is replaced. UsageError for what is there and is no file."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is there, and is no file")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}-{path.name[-60:]}")  # names have a limit; the ending is kept
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all; what is no UTF-8 in names is escaped."""
    with atomic(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8", "backslashreplace")


def printable(name: str | Path) -> str:
    """A file's name for the screen: bytes that are no UTF-8 are shown as \\xNN."""
    return os.fsencode(name).decode(errors="backslashreplace") if os.name != "nt" else str(name)
