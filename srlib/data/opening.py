"""From the name of some photos to their store: found in ``RUNS/stores/``, or built there first."""

import json
import re
import shutil
from pathlib import Path

from srlib.data.build import build, listing
from srlib.data.folders import find_source
from srlib.data.growth import JOURNAL
from srlib.data.lock import locked
from srlib.data.sample import open_sample
from srlib.data.sources import Source, printable
from srlib.data.store import CROPS, RECORD, Store, load
from srlib.errors import UsageError

MAX_BAD = 1.0  # percent


def open_store(
    data: str | Path, runs: str | Path = "runs", crop: str = "center", *, max_bad: float = MAX_BAD
) -> Store:
    """The store of ``data``, built first where there is none, or none of the folder as it is now.

    Args:
        data: "sample", or a folder of photos: CelebA in any layout, or anything else.
        runs: where stores are kept, in ``RUNS/stores/``.
        crop: "center": of CelebA 176 x 176 from the middle, of other photos the middle square shrunk to
            that; "lecture": of CelebA the middle 178 rows, bilinear to 176. The sample is always tiles.
        max_bad: percentage of photos that may be unreadable; they are listed and left out.

    Raises:
        UsageError: no such folder, no photos in it, CelebA without its partition file, or a crop that
            these photos do not have.
        DataError: too many bad photos, or no room on the disk.
    """
    if crop not in CROPS:
        raise UsageError(f"unknown crop {crop!r}: choose from {', '.join(CROPS)}")
    if str(data) == "sample":
        if crop != "center":
            raise UsageError(f"the crop {crop!r} is for CelebA; the sample is cut into tiles: leave it out")
        return open_sample()
    return open_source(find_source(data), runs, crop, max_bad)


def open_source(
    source: Source, runs: str | Path, crop: str, max_bad: float = MAX_BAD, tell: bool = False
) -> Store:
    """The store of photos that have been found already; see :func:`open_store`. What is not in the store is
    listed when it has been built, and with ``tell`` always."""
    if source.kind != "celeba" and crop != "center":
        raise UsageError(
            f"the crop {crop!r} is for CelebA, and {printable(source.root)} is not: leave it out, or take center"
        )
    stores = Path(runs).expanduser() / "stores"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.root.resolve().name).strip("-.") or "photos"
    family = f"{name[:40]}-{crop}"
    target = stores / f"{family}-{source.key(crop)}"
    store = load(target)
    if store is None:
        stores.mkdir(parents=True, exist_ok=True)
        with locked(stores / f"{family}.lock", f"another process is building {family}: waiting for it"):
            store = load(target)  # by now another process may have built it
            if store is None:
                build(source, crop, target, max_bad)
                store = load(target)
                _remove_older(stores, family, target, source)
                tell = True
    if tell:
        _tell(store, target)
    return store


def _remove_older(stores: Path, family: str, target: Path, source: Source) -> None:
    """Stores of earlier states of the same folder are of no more use, and large."""
    for other in stores.glob(f"{family}-*"):
        if other != target and other.is_dir() and _folder_of(other) == str(source.root.resolve()):
            shutil.rmtree(other, ignore_errors=True)
            print(f"removed {other.name}: the folder has changed since")


def _folder_of(store: Path) -> str | None:
    """The folder that a store was made from; of one that never became whole, by its journal."""
    for file in (RECORD, JOURNAL):
        try:
            with open(store / file, "rb") as lines:
                return json.loads(lines.readline())["folder"]
        except (OSError, ValueError, KeyError):
            continue
    return None


def _tell(store: Store, target: Path) -> None:
    """Print which photos are not in a store, and why."""
    for title, reasons in (("unreadable", store.bad), ("left out", store.skipped)):
        if reasons:
            whole = target.with_name(f"{target.name}.{title.replace(' ', '-')}.txt")
            print(f"{len(reasons):,} {title}:\n{listing(reasons, whole)}")
