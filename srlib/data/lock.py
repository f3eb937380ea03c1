"""One process at a time, on every system: a lock that its owner's death releases."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if os.name == "nt":
    import msvcrt

    def _try(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock on ``path`` for the block; print ``waiting`` once if another process has it first.

    The file stays behind, empty: removing it would let two processes hold locks on two files of one name.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try(fd):
            print(waiting, flush=True)
            while not _try(fd):
                time.sleep(0.1)
        yield
    finally:
        os.close(fd)
