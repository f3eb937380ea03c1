"""CelebA (Liu, Luo, Wang and Tang, ICCV 2015) as published, or as torchvision and Kaggle unpack it, also in part.
To add a layout, add it to LAYOUTS in tests/test_data_photos.py and make :func:`layout` find it."""

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from PIL import Image

from srlib.data.decode import ALIGNED
from srlib.data.store import SPLITS
from srlib.errors import DataError, UsageError
from srlib.files import printable

PHOTOS, PARTITIONS = "img_align_celeba", ("list_eval_partition.csv", "list_eval_partition.txt")
FACE = re.compile(r"(.*/)?\d{6}\.(jpg|png)", re.IGNORECASE)
ORIGIN = """CelebA comes from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html or \
https://www.kaggle.com/datasets/jessicali9530/celeba-dataset"""


def layout(root: Path, paths: Iterable[str]) -> tuple[str, Path] | None:
    """CelebA's folder of photos, relative to ``root``, and its partition file, given all files below ``root``.

    Photos lie where most files have names like 000001.jpg, best in a folder img_align_celeba; the partition file
    anywhere below ``root``, or up to two folders above them. None if there is neither. UsageError for one alone.
    """
    faces = [path for path in paths if FACE.fullmatch(path)]
    partitions = [root / path for path in paths if path.endswith(PARTITIONS)]
    if not faces and partitions:
        todo = f"put the photos ({PHOTOS}.zip, unpacked) beside it"
        raise UsageError(f"{printable(partitions[0])} is there, but no photos like 000001.jpg: {todo}; {ORIGIN}")
    if not faces:
        return None
    folders = Counter(path.rpartition("/")[0] for path in faces)
    inside = max(folders, key=lambda folder: (PHOTOS in folder, folders[folder]))
    photos = root / inside
    partitions += [folder / name for folder in photos.parents[:2] for name in PARTITIONS]
    if partition := next(filter(Path.is_file, partitions), None):
        return inside, partition
    if PHOTOS in photos.name or (photos == root and _is_aligned(root / faces[0])):
        missing = f"{' or '.join(PARTITIONS)}, which says which are for training, validation and test, is missing"
        raise UsageError(f"{printable(photos)} holds CelebA's photos, but {missing}: put it beside; {ORIGIN}")
    return None


def read_partition(path: Path) -> dict[str, str]:
    """CelebA's official split: a photo's name without its extension to "train", "val" or "test". UsageError names
    the first line that is not a name and 0, 1 or 2."""
    table: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        words = line.replace(",", " ").split()
        if len(words) == 2 and words[1] in ("0", "1", "2"):
            table[words[0].rpartition(".")[0]] = SPLITS[int(words[1])]
        elif words and (number > 1 or words[0] != "image_id"):
            wrong = f"{line.strip()[:60]!r} is not a photo's name and 0 (train), 1 (validation) or 2 (test)"
            raise UsageError(f"{printable(path)}, line {number}: {wrong}")
    if not table:
        raise UsageError(f"{printable(path)} is empty: {ORIGIN}")
    return table


def fetch(folder: str | Path) -> None:
    """Download CelebA into ``folder/celeba`` by torchvision, about 1.5 GB. Raises DataError if that fails."""
    from torchvision.datasets import CelebA

    try:
        CelebA(str(Path(folder).expanduser()), split="all", download=True)
    except Exception as error:  # gdown, requests, urllib and torchvision raise types of their own
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(f"CelebA was not fetched ({why}). By hand: {ORIGIN}") from error


def _is_aligned(file: Path) -> bool:
    with suppress(OSError), Image.open(file) as image:
        return image.size == ALIGNED
    return False
