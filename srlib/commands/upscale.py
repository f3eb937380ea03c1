"""``python -m srlib upscale``: photos and folders of photos, 4 times as large, beside them or elsewhere.

All names are settled and checked before work starts; then each photo succeeds or fails alone.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from srlib.upscale import photo_files as pictures
from srlib.data import folders
from srlib.data.decode import BadPhoto
from srlib.data.sources import printable
from srlib.errors import DataError, UsageError
from srlib.device import choose_device
from srlib.upscale.enlarge import SCALE, TILE, Enlarger, find_weights, load_network

ENLARGED, COMPARED = f"_x{SCALE}", "_compare"
FAILURES = (BadPhoto, OSError, MemoryError, torch.OutOfMemoryError)  # what a single photo may fail by


class Job(NamedTuple):
    """A photo, where its enlargement goes, and where the comparison goes if one is wanted."""

    photo: Path
    target: Path
    compare: Path | None

    def outputs(self) -> list[Path]:
        """The files that it writes."""
        return [path for path in (self.target, self.compare) if path]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``upscale``."""
    parser.epilog = (
        f"NAME.jpg becomes NAME{ENLARGED}.jpg beside it; JPEG, PNG, WebP and TIFF stay what they are, any other "
        f"format becomes PNG. Folders are searched to the bottom; pictures in them whose names end in {ENLARGED} "
        f"or {COMPARED} are passed over as outputs of earlier runs, unless you name them yourself."
    )
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="a photo, or a folder of photos")
    add("--output", metavar="FILE|FOLDER", help="FILE for one photo, or a FOLDER, made if it is missing")
    add("--model", default="base", metavar="FILE|NAME", help="a model.pt, RUNS/NAME/model.pt, or small or base")
    add("--self-ensemble", action="store_true", help="mean over 8 flips and rotations, 8 times slower")
    add("--tile", type=int, default=TILE, metavar="N", help=f"side of a tile in pixels (default {TILE})")
    add("--compare", action="store_true", help=f"also write NAME{COMPARED}.png: nearest, bicubic, the model")
    add("--force", action="store_true", help="overwrite what is there")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--runs", default="runs", help="where networks of your own are looked for by name")


def main(args: argparse.Namespace) -> int:
    """Enlarge; 0 done, 1 where a photo failed."""
    device = choose_device(args.device)
    network, about = load_network(find_weights(args.model, args.runs))
    enlarger = Enlarger(network, tile=args.tile, device=device, self_ensemble=args.self_ensemble)
    jobs, unreadable = plan(args.photos, args.output, compare=args.compare)
    check(jobs, force=args.force)
    print(f"network: {about}, on {device.type}" + (", self-ensemble" if args.self_ensemble else ""))
    label = Path(args.model).stem if Path(args.model).stem != "model" else Path(args.model).parent.name
    failed: list[str] = []

    def fail(photo: Path, reason: str) -> None:
        failed.append(f"{printable(photo)}: {reason}")
        tqdm.write(f"failed: {failed[-1]}", file=sys.stderr)

    for photo, reason in unreadable.items():
        fail(photo, reason)
    start = time.perf_counter()
    with _ended_cleanly(), tqdm(jobs, unit="photo", leave=False, disable=len(jobs) < 2) as bar:
        for job in bar:
            try:
                line = _enlarge(job, enlarger, label)
            except FAILURES as error:
                fail(job.photo, _reason(error))
            else:
                tqdm.write(line)
    total = len(jobs) + len(unreadable)
    if total > 1:
        print(f"{total - len(failed)} of {total} photos enlarged in {time.perf_counter() - start:.1f} s")
        print(*(f"  failed: {line}" for line in failed), sep="\n", end="\n" if failed else "", file=sys.stderr)
    return 1 if failed else 0


def _enlarge(job: Job, enlarger: Enlarger, label: str) -> str:
    """Do it; the line that says what was done."""
    start = time.perf_counter()
    picture = pictures.suit(pictures.read(job.photo), job.target, SCALE)
    enlarged = enlarger.image(picture.image)
    pictures.write(enlarged, job.target, picture)
    if job.compare:
        sheet = pictures.side_by_side(picture.image, enlarged, label)
        pictures.write(sheet, job.compare, pictures.Picture(sheet, picture.profile))
    size = f"{enlarged.width}x{enlarged.height}, {time.perf_counter() - start:.1f} s"
    return "; ".join([f"{printable(job.target)}: {size}", *picture.notes])


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "does not fit into the memory of the device: choose a smaller --tile"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


