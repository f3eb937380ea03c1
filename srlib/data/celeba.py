"""CelebA as people have it: as published, as torchvision or Kaggle unpack it, whole or in part."""

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from srlib.data.decode import ALIGNED
from srlib.data.sources import PICTURES, Source, examine, printable
from srlib.data.store import SPLITS
from srlib.errors import DataError, UsageError

# Liu, Luo, Wang and Tang, ICCV 2015; the sizes of its official splits, 202,599 photos together.
PUBLISHED = {"train": 162_770, "val": 19_867, "test": 19_962}
PHOTOS = "img_align_celeba"
PARTITIONS = ("list_eval_partition.csv", "list_eval_partition.txt")
HOME = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
KAGGLE = "https://www.kaggle.com/datasets/jessicali9530/celeba-dataset"
_NUMBERED = re.compile(r"\d{6}\.(jpg|png)", re.IGNORECASE)


def find(root: Path) -> Source | None:
    """CelebA's photos in or around ``root``; None where nothing looks like CelebA.

    Photos are looked for in ``root``, in ``img_align_celeba`` up to three folders down (Kaggle's zip makes
    two of them, one in the other), and the partition file beside the photos or up to two folders above.

    Raises:
        UsageError: photos without a partition file, or the other way round, or a partition file that
            cannot be understood.
    """
    below = level = [root]
    for _ in range(3):
        level = [deeper for folder in level for deeper in _folders(folder)]
        below = below + level
    listed = next((folder / name for folder in below for name in PARTITIONS if (folder / name).is_file()), None)
    photos = _photo_folder(root, below, sure=listed is not None)
    if photos is None and listed is None:
        return None
    if photos is None:
        archive = next((f / f"{PHOTOS}.zip" for f in below if (f / f"{PHOTOS}.zip").is_file()), None)
        todo = f"unpack {printable(archive)}" if archive else f"put the photos ({PHOTOS}.zip, unpacked) beside it"
        raise UsageError(f"{printable(listed)} is there, but no photos like 000001.jpg: {todo}; {_origin()}")
    if listed is None:
        above = [photos, *photos.parents[:2]]
        listed = next((f / name for f in above for name in PARTITIONS if (f / name).is_file()), None)
    if listed is None:
        raise UsageError(
            f"{printable(photos)} holds CelebA's photos, but {' or '.join(PARTITIONS)} is missing, which says "
            f"which are for training, validation and test: put it beside the folder; {_origin()}"
        )
    return _listing(photos, listed)


def read_partition(path: Path) -> dict[str, str]:
    """The official split, a photo's name without its extension to "train", "val" or "test".

    Raises:
        UsageError: a line that is not a name and 0, 1 or 2, with its number.
    """
    table: dict[str, str] = {}
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            words = line.replace(",", " ").split()
            if not words or (number == 1 and words[:1] == ["image_id"]):
                continue
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise UsageError(
                    f"{printable(path)}, line {number}: {line.strip()[:60]!r} is not a photo's name followed by "
                    "0 (train), 1 (validation) or 2 (test)"
                )
            table[words[0].rpartition(".")[0]] = SPLITS[int(words[1])]
    if not table:
        raise UsageError(f"{printable(path)} is empty: {_origin()}")
    return table


def fetch(folder: str | Path) -> Path:
    """Download CelebA into ``folder/celeba`` by ``torchvision.datasets.CelebA``, about 1.5 GB.

    Raises:
        DataError: the download failed; the message says why and what to do instead.
    """
    from torchvision.datasets import CelebA

    target = Path(folder).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    try:
        CelebA(str(target), split="all", download=True)
    except Exception as error:  # gdown, requests, urllib and torchvision raise types of their own
        raise DataError(f"CelebA was not fetched: {_why(error)}. By hand: {_origin()}") from error
    return target


def _why(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ImportError) or ("gdown" in text.lower() and "required" in text.lower()):
        return "torchvision needs the package gdown for Google Drive: pip install gdown"
    if re.search(r"quota|too many users|daily|FileURLRetrievalError|Cannot retrieve", text, re.IGNORECASE):
        return "Google Drive's daily quota for these files is used up; try again tomorrow"
    if re.search(
        r"resolve|unreachable|connection|timed? ?out|urlopen|ProxyError|SSLError|getaddrinfo", text, re.IGNORECASE
    ):
        return f"no network, or Google Drive is not reachable ({str(error)[:120]})"
    if re.search(r"corrupt|hash|md5|zip", text, re.IGNORECASE):
        return "what arrived is not the archive, most likely Google Drive's page about a used-up quota"
    return text[:200]


def _origin() -> str:
    return f"CelebA comes from {HOME} or {KAGGLE}"


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, but not the insides of one that holds photos: there may be 202,599."""
    if _numbered(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith((".", "__")))


def _numbered(folder: Path) -> bool:
    """Whether the first files of a folder are all named like CelebA's photos."""
    with os.scandir(folder) as entries:
        names = [e.name for e, _ in zip(entries, range(20)) if not e.name.startswith((".", "list_"))]
    return bool(names) and all(_NUMBERED.fullmatch(name) for name in names)


def _photo_folder(root: Path, below: list[Path], sure: bool) -> Path | None:
    """Where the photos are. Numbered photos in a folder of another name are CelebA's if a partition file
    is near (``sure``) or if the first has the size of an aligned photo."""
    named = [f for f in below if PHOTOS in f.name and not any(PHOTOS in d.name for d in _folders(f))]
    if named:
        return named[0]
    for folder in [root] if not sure else below:
        if _numbered(folder) and (sure or _first_is_aligned(folder)):
            return folder
    return None


def _first_is_aligned(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        first = min(e.path for e in entries if _NUMBERED.fullmatch(e.name))
    try:
        with Image.open(first) as image:
            return image.size == ALIGNED
    except OSError:
        return False


def _listing(photos: Path, listed: Path) -> Source:
    table = read_partition(listed)
    codes, counts = np.unique(list(table.values()), return_counts=True)
    published = {split: 0 for split in SPLITS} | dict(zip(codes.tolist(), counts.tolist()))
    source = Source("celeba", photos, published=published)
    with os.scandir(photos) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)
            if entry.name.startswith(".") or ending.lower() not in PICTURES or entry.is_dir():
                source.other[ending.lower() or "without extension"] += 1
            elif stem in table:
                examine(entry, entry.name, table[stem], source)
            else:
                source.bad[entry.name] = f"not listed in {listed.name}"
    source.photos.sort()
    return source
