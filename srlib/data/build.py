"""From photos to their store: ``images.npy`` and ``store.json`` in a folder that is renamed once it is whole."""

import hashlib
import json
import os
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from srlib.data import find, sample
from srlib.data.decode import CROPS_OF, BadPhoto, SmallPhoto, cut, planned
from srlib.data.store import IMAGES, RECORD, SIDE, SPLITS, Store, load
from srlib.errors import DataError, UsageError, known
from srlib.files import printable, resolve

VERSIONS = {"celeba": 1, "folder": 4}  # raised by hand when the same files would give other pixels
STATUS, PHOTO = "photos.npy", np.dtype([("sha1", "u1", 20), ("done", "u1")])  # done: all its rows are written
CHUNK = 32  # photos per task of a thread
FLAT = 2.0  # levels that shrinking by 4 takes from a tile, below which it, of sky or wall, has nothing to teach


def open_store(data: str | Path, runs: str | Path = "runs", crop: str = "center", max_bad: float = 1.0) -> Store:
    """The store of "sample", always tiles, or of a folder, CelebA or any photos; built if ``RUNS/stores`` has none
    of it as it is now. Crops of CelebA: "center" (176 pixels from the middle), "lecture" (178 rows, bilinear to
    176); of other photos: "center" (the middle square, shrunk), "tiles" (all of it, at up to three scales).
    UsageError: as ``find_source``, another crop. DataError: over ``max_bad`` % are unreadable, a full disk."""
    if str(data) != "sample":
        return open_source(find.find_source(data), runs, crop, max_bad)
    known("sample crop", crop, CROPS_OF["folder"])
    return sample.open_sample()


def open_source(source: find.Source, runs: str | Path, crop: str, max_bad: float, verbose: bool = False) -> Store:
    """:func:`open_store` of photos found before; those left out are listed after building, or if ``verbose``."""
    known(f"{source.kind} crop", crop, CROPS_OF[source.kind])
    root = source.root.resolve()
    family = f"{re.sub('[^A-Za-z0-9._-]+', '-', root.name).strip('-.')[:40] or 'photos'}-{crop}"
    state = repr((VERSIONS, crop, source.kind, source.photos, source.bad)).encode(errors="backslashreplace")
    target = resolve(runs) / "stores" / f"{family}-{hashlib.blake2b(state, digest_size=8).hexdigest()}"
    store = load(target)
    if store is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{family}.lock"))
        try:
            held = lock.acquire(blocking=False)
        except Timeout:
            print(f"another process is building {family}: waiting for it", flush=True)
            held = lock.acquire()
        with held:
            if load(target) is None:  # by now the other may have built it
                build_store(source, crop, target, max_bad)
                for other in target.parent.glob(f"{family}-{'[0-9a-f]' * 16}*/"):
                    with suppress(OSError, ValueError):  # a store that was not written whole
                        if other != target and json.loads((other / RECORD).read_bytes())["folder"] == str(root):
                            shutil.rmtree(other, ignore_errors=True)
                            print(f"removed {other.name}: the folder has changed since")
        store, verbose = load(target), True
    assert store is not None  # nobody else removes stores of this folder
    for title, reasons in (("unreadable", store.bad), ("left out", store.skipped)):
        if reasons and verbose:
            print(f"{len(reasons):,} {title}:\n{_listing(reasons, target, title)}")
    return store


def build_store(source: find.Source, crop: str, target: Path, max_bad: float) -> None:
    """Make the store ``target``, or finish it after an interruption. Nobody else may do so at the same time."""
    partial, folder = target.with_name(f"{target.name}.partial"), {"folder": str(source.root.resolve())}
    try:
        shutil.rmtree(target, ignore_errors=True)  # if it is there, it is damaged
        partial.mkdir(exist_ok=True)
        (partial / RECORD).write_text(json.dumps(folder), encoding="utf-8")
        record = folder | _decode(source, crop, partial)
        bad, total = record["bad"], len(source.photos) + len(source.bad)
        if 100 * len(bad) > max_bad * total:
            what = f"{len(bad):,} of {total:,} photos are bad, more than {max_bad:g} %:\n{_listing(bad, target)}"
            todo = f"or: python -m srlib cache --data ... --max-bad {-(-100 * len(bad) // total)}"
            raise DataError(f"{what}\nrepair or remove them, {todo}")
        if max(record["split"], default=-1) < 0:
            reasons = _listing(bad | record["skipped"], target, "left out")
            raise UsageError(f"no usable photos in {printable(source.root)}:\n{reasons}")
        (partial / RECORD).write_text(json.dumps(record), encoding="utf-8")
        os.replace(partial, target)  # now it is whole
    except OSError as error:  # of the disk: those of photos are caught where they are read
        where = f"no store can be written to {partial.parent}: {error.strerror or error}"
        raise DataError(f"{where}; what has been decoded is kept, and the next try goes on from there") from error


