"""Photos in a folder: CelebA (Liu et al., ICCV 2015) as its authors, torchvision or Kaggle lay it out, or any."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from srlib.data import decode, store
from srlib.errors import UsageError
from srlib.files import printable

# Extensions and first bytes that promise a photo, but not TIFF's bytes: most cameras' raw files begin so too.
PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".avif",
            ".ppm", ".pgm", ".pbm", ".heic", ".heif", ".tga")  # fmt: skip
MAGIC = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|P[56]\n|RIFF....WEBP", re.DOTALL)
FACES, PARTITIONS = "img_align_celeba", ("list_eval_partition.csv", "list_eval_partition.txt")
FACE = re.compile(r"(.*/)?\d{6}\.(jpg|png)", re.IGNORECASE)
ORIGIN = "CelebA is at mmlab.ie.cuhk.edu.hk/projects/CelebA.html and kaggle.com (jessicali9530/celeba-dataset)"


class PhotoFile(NamedTuple):
    """A file to decode, and what tells that it changed."""

    path: str  # relative to the source's root, with /
    split: str
    size: int
    modified: int  # nanoseconds
    mode: int


@dataclass
class Source:
    """What was found in a folder."""

    kind: str  # "celeba" or "folder"
    root: Path  # where the paths of the photos start
    photos: list[PhotoFile] = field(default_factory=list)  # sorted by path
    bad: dict[str, str] = field(default_factory=dict)  # photos that cannot be read, with the reason
    other: Counter[str] = field(default_factory=Counter)  # files that promise no photo, by extension
    published: dict[str, int] = field(default_factory=dict)  # photos per split, by CelebA's partition file


def find_source(folder: str | Path) -> Source:
    """The photos of a folder. UsageError: no folder, no photos, CelebA without its list. OSError: not readable."""
    root = Path(os.path.expanduser(folder)).absolute()
    if not root.is_dir():
        raise UsageError(f'there is no folder {printable(root)}: give a folder of photos, or "sample"')
    files = dict(_walk(root, "", set()))
    source = _celeba(root, files) or _sort(files, split_of, Source("folder", root))
    if not source.photos:
        seen = ", ".join(f"{count} {ending}" for ending, count in source.other.most_common(5)) or "nothing"
        unusable = f"; {len(source.bad)} unusable" if source.bad else ""
        raise UsageError(f"no photos in {printable(source.root)}; found {seen}{unusable}")
    return source


def any_folder(root: Path) -> Source:
    """The photos below a folder, if any, whatever they are. Raises OSError."""
    return _sort(dict(_walk(root, "", set())), split_of, Source("folder", root))


def split_of(path: str) -> str:
    """The split of a photo in any folder, by a hash of its relative path: 80 % train, 10 % val, 10 % test. So it
    stays there however the folder grows. Systems agree on Unicode's composed form (NFC)."""
    plain = unicodedata.normalize("NFC", path).encode(errors="surrogatepass")
    place = int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "big") / 2**64
    return "train" if place < 0.8 else "val" if place < 0.9 else "test"


def _walk(folder: Path | str, prefix: str, seen: set[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All files below a folder by their relative paths; linked folders are followed, each folder once."""
    if (place := os.path.realpath(folder)) in seen:
        return
    seen.add(place)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not (os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()):  # a link may lead to itself
                yield prefix + entry.name, entry
            elif not entry.name.startswith(".") and entry.name != "__MACOSX":
                yield from _walk(entry.path, f"{prefix}{entry.name}/", seen)


def _celeba(root: Path, files: dict[str, os.DirEntry[str]]) -> Source | None:
    """CelebA, if it is there: photos where most have names like 000001.jpg, best in img_align_celeba, and its list
    anywhere below ``root``, or up to two folders above the photos. UsageError for one without the other.
    A new layout goes here and into LAYOUTS of tests/test_data_photos.py."""
    faces = [path for path in files if FACE.fullmatch(path)]
    partitions = [root / path for path in files if path.endswith(PARTITIONS)]
    if not faces and partitions:
        raise UsageError(f"no photos like 000001.jpg: put the photos beside {printable(partitions[0])}; {ORIGIN}")
    if not faces:
        return None
    folders = Counter(path.rpartition("/")[0] for path in faces)
    inside = max(folders, key=lambda folder: (FACES in folder, folders[folder]))
    source = Source("celeba", root / inside)
    partitions += [folder / name for folder in source.root.parents[:2] for name in PARTITIONS]
    if partition := next(filter(Path.is_file, partitions), None):
        table, unlisted = _read_partition(partition), f"not listed in {partition.name}"
        source.published = {split: [*table.values()].count(split) for split in store.SPLITS}
        here = {entry.name: entry for path, entry in files.items() if path.rpartition("/")[0] == inside}
        return _sort(here, lambda name: table.get(name.rpartition(".")[0], unlisted), source)
    certain = FACES in source.root.name
    with suppress(OSError, decode.BadPhoto), decode.opened((root / faces[0]).read_bytes()) as image:
        certain |= source.root == root and image.size == decode.ALIGNED
    if certain:
        raise UsageError(f"beside {printable(source.root)} its {PARTITIONS[0]} (or .txt) is missing: {ORIGIN}")
    return None


def _read_partition(path: Path) -> dict[str, str]:
    """CelebA's official split: names without extension to "train", "val" or "test". UsageError: a wrong line."""
    table: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        words = line.replace(",", " ").split()
        if len(words) == 2 and words[1] in ("0", "1", "2"):
            table[words[0].rpartition(".")[0]] = store.SPLITS[int(words[1])]
        elif words and (number > 1 or words[0] != "image_id"):
            raise UsageError(f"{printable(path)}, line {number}: {line[:60]!r} is no photo's name and 0, 1 or 2")
    if not table:
        raise UsageError(f"{printable(path)} is empty: {ORIGIN}")
    return table


def _sort(files: dict[str, os.DirEntry[str]], split: Callable[[str], str], source: Source) -> Source:
    """Put files among the photos of a source, the bad ones, or the others; a split may be the reason why not."""
    for path, entry in sorted(files.items()):
        ending = os.path.splitext(entry.name)[1].lower()
        promising = ending in PICTURES
        if not (promising or entry.name.startswith(".")):
            with suppress(OSError), open(entry.path if entry.is_file() else os.devnull, "rb") as file:  # no pipe
                promising = MAGIC.match(file.read(12)) is not None
        if entry.name.startswith(".") or not promising:
            source.other[ending or "without extension"] += 1
            continue
        chosen = split(path)
        try:
            found = entry.stat()
            if chosen in store.SPLITS and not entry.is_file():
                chosen = "neither a file nor a folder"
        except OSError as error:
            chosen = "a link to nothing" if entry.is_symlink() else f"cannot be read: {error.strerror}"
        if chosen in store.SPLITS:
            source.photos.append(PhotoFile(path, chosen, found.st_size, found.st_mtime_ns, found.st_mode))
        else:
            source.bad[path] = chosen
    return source
