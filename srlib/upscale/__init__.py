"""A photo of any size and format through a network, in tiles, and back to a file."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from srlib import models
from srlib.device import choose_device
from srlib.errors import UsageError
from srlib.files import resolve
from srlib.train.checkpoints import load_model
from srlib.upscale.photo_files import from_image
from srlib.upscale.tiles import TILE, Enlarger

SHIPPED = Path(__file__).with_name("weights")
Photo = TypeVar("Photo", Image.Image, np.ndarray, Tensor)


def load_network(model: str | Path, runs: str | Path = "runs") -> tuple[nn.Module, str]:
    """The network of a name or file, folded and made to take RGB, and one line that says what it is. What ends in
    .pt or names a folder is a file; a name is looked for as ``RUNS/NAME/model.pt``, then among the shipped ones.
    Raises UsageError: no such model, with the names there are; no checkpoint; a network that invents colours."""
    path, folder = Path(model).expanduser(), resolve(runs)
    if path.suffix != ".pt" and len(path.parts) == 1:
        there = [file for file in (folder / path / "model.pt", SHIPPED / f"{path}.pt") if file.is_file()]
        if not there:
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.pt"))) or "none"
            own = ", ".join(sorted(file.parent.name for file in folder.glob("*/model.pt"))) or "none"
            choices = f"choose one shipped ({shipped}), one in {folder} ({own}), or a file"
            raise UsageError(f"no model {str(model)!r}: {choices}")
        path = there[0]
    network, config = load_model(path, "cpu")
    if config.task == "gray-rgb":
        why = "a gray-rgb network invents colours instead of enlarging those of the photo"
        raise UsageError(f"{path}: {why}: choose one trained with --task rgb-rgb or gray-gray")
    network = models.folded(network)
    about = f"{config.model} {config.task}, {models.count_parameters(network):,} parameters, {path}"
    return models.PerChannel(network).eval() if config.task == "gray-gray" else network, about


def upscale(
    image: Photo, model: str | Path | nn.Module = "base", *, self_ensemble: bool = False,
    consistent: bool = False, tile: int = TILE, device: str = "auto",
) -> Photo:  # fmt: skip
    """A photo enlarged, 4 times by the shipped networks, as the kind of thing that it was.

    ``image``: a Pillow image, which is turned upright by its EXIF and keeps its profile in ``info``, and its mode
    if that is L, LA, RGB, RGBA or I;16 (else it gets the one that fits); an array ``[h, w]`` or ``[h, w, C]`` of
    uint8, uint16, or float32 in [0, 1]; or a float tensor ``[..., C, h, w]`` in [0, 1]. C is 1 (gray), 2 (gray,
    alpha), 3 (RGB) or 4 (RGB, alpha); alpha is enlarged by bicubic. ``model``: see :func:`load_network`, or a
    network from RGB to RGB. ``self_ensemble``, ``consistent``, ``tile``: see :class:`Enlarger`.

    Raises UsageError: unknown model, device or kind of picture; BadPhoto: 32-bit values out of the usual range."""
    network = model if isinstance(model, nn.Module) else load_network(model)[0]
    how = {"self_ensemble": self_ensemble, "consistent": consistent}
    enlarger = Enlarger(network, device=choose_device(device), tile=tile, **how)
    if isinstance(image, Image.Image):
        picture = from_image(image)
        enlarged = enlarger.image(picture.image)
        enlarged.info |= {name: value for name, value in picture.options.items() if name == "icc_profile"}
        return enlarged
    if isinstance(image, Tensor) and image.is_floating_point() and image.ndim > 2 and image.numel():
        photos = image.detach().reshape(-1, *image.shape[-3:]).permute(0, 2, 3, 1).float().cpu()
        hr = torch.stack([torch.from_numpy(enlarger.array(photo.numpy())) for photo in photos]).permute(0, 3, 1, 2)
        return hr.reshape(*image.shape[:-2], *hr.shape[-2:]).to(image)
    return enlarger.array(image)  # type: ignore[arg-type, return-value]  # it refuses all else
