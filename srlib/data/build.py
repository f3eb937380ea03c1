"""Building a store: every photo decoded once, on all cores, in an order that does not depend on them.

A store is a folder of two files, ``images.npy`` and ``store.json``. It grows in a folder beside, to which
rows are only ever appended, with a journal that has a line for each finished chunk; when whole it is renamed.
A build that was stopped at any moment goes on after the last whole line. Threads and not processes: decoding
leaves Python's lock free, and sending pixels between processes costs more than the lock does (on 2 cores
7,500 photos/s decoded by threads, 2,900 by processes that hand them over).
"""

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from srlib.data.decode import RULES, BadPhoto, SmallPhoto
from srlib.data.sources import Photo, Source, printable
from srlib.data.store import IMAGES, RECORD, SIDE, SPLITS
from srlib.errors import DataError, UsageError

VERSION = 1  # of the rules by which a photo becomes a row
CHUNK = 32  # photos per task: 3 MB of rows
ROW = 3 * SIDE * SIDE
HEADER = 128  # bytes of an .npy header, whatever N is
SPARE = 64 << 20  # bytes of disk to leave free
JOURNAL = "journal.jsonl"


class Outcome(NamedTuple):
    """What became of one photo: the digest of its bytes, or why it has no row."""

    digest: str = ""
    bad: str = ""
    small: str = ""


@dataclass
class Progress:
    """What the journal says: photos done, the digests of the rows, and the photos without one."""

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
    images, journal = _reopen(partial, source.root)
    with images, journal:
        progress = _read_journal(images, journal, str(source.root.resolve()))
        _need_room(partial, (len(source.photos) - progress.done) * ROW)
        if progress.done:
            print(f"going on after {progress.done:,} of {len(source.photos):,} photos")
        known = set(progress.digests)
        start, before = perf_counter(), progress.done
        bar = tqdm(total=len(source.photos), initial=before, unit=" photos", desc="decoding", leave=False)
        with bar, _quiet():
            for photos, rows, outcomes in _decoded(source, crop, before, workers):
                # one file under two names must not be in two splits
                twice = set() if source.kind == "celeba" else _repeats(outcomes, known)
                kept = [i for i, outcome in enumerate(outcomes) if outcome.digest and i not in twice]
                _write(images, (rows if len(kept) == len(rows) else rows[kept]).reshape(-1).data)
                line = {
                    "done": progress.done + len(photos),
                    "digests": [outcomes[i].digest for i in kept],
                    "bad": {p.path: o.bad for p, o in zip(photos, outcomes) if o.bad},
                    "skipped": {p.path: o.small for p, o in zip(photos, outcomes) if o.small}
                    | {photos[i].path: "the same file as another photo" for i in sorted(twice)},
                }
                _write(journal, memoryview(json.dumps(line).encode() + b"\n"))
                progress.add(line)
                bar.update(len(photos))
        images.seek(0)
        _write_header(images, len(progress.digests))
    seconds, count = perf_counter() - start, progress.done - before
    print(f"decoded {count:,} photos in {seconds:.1f} s, {count / max(seconds, 1e-9):,.0f} photos/s")
    return progress


def _decoded(
    source: Source, crop: str, first: int, workers: int
) -> Iterator[tuple[list[Photo], np.ndarray, list[Outcome]]]:
    """Chunks in order; only a few are in memory at a time, however many photos there are."""
    rule = RULES[source.kind, crop]

    def decode(photos: list[Photo]) -> tuple[list[Photo], np.ndarray, list[Outcome]]:
        rows, outcomes = np.zeros((len(photos), 3, SIDE, SIDE), np.uint8), []
        for row, photo in zip(rows, photos):
            try:
                with open(os.path.join(source.root, photo.path), "rb", buffering=0) as file:
                    data = file.read()
                row[:] = rule(data)
                outcomes.append(Outcome(digest=hashlib.sha1(data, usedforsecurity=False).hexdigest()))
            except SmallPhoto as error:
                outcomes.append(Outcome(small=str(error)))
            except BadPhoto as error:
                outcomes.append(Outcome(bad=str(error)))
            except OSError as error:
                outcomes.append(Outcome(bad=f"cannot be read: {error.strerror or error}"))
        return photos, rows, outcomes

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque = deque()
        try:
            for at in range(first, len(source.photos), CHUNK):
                ahead.append(pool.submit(decode, source.photos[at : at + CHUNK]))
                if len(ahead) > workers + 2:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _repeats(outcomes: list[Outcome], known: set[str]) -> set[int]:
    """Which of these photos have been seen before; ``known`` learns the others."""
    repeats = set()
    for i, outcome in enumerate(outcomes):
        if outcome.digest in known:
            repeats.add(i)
        elif outcome.digest:
            known.add(outcome.digest)
    return repeats


def _reopen(partial: Path, root: Path) -> tuple[BinaryIO, BinaryIO]:
    """The two growing files, new or as an earlier build left them. Unbuffered: what is written is kept even
    if the process is killed in the next moment."""
    for name in (IMAGES, JOURNAL):
        (partial / name).touch()
    images = open(partial / IMAGES, "r+b", buffering=0)  # noqa: SIM115 - the caller closes both
    journal = open(partial / JOURNAL, "r+b", buffering=0)  # noqa: SIM115
    return images, journal


def _read_journal(images: BinaryIO, journal: BinaryIO, folder: str) -> Progress:
    """Take up the journal as far as it is whole and the rows are there, and cut both files to that.

    Its first line names the folder of the photos, so that it is known what a left build was for.
    """
    progress = Progress()
    size = images.seek(0, os.SEEK_END)
    title = json.dumps({"folder": folder}).encode() + b"\n"
    lines = journal.read().splitlines(keepends=True)
    if lines[:1] != [title]:
        lines = []
        journal.seek(0)
        _write(journal, memoryview(title))
    end = len(title)
    for raw in lines[1:]:
        rows = len(progress.digests)
        try:
            line = json.loads(raw)
        except ValueError:
            break  # torn
        # After a power cut the journal may have outlived rows: file systems grow a file after its data.
        if not raw.endswith(b"\n") or size < HEADER + (rows + len(line["digests"])) * ROW:
            break
        progress.add(line)
        end += len(raw)
    journal.truncate(end)
    journal.seek(end)
    images.truncate(HEADER + len(progress.digests) * ROW)
    images.seek(0)
    _write_header(images, 0)
    images.seek(0, os.SEEK_END)
    return progress


def _write(file: BinaryIO, data: memoryview) -> None:
    """All of it: an unbuffered file may take less than it is given."""
    while data:
        data = data[file.write(data) :]


def _write_header(images: BinaryIO, rows: int) -> None:
    """NumPy leaves room in the header for the first axis to grow, so that its length never changes."""
    np.lib.format.write_array_header_1_0(
        images, {"descr": "|u1", "fortran_order": False, "shape": (rows, 3, SIDE, SIDE)}
    )
    if images.tell() != HEADER:
        raise RuntimeError(f"NumPy wrote a header of {images.tell()} bytes instead of {HEADER}")


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
