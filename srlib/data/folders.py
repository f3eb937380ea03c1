"""What lies in a folder: CelebA in one of its layouts, or just photos. Nothing is decoded here."""

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from srlib.data import celeba
from srlib.data.sources import PICTURES, Source, examine, printable
from srlib.errors import UsageError

MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"P6\n", b"P5\n")


def find_source(folder: str | Path) -> Source:
    """Look at a folder and list its photos.

    Raises:
        UsageError: no such folder, no photos in it, or a CelebA without its partition file.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise UsageError(f'no folder {printable(root)}: give a folder of photos, or "sample"')
    if not root.is_dir():
        raise UsageError(f"{printable(root)} is a file: give the folder that holds the photos")
    try:
        source = celeba.find(root) or any_folder(root)
    except PermissionError as error:
        raise UsageError(f"{printable(error.filename or root)} cannot be listed: permission denied") from None
    if not source.photos:
        seen = ", ".join(f"{count} {ending}" for ending, count in source.other.most_common(5)) or "nothing"
        unusable = f"; {len(source.bad)} unusable" if source.bad else ""
        raise UsageError(f"no photos in {printable(source.root)}; found {seen}{unusable}")
    return source


def split_of(path: str) -> str:
    """The split of a photo in any folder: a hash of its relative path, 80 % train, 10 % val, 10 % test.

    It depends on nothing else, so a photo stays where it is however the folder grows. The path is taken
    with / and in Unicode's composed form (NFC), in which macOS, Linux and Windows agree.
    """
    plain = unicodedata.normalize("NFC", path).encode(errors="surrogatepass")
    place = int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "big") / 2**64
    return "train" if place < 0.8 else "val" if place < 0.9 else "test"


def any_folder(root: Path) -> Source:
    source = Source("folder", root)
    for path, entry in _walk(root, "", set()):
        ending = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith(".") or not (ending in PICTURES or _looks_like_photo(entry)):
            source.other[ending or "without extension"] += 1
        else:
            examine(entry, path, split_of(path), source)
    source.photos.sort()
    return source


def _walk(folder: Path | str, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All files below a folder with their relative paths; linked folders are followed, each folder once."""
    at = os.stat(folder)
    if at.st_ino and (at.st_dev, at.st_ino) in seen:
        return
    seen.add((at.st_dev, at.st_ino))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.is_dir():
                yield prefix + entry.name, entry
            elif not entry.name.startswith(".") and entry.name != "__MACOSX":
                yield from _walk(entry.path, f"{prefix}{entry.name}/", seen)


def _looks_like_photo(entry: os.DirEntry[str]) -> bool:
    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith(MAGIC) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")
