"""Building a store: every photo decoded once, on all cores, in an order that does not depend on them.

A store is a folder of two files, ``images.npy`` and ``store.json``. It grows in a folder beside that is renamed
when the store is whole.

Threads and not processes: decoding leaves Python's lock free, and sending pixels between processes costs more
than the lock does (on 2 cores 7,500 photos/s decoded by threads, 2,900 by processes that hand them over). A
thread that has decoded a chunk also writes it, or leaves that to the thread that is just writing.
"""

import hashlib
import json
import os
import shutil
import threading
import warnings
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from srlib.data.decode import RULES, BadPhoto, SmallPhoto
from srlib.data.growth import JOURNAL, ROW, Growth, Progress
from srlib.data.sources import Photo, Source, printable
from srlib.data.store import RECORD, SIDE, SPLITS
from srlib.errors import DataError, UsageError

VERSION = 1  # of the rules by which a photo becomes a row
CHUNK = 32  # photos per task: 3 MB of rows
SPARE = 64 << 20  # bytes of disk to leave free


class Outcome(NamedTuple):
    """What became of one photo: the digest of its bytes, or why it has no row."""

    digest: str = ""
    bad: str = ""
    small: str = ""


def build(source: Source, crop: str, target: Path, max_bad: float, workers: int | None = None) -> None:
    """Make the store ``target``, or finish making it. The caller holds the lock.

    Args:
        max_bad: percentage of photos that may be unreadable.
        workers: threads; by default one for each core.

    Raises:
        DataError: too many bad photos, or not enough room on the disk.
    """
    partial = target.with_name(target.name + ".partial")
    if target.exists():  # but not usable, or nobody would have called
        shutil.rmtree(target)
    partial.mkdir(parents=True, exist_ok=True)
    if not (partial / RECORD).exists():
        try:
            progress = _decode_all(source, crop, partial, workers or _cores())
        except OSError as error:  # of the disk: those of photos are caught where they are read
            raise DataError(
                f"the store cannot be written to {partial.parent}: {error.strerror or error}; what has been "
                "decoded is kept, and the next try goes on from there"
            ) from error
        bad = {**source.bad, **progress.bad}
        _judge(bad, len(source.photos) + len(source.bad), max_bad, partial)
        _write_record(source, crop, partial, progress, bad)
    os.replace(partial, target)
    (target / JOURNAL).unlink(missing_ok=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_all(source: Source, crop: str, partial: Path, workers: int) -> Progress:
    """Append the rows of all photos that have none yet."""
    with Growth(partial, source.root) as growth:
        total, before = len(source.photos), growth.progress.done
        _need_room(partial, (total - before) * ROW)
        if before:
            print(f"going on after {before:,} of {total:,} photos")
        assembly, start = _Assembly(source, crop, growth), perf_counter()
        bar = tqdm(total=total, initial=before, unit=" photos", desc="decoding", leave=False)
        with bar, _quiet(), ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            ahead: deque = deque()
            try:
                for at in range(before, total, CHUNK):
                    ahead.append(pool.submit(assembly.work, at))
                    if len(ahead) > 2 * workers:  # no more in memory, however many photos there are
                        bar.update(ahead.popleft().result())
                while ahead:
                    bar.update(ahead.popleft().result())
            finally:
                pool.shutdown(cancel_futures=True)
        growth.finish()
    seconds, count = perf_counter() - start, total - before
    print(f"decoded {count:,} photos in {seconds:.1f} s, {count / max(seconds, 1e-9):,.0f} photos/s")
    return growth.progress


class _Assembly:
    """What the threads share: finished chunks, until those before them are finished and written."""

    def __init__(self, source: Source, crop: str, growth: Growth) -> None:
        self.photos, self.growth = source.photos, growth
        self.rule, self.root = RULES[source.kind, crop], os.path.join(source.root, "")
        # Of other folders than CelebA's: one file under two names must not be in two splits.
        self.known = None if source.kind == "celeba" else set(growth.progress.digests)
        self.ready: dict[int, tuple[list[Photo], np.ndarray, list[Outcome]]] = {}
        self.used: deque[np.ndarray] = deque()  # arrays to use again: new memory costs as much as a hash
        self.writing = threading.Lock()

    def work(self, at: int) -> int:
        """Decode the chunk that starts at a photo; then write all chunks whose turn it is."""
        photos = self.photos[at : at + CHUNK]
        self.ready[at] = (photos, *self._decode(photos))
        while self.growth.progress.done in self.ready and self.writing.acquire(blocking=False):
            try:
                while chunk := self.ready.pop(self.growth.progress.done, None):
                    self._append(*chunk)
            finally:
                self.writing.release()
        return len(photos)

    def _decode(self, photos: list[Photo]) -> tuple[np.ndarray, list[Outcome]]:
        try:
            rows = self.used.pop()
        except IndexError:
            rows = np.empty((CHUNK, 3, SIDE, SIDE), np.uint8)
        outcomes = []
        for row, photo in zip(rows, photos):
            try:
                data = _read(self.root + photo.path, photo.size)
                row[:] = self.rule(data)
                outcomes.append(Outcome(digest=hashlib.sha1(data, usedforsecurity=False).hexdigest()))
            except SmallPhoto as error:
                outcomes.append(Outcome(small=str(error)))
            except BadPhoto as error:
                outcomes.append(Outcome(bad=str(error)))
            except OSError as error:
                outcomes.append(Outcome(bad=f"cannot be read: {error.strerror or error}"))
        return rows, outcomes

    def _append(self, photos: list[Photo], rows: np.ndarray, outcomes: list[Outcome]) -> None:
        twice = set() if self.known is None else _repeats(outcomes, self.known)
        kept = [i for i, outcome in enumerate(outcomes) if outcome.digest and i not in twice]
        line = {
            "done": self.growth.progress.done + len(photos),
            "digests": [outcomes[i].digest for i in kept],
            "bad": {p.path: o.bad for p, o in zip(photos, outcomes) if o.bad},
            "skipped": {p.path: o.small for p, o in zip(photos, outcomes) if o.small}
            | {photos[i].path: "the same file as another photo" for i in sorted(twice)},
        }
        self.growth.append(rows[: len(kept)] if len(kept) == len(photos) else rows[kept], line)
        self.used.append(rows)


def _read(path: str, size: int) -> bytes:
    """A file in one gulp: half the system calls, and half the fights over Python's lock, of ``open().read()``."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(file, size + 1)
    finally:
        os.close(file)
    if len(data) != size:
        raise BadPhoto("changed while the store was being built")
    return data


def _repeats(outcomes: list[Outcome], known: set[str]) -> set[int]:
    """Which of these photos have been seen before; ``known`` learns the others."""
    repeats = set()
    for i, outcome in enumerate(outcomes):
        if outcome.digest in known:
            repeats.add(i)
        elif outcome.digest:
            known.add(outcome.digest)
    return repeats


def _need_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise DataError(
            f"the store needs {(size + SPARE) / 1e6:,.0f} MB in {folder.parent}, where {free / 1e6:,.0f} MB are "
            "free: make room, or choose another folder by --runs (in a page: RUNS)"
        )


def _quiet() -> warnings.catch_warnings:
    """Pillow's remarks on odd files would tear the progress bar; what matters is said in the list."""
    return warnings.catch_warnings(action="ignore")


def _judge(bad: dict[str, str], of: int, max_bad: float, partial: Path) -> None:
    """Stop if too many photos are bad. What is decoded stays, for a second try with a higher limit."""
    if 100 * len(bad) > max_bad * of:
        shown = listing(bad, partial.with_suffix(".unreadable.txt"))
        raise DataError(
            f"{len(bad):,} of {of:,} photos are bad, more than {max_bad:g} %:\n{shown}\n"
            "repair or remove them, or build the store with a higher limit: "
            f"python -m srlib cache --data ... --max-bad {-(-100 * len(bad) // of)}"
        )


def listing(reasons: Mapping[str, str], whole: Path, most: int = 20) -> str:
    """Photos with reasons, a line each; where there are many, all of them are written to the file ``whole``."""
    lines = [f"  {printable(name)}: {reason}" for name, reason in reasons.items()]
    if len(lines) <= most:
        return "\n".join(lines)
    whole.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "\n".join([*lines[:most], f"  and {len(lines) - most:,} more, all of them in {whole}"])


def _write_record(source: Source, crop: str, partial: Path, progress: Progress, bad: dict[str, str]) -> None:
    """``store.json``, written last: with it the store is whole."""
    absent = progress.bad.keys() | progress.skipped.keys()
    photos = [photo for photo in source.photos if photo.path not in absent]
    if not photos:
        reasons = Counter({**bad, **progress.skipped}.values()).most_common(3)
        raise UsageError(f"no usable photos in {printable(source.root)}: {'; '.join(r for r, _ in reasons)}")
    digest = hashlib.blake2b(repr((VERSION, source.kind, crop)).encode(), digest_size=16)
    for photo, content in zip(photos, progress.digests):
        digest.update(f"{photo.path}\0{photo.split}\0{content}\n".encode(errors="backslashreplace"))
    record = {
        "source": source.kind,
        "crop": crop,
        "folder": str(source.root.resolve()),
        "fingerprint": digest.hexdigest(),
        "published": source.published,
        "bad": bad,
        "skipped": progress.skipped,
        "names": [photo.path for photo in photos],
        "split": [SPLITS.index(photo.split) for photo in photos],
    }
    aside = partial / (RECORD + ".new")
    aside.write_text(json.dumps(record), encoding="utf-8")
    os.replace(aside, partial / RECORD)