@contextmanager
def _ended_cleanly() -> Iterator[None]:
    """``kill`` unwinds as Ctrl-C does, so that a file half written aside is removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---------------------------------------------------------------- before work starts


def plan(photos: list[str], output: str | None, *, compare: bool) -> tuple[list[Job], dict[Path, str]]:
    """What is to be done, each photo once, and what lies in a folder but cannot be opened, with the reason.

    Raises:
        UsageError: no such photo, a folder without photos, or an output that does not fit to them.
    """
    found: dict[Path, tuple[Path, Path]] = {}  # resolved: the photo as given, and its place below a folder
    unreadable: dict[Path, str] = {}
    passed_over = 0
    for given in map(Path, photos):
        if given.is_dir():
            listed, bad = _photos_in(given)
            fresh = [place for place in listed if not place.stem.endswith((ENLARGED, COMPARED))]
            passed_over += len(listed) - len(fresh)
            if not fresh and not bad:
                outputs = f", only {len(listed)} outputs of earlier runs" if listed else ""
                raise UsageError(f"no photos in {printable(given)}{outputs}")
            for place in fresh:
                found.setdefault((given / place).resolve(), (given / place, place.parent))
            unreadable |= {given / place: reason for place, reason in bad.items()}
        elif given.is_file():
            found.setdefault(given.resolve(), (given, Path()))
        else:
            raise UsageError(f"{printable(given)}: no such photo or folder")
    if passed_over:
        print(f"{passed_over} passed over as outputs of earlier runs ({ENLARGED}, {COMPARED})")
    only = len(found) == 1 and not Path(photos[0]).is_dir()
    folder, file = _place(output, only)
    jobs = []
    for photo, below in found.values():
        suffix = photo.suffix if photo.suffix.lower() in pictures.FORMATS else ".png"
        where = photo.parent if folder is None else folder / below
        target = file or where / f"{photo.stem}{ENLARGED}{suffix}"
        jobs.append(Job(photo, target, target.with_name(f"{photo.stem}{COMPARED}.png") if compare else None))
    return jobs, unreadable


def _photos_in(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Photos at any depth, relative to the folder, and what should be photos but cannot be opened."""
    try:
        source = folders.any_folder(folder)
    except PermissionError as error:
        raise UsageError(f"{printable(error.filename or folder)} cannot be listed: permission denied") from None
    return [Path(photo.path) for photo in source.photos], {Path(path): why for path, why in source.bad.items()}


def _place(output: str | None, only: bool) -> tuple[Path | None, Path | None]:
    """``--output`` as a folder or as a file; neither is "beside each photo"."""
    if output is None:
        return None, None
    path = Path(output)
    if path.is_dir() or output.endswith(("/", os.sep)) or not path.suffix:
        if path.exists() and not path.is_dir():
            raise UsageError(f"--output {printable(path)} is a file without a picture's ending: name a folder")
        return path, None
    if path.suffix.lower() not in pictures.FORMATS:
        endings = ", ".join(pictures.FORMATS)
        raise UsageError(f"--output {printable(path)}: as a file it must end in {endings}; as a folder, in /")
    if not only:
        raise UsageError(f"--output {printable(path)} is one file: for a folder or several photos name a folder")
    return None, path


def check(jobs: list[Job], *, force: bool) -> None:
    """Make the folders, and refuse whatever would lose a file.

    Raises:
        UsageError: two photos would become one file, or a file is there already.
        DataError: a folder cannot be written to.
    """
    inputs = {job.photo.resolve() for job in jobs}
    owner: dict[Path, Path] = {}
    there = []
    for job in jobs:
        for path in job.outputs():
            if first := owner.get(path.resolve()):
                names = ", ".join(map(printable, dict.fromkeys((first, job.photo))))
                raise UsageError(f"{printable(path)} would be written twice ({names}): give them one by one")
            owner[path.resolve()] = job.photo
            if path.is_dir():
                raise UsageError(f"{printable(path)} is a folder: choose another --output")
            if path.resolve() in inputs:
                raise UsageError(f"{printable(path)} is one of the photos themselves: choose another --output")
            if os.path.lexists(path):
                there.append(path)
    if there and not force:
        names = ", ".join(printable(path) for path in there[:3]) + (", ..." if len(there) > 3 else "")
        raise UsageError(f"already there: {names} ({len(there)} in all): add --force, or --output elsewhere")
    for folder in dict.fromkeys(path.parent for job in jobs for path in job.outputs()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise DataError(f"cannot write to {printable(folder)} ({error.strerror}): try --output") from None
