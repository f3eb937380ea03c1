"""Pictures and folders of them, and a tiny network to enlarge them."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import nn

from srlib import models
from srlib.data.decode import ALIGNED
from srlib.train import checkpoints
from srlib.train.config import TrainConfig


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """uint8, without any structure: no error hides in it."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(width: int, height: int) -> np.ndarray:
    """uint8 ``[height, width, 3]`` that JPEG and WebP hardly change; no two corners are alike."""
    across, down = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    return (255 * np.stack([across + 0 * down, down + 0 * across, across * down], axis=-1)).astype(np.uint8)


def picture(mode: str, pixels: np.ndarray) -> Image.Image:
    """RGB pixels as an image of any mode; alpha is the red channel."""
    image = Image.fromarray(pixels)
    if mode in ("LA", "RGBA"):
        return Image.merge(mode, (*image.convert(mode[:-1]).split(), image.getchannel("R")))
    gray = np.asarray(image.convert("L"))
    deep = {"I;16": gray.astype(np.uint16) * 257, "F": gray.astype(np.float32) / 255}
    return Image.fromarray(deep[mode]) if mode in deep else image.convert(mode)


TINY = {"width": 8, "depth": 1}


def network(task: str = "rgb-rgb", **options) -> nn.Module:
    torch.manual_seed(0)
    return models.build("residual", task, **TINY, **options).eval()


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def save_checkpoint(path: Path, task: str = "rgb-rgb") -> Path:
    """A tiny network over bicubic, nearly untouched by training, as ``srlib train`` writes it."""
    config, average = asdict(TrainConfig(task=task, options=TINY)), network(task).state_dict()
    checkpoints.save(path, {"format": checkpoints.FORMAT, "config": config, "average": average})
    return path


def saved(path: Path | str, size: tuple[int, int] = (12, 10), repeat: int = 1, **options) -> Path:
    """A picture file of so many small pictures a side, which give it detail; its folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.tile(smooth(*size), (repeat, repeat, 1))).save(path, **options)
    return path


def exif_with(orientation: int, note: bytes = b"") -> bytes:
    """Of a camera that was held so."""
    exif, tags = Image.Exif(), ExifTags.Base
    exif.update({tags.Orientation: orientation, tags.Make: "Camera"})
    exif[ExifTags.IFD.Exif] = {tags.DateTimeOriginal: "2024:02:29 12:00:00", tags.ExifImageWidth: 24}
    exif[ExifTags.IFD.Exif] |= {tags.ExifImageHeight: 16, tags.MakerNote: note}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return exif.tobytes()


# three of the photos that the partition file lists
PRESENT = {"000001.jpg": "train", "000002.jpg": "train", "000004.jpg": "val"}


def faces(folder: Path, ending: str = ".jpg") -> Path:
    """Photos like CelebA's, in a folder."""
    for name in PRESENT:
        saved(folder / name.replace(".jpg", ending), size=ALIGNED)
    return folder


def partition(folder: Path, kind: str = "csv") -> Path:
    """CelebA's list of splits, of five photos, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    header, comma = ("image_id,partition\n", ",") if kind == "csv" else ("", " ")
    path = folder / f"list_eval_partition.{kind}"
    path.write_text(header + "".join(f"{i:06d}.jpg{comma}{code}\n" for i, code in enumerate((0, 0, 0, 1, 2), 1)))
    return path


def files(folder: Path | str = ".") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if not path.is_dir()}
