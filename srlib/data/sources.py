"""What a listing of photos is, before anything is decoded: files with their splits."""

import hashlib
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# Extensions that promise a photo. A file with another one is a photo all the same if its first bytes say so.
PICTURES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".avif",
        ".heic",
        ".heif",
        ".tga",
    ]
)


class Photo(NamedTuple):
    """A file to decode: its path relative to the source's root, with /, and what tells that it changed."""

    path: str
    split: str
    size: int
    modified: int  # nanoseconds
    mode: int


@dataclass
class Source:
    """What was found in a folder.

    Attributes:
        kind: "celeba" or "folder".
        root: where the paths of the photos start.
        photos: sorted by path.
        bad: what should be a photo but cannot be opened as one, path to reason.
        other: files that promise no photo and are left alone, extension to count.
        published: for CelebA, how many photos of each split its partition file lists.
    """

    kind: str
    root: Path
    photos: list[Photo] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    other: Counter[str] = field(default_factory=Counter)
    published: dict[str, int] = field(default_factory=dict)

    def key(self, crop: str) -> str:
        """Changes with any photo's name, size, time, mode or split, and with the crop. Cheap: no file is read."""
        digest = hashlib.blake2b(digest_size=8)
        for photo in self.photos:
            digest.update(f"{photo}\n".encode(errors="backslashreplace"))
        digest.update(repr((self.kind, crop, sorted(self.bad.items()))).encode(errors="backslashreplace"))
        return digest.hexdigest()


def examine(entry: os.DirEntry[str], path: str, split: str, source: Source) -> None:
    """Put a directory entry among the source's photos, or among the bad ones with the reason."""
    try:
        found = entry.stat()
    except OSError as error:
        source.bad[path] = "a link to nothing" if entry.is_symlink() else f"cannot be read: {error.strerror}"
        return
    if stat.S_ISREG(found.st_mode):
        source.photos.append(Photo(path, split, found.st_size, found.st_mtime_ns, found.st_mode))
    else:
        source.bad[path] = "neither a file nor a folder"


def printable(name: str | Path) -> str:
    """A file's name for the screen: bytes that are no UTF-8 are shown as \\xNN."""
    return os.fsencode(name).decode(errors="backslashreplace") if os.name != "nt" else str(name)