def _decode(source: find.Source, crop: str, partial: Path) -> dict:
    """Write all rows that are not written yet; returns what ``store.json`` is to say."""
    photos = sorted(source.photos, key=lambda photo: SPLITS.index(photo.split))  # a split's rows lie together
    bad, skipped = dict(source.bad), dict[str, str]()

    def work(chunk: list[int]) -> None:
        for i in chunk:
            path = photos[i].path
            try:
                data = (source.root / path).read_bytes()
                squares = cut(data, source.kind, crop) if len(data) == photos[i].size else {}
                if list(squares) != ends[i]:
                    raise BadPhoto("changed while the store was being built")
                for row, square in enumerate(squares.values(), first[i]):
                    images[row] = square
                status["sha1"][i] = np.frombuffer(hashlib.sha1(data, usedforsecurity=False).digest(), np.uint8)
                status["done"][i] = 1  # last, and a single byte: a kill leaves it written or not
            except (BadPhoto, OSError) as error:
                reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
                (skipped if isinstance(error, SmallPhoto) else bad)[path] = reason

    # Pillow's remarks on odd files would tear the progress bar; what matters is said in the lists.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor() as pool:
        files = (source.root / photo.path for photo in photos)
        ends = list(pool.map(planned, files)) if crop == "tiles" else [[""]] * len(photos)
        first = np.cumsum([0, *map(len, ends)])
        images, status = _arrays(partial, int(first[-1]), len(photos))
        todo, start = np.flatnonzero(status["done"] == 0).tolist(), perf_counter()
        if before := len(photos) - len(todo):
            print(f"going on after {before:,} of {len(photos):,} photos")
        chunks = [todo[at : at + CHUNK] for at in range(0, len(todo), CHUNK)]
        with tqdm(total=len(photos), initial=before, unit=" photos", desc="decoding", leave=False) as bar:
            try:
                for chunk, _ in zip(chunks, pool.map(work, chunks)):
                    bar.update(len(chunk))
            except KeyboardInterrupt:
                print("interrupted: the same command goes on from here")
                raise
            finally:
                pool.shutdown(cancel_futures=True)
    seconds = perf_counter() - start
    print(f"decoded {len(todo):,} photos in {seconds:.1f} s, {len(todo) / max(seconds, 1e-9):,.0f} photos/s")
    digest = hashlib.blake2b(repr((VERSIONS[source.kind], source.kind, crop)).encode(), digest_size=16)
    codes, seen = np.full(len(photos), -1), set()
    for i in sorted(np.flatnonzero(status["done"]).tolist(), key=lambda i: photos[i].path):
        photo, content = photos[i], status["sha1"][i].tobytes().hex()
        if source.kind == "folder" and content in seen:  # one file under two names must not be in two splits
            skipped[photo.path] = "the same file as another photo"
        else:
            codes[i] = SPLITS.index(photo.split)
            seen.add(content)
            digest.update(f"{photo.path}\0{photo.split}\0{content}\n".encode(errors="backslashreplace"))
    names = [photo.path + end for photo, some in zip(photos, ends) for end in some]
    split = np.repeat(codes, np.diff(first))
    for row in np.flatnonzero(split >= 0) if crop == "tiles" else ():
        blocks = images[row].reshape(3, SIDE // 4, 4, SIDE // 4, 4)
        lost = float(blocks.var(axis=(2, 4), dtype=np.float32).mean()) ** 0.5  # RMS about the means of blocks
        if lost < FLAT:
            split[row], skipped[names[row]] = -1, f"flat: shrinking takes {lost:.1f} levels from it"
    record: dict = {"source": source.kind, "crop": crop, "fingerprint": digest.hexdigest()}
    record |= {"published": source.published, "names": names, "split": split.tolist()}
    return record | {"bad": dict(sorted(bad.items())), "skipped": dict(sorted(skipped.items()))}


def _arrays(partial: Path, rows: int, photos: int) -> list[np.memmap]:
    """The two arrays as an interrupted build left them, or new ones."""
    with suppress(OSError, ValueError, EOFError):
        arrays = [np.load(partial / name, mmap_mode="r+") for name in (IMAGES, STATUS)]
        if [len(array) for array in arrays] == [rows, photos]:
            return arrays
    for name in (STATUS, IMAGES):  # in this order: the first vouches for the second
        (partial / name).unlink(missing_ok=True)
    need, free = rows * 3 * SIDE**2 + (64 << 20), shutil.disk_usage(partial).free  # a little stays free
    if free < need:
        room = f"{need / 1e6:,.0f} MB in {partial.parent}, where {free / 1e6:,.0f} MB are free"
        raise DataError(f"the store needs {room}: make room, or choose another folder by --runs (in a page: RUNS)")
    images = np.lib.format.open_memmap(partial / IMAGES, "w+", np.uint8, (rows, 3, SIDE, SIDE))
    if hasattr(os, "posix_fallocate"):  # or else a disk that fills up meanwhile ends the process
        with open(partial / IMAGES, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, images.offset + images.nbytes)
    return [images, np.lib.format.open_memmap(partial / STATUS, "w+", PHOTO, (photos,))]


def _listing(reasons: dict[str, str], target: Path, title: str = "unreadable") -> str:
    """Photos with reasons, a line each; where there are over 20, all are written to a file beside the store."""
    lines = [f"  {printable(name)}: {reason}" for name, reason in reasons.items()]
    if more := lines[20:]:
        whole = target.with_name(f"{target.name}.{title.replace(' ', '-')}.txt")
        whole.write_text("\n".join(lines) + "\n", encoding="utf-8")
        lines[20:] = [f"  and {len(more):,} more, all of them in {whole}"]
    return "\n".join(lines)
