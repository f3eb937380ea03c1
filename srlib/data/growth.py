"""A store while it grows: rows are appended to one file, and a journal beside it says how far they are good.

Both files are unbuffered, rows are written before their line in the journal, and nothing written is changed
later: a process may be killed at any moment, and the next one goes on after the last whole line.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from srlib.data.store import IMAGES, SIDE

JOURNAL = "journal.jsonl"
ROW = 3 * SIDE * SIDE  # bytes
HEADER = 128  # bytes of the .npy header, whatever N is


@dataclass
class Progress:
    """What the journal says: photos done, the digests of those with a row, and the reasons of the others."""

    done: int = 0
    digests: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Take in one line of the journal."""
        self.done = line["done"]
        self.digests += line["digests"]
        self.bad |= line["bad"]
        self.skipped |= line["skipped"]


class Growth:
    """The two files in ``folder``, opened where an earlier build left them, or new.

    Args:
        photos: the folder that the photos come from; the journal's first line names it, so that it is
            known what an abandoned build was for.
    """

    def __init__(self, folder: Path, photos: Path) -> None:
        self.progress = Progress()
        for name in (IMAGES, JOURNAL):
            (folder / name).touch()
        self._images: BinaryIO = open(folder / IMAGES, "r+b", buffering=0)  # noqa: SIM115 - see __exit__
        self._journal: BinaryIO = open(folder / JOURNAL, "r+b", buffering=0)  # noqa: SIM115
        self._take_up(json.dumps({"folder": str(photos.resolve())}).encode() + b"\n")

    def __enter__(self) -> "Growth":
        return self

    def __exit__(self, *_: object) -> None:
        self._images.close()
        self._journal.close()

    def append(self, rows: np.ndarray, line: dict[str, Any]) -> None:
        """Rows, uint8 ``[n, 3, 176, 176]``, and then the line that vouches for them."""
        _write(self._images, rows.reshape(-1).data)
        _write(self._journal, memoryview(json.dumps(line).encode() + b"\n"))
        self.progress.add(line)

    def finish(self) -> None:
        """Write the number of rows into the header: the file is a plain .npy from now on."""
        self._images.seek(0)
        self._write_header(len(self.progress.digests))

    def _take_up(self, title: bytes) -> None:
        """Read the journal as far as it is whole and its rows are there, and cut both files to that."""
        lines = self._journal.read().splitlines(keepends=True)
        if lines[:1] != [title]:
            lines = [title]
            self._journal.seek(0)
            _write(self._journal, memoryview(title))
        end, size = len(title), self._images.seek(0, os.SEEK_END)
        for raw in lines[1:]:
            try:
                line = json.loads(raw)
            except ValueError:
                break  # torn
            # After a power cut the journal may have outlived rows: file systems grow a file after its data.
            if (
                not raw.endswith(b"\n")
                or size < HEADER + (len(self.progress.digests) + len(line["digests"])) * ROW
            ):
                break
            self.progress.add(line)
            end += len(raw)
        self._journal.truncate(end)
        self._journal.seek(end)
        self._images.truncate(HEADER + len(self.progress.digests) * ROW)
        self._images.seek(0)
        self._write_header(0)
        self._images.seek(0, os.SEEK_END)

    def _write_header(self, rows: int) -> None:
        """NumPy leaves room in the header for the first axis to grow, so that its length never changes."""
        np.lib.format.write_array_header_1_0(
            self._images, {"descr": "|u1", "fortran_order": False, "shape": (rows, 3, SIDE, SIDE)}
        )
        if self._images.tell() != HEADER:
            raise RuntimeError(f"NumPy wrote a header of {self._images.tell()} bytes instead of {HEADER}")


def _write(file: BinaryIO, data: memoryview) -> None:
    """All of it: an unbuffered file may take less than it is given."""
    while data:
        data = data[file.write(data) :]
