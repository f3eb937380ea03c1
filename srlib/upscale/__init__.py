"""A photo of any size through a network, tile by tile: what one pass over all of it gives, in little memory."""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from srlib import files, models
from srlib.device import choose_device, exact_float32
from srlib.errors import UsageError
from srlib.images import color, degrade
from srlib.train.checkpoints import load_model
from srlib.upscale.photo_files import from_image

SHIPPED = Path(__file__).with_name("weights")
TILE = 256  # side in pixels of the photo; only speed and memory depend on it
ACCEPTED = "an image, an array [h, w] or [h, w, C] of uint8, uint16, float32, or a float tensor [..., C, h, w]"
LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}
Photo = TypeVar("Photo", Image.Image, np.ndarray, Tensor)


def load_network(model: str | Path, runs: str | Path = "runs") -> tuple[nn.Module, str]:
    """The network of a name or file, folded and made to take RGB, and one line that says what it is. What ends in
    .pt or names a folder is a file; a name is looked for as ``RUNS/NAME/model.pt``, then among the shipped ones.
    Raises UsageError: no such model, with the names there are; no checkpoint; a network that invents colours."""
    path, folder = Path(os.path.expanduser(model)), files.resolve(runs)
    if path.suffix != ".pt" and len(path.parts) == 1:
        there = [file for file in (folder / path / "model.pt", SHIPPED / f"{path}.pt") if file.is_file()]
        if not there:
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.pt"))) or "none"
            own = ", ".join(sorted(file.parent.name for file in folder.glob("*/model.pt"))) or "none"
            choices = f"choose one shipped ({shipped}), one in {folder} ({own}), or a file"
            raise UsageError(f"no model {str(model)!r}: {choices}")
        path = there[0]
    network, config = load_model(path)
    if config.task == "gray-rgb":
        why = "a gray-rgb network invents colours instead of enlarging those of the photo"
        raise UsageError(f"{path}: {why}: choose one trained with --task rgb-rgb or gray-gray")
    network = models.folded(network)
    about = f"{config.model} {config.task}, {models.count_parameters(network):,} parameters, {path}"
    return models.PerChannel(network).eval() if config.task == "gray-gray" else network, about


def upscale(image: Photo, model: str | Path | nn.Module = "base", *, self_ensemble: bool = False,
            consistent: bool = False, tile: int = TILE, device: str = "auto") -> Photo:  # fmt: skip
    """A photo enlarged, 4 times by the shipped networks, as the kind of thing that it was.
    ``image``: a Pillow image, which is turned upright by its EXIF and keeps its profile in ``info``, and its mode
    if that is L, LA, RGB, RGBA or I;16 (else it gets the one that fits); an array ``[h, w]`` or ``[h, w, C]`` of
    uint8, uint16, or float32 in [0, 1]; or a float tensor ``[..., C, h, w]`` in [0, 1]. C is 1 (gray), 2 (gray,
    alpha), 3 (RGB) or 4 (RGB, alpha); alpha is enlarged by bicubic. ``model``: for :func:`load_network`, or a
    network from RGB to RGB. ``self_ensemble``, ``consistent``, ``tile`` and ``device`` are :class:`Enlarger`'s.
    UsageError: an unknown model, device or kind of picture; BadPhoto: 32-bit values out of their range."""
    network = model if isinstance(model, nn.Module) else load_network(model)[0]
    enlarger = Enlarger(network, self_ensemble=self_ensemble, consistent=consistent, tile=tile, device=device)
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


class Enlarger:
    """A network from RGB to RGB, ready for photos: a folded copy on its device, with its ``scale``. Tiles of
    ``tile`` x ``tile`` pixels give what one pass over the whole photo gives, since each comes with as many pixels
    around it as the network can see. ``self_ensemble`` is the mean over 8 flips and rotations, 8 times slower;
    ``consistent`` makes the result shrink to the photo again, by bicubic."""

    def __init__(self, network: nn.Module, *, self_ensemble: bool = False, consistent: bool = False,
                 tile: int = TILE, device: str = "auto") -> None:  # fmt: skip
        if tile < 1:
            raise UsageError(f"a tile must have at least 1 pixel a side, got {tile}")
        self.tile, self.device = tile, choose_device(device)
        network = models.folded(network).eval()
        self.least = 1 if isinstance(network, models.PerChannel) else 3  # channels that it takes
        self.scale, seen = reach(models.networks.Consistent(network) if consistent else network)
        self.margin = max(seen, 2)  # 2 for the bicubic interpolation of alpha
        network = models.SelfEnsemble(network) if self_ensemble else network
        network = models.networks.Consistent(network) if consistent else network
        self.network = network.to(self.device).to(memory_format=torch.channels_last)

    def image(self, image: Image.Image) -> Image.Image:
        """An image of mode L, LA, RGB, RGBA or I;16, enlarged in the same mode."""
        enlarged = Image.new(image.mode, [self.scale * side for side in image.size], None)  # no memory is used yet
        for top, left, part in self._tiles(np.asarray(image)):
            enlarged.paste(Image.fromarray(part), (left, top))
        return enlarged

    def array(self, pixels: np.ndarray) -> np.ndarray:
        """``[h, w]`` or ``[h, w, 1 to 4]`` of uint8, uint16, or float32 in [0, 1], enlarged, of the same type."""
        kind, shape = getattr(pixels, "dtype", None), tuple(getattr(pixels, "shape", ()))
        if kind not in LEVELS or len(shape) not in (2, 3) or 0 in shape or (*shape, 1)[2] > 4:
            raise UsageError(f"cannot enlarge {type(pixels).__name__} {kind or ''} {shape or ''}: give {ACCEPTED}")
        enlarged = np.empty((self.scale * shape[0], self.scale * shape[1], *shape[2:]), pixels.dtype)
        for top, left, part in self._tiles(pixels):
            enlarged[top : top + part.shape[0], left : left + part.shape[1]] = part
        return enlarged

    def _tiles(self, pixels: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """Top and left in the enlarged photo, and the pixels that belong there."""
        scale, tile, margin, pixels = self.scale, self.tile, self.margin, fill_transparent(pixels)
        corners = list(product(*(range(0, side, tile) for side in pixels.shape[:2])))
        for top, left in tqdm(corners, unit="tile", leave=False, delay=1):
            above, before = max(0, top - margin), max(0, left - margin)
            part = self._pass(pixels[above : top + tile + margin, before : left + tile + margin])
            part = part[scale * (top - above) :, scale * (left - before) :][: scale * tile, : scale * tile]
            yield scale * top, scale * left, part

    @exact_float32()
    @torch.inference_mode()
    def _pass(self, pixels: np.ndarray) -> np.ndarray:
        """One pass of the network, channels last in memory as the pixels lie, rounded to the type that came in."""
        levels = LEVELS[pixels.dtype]
        there = torch.from_numpy(np.atleast_3d(pixels).copy()).to(self.device)  # a quarter of what floats would be
        lr = (there.float() / levels).permute(2, 0, 1)[None]
        channels = 1 if lr.shape[1] < 3 else 3
        hr = self.network(lr[:, :channels].expand(-1, max(channels, self.least), -1, -1))
        hr = color.to_gray(hr) if hr.shape[1] > channels else hr
        if lr.shape[1] > channels:
            hr = torch.cat([hr, degrade.upsample(lr[:, channels:], self.scale)], dim=1)
        hr = hr[0].clamp_(0, 1).mul_(levels)  # in place: fresh memory costs more than the arithmetic
        part = (hr if levels == 1 else hr.round_()).to(there.dtype).permute(1, 2, 0).cpu().numpy()
        return part.reshape(*part.shape[:2], *pixels.shape[2:])


@torch.enable_grad()
def reach(network: nn.Module) -> tuple[int, int]:
    """The scale of a network, and how many pixels of the input an output pixel can see to each side of its own.
    By the gradient of one pixel's outputs, on a copy whose weights are all positive: no ReLU closes a path, none
    cancels another. Raises UsageError where it is no less than 256."""
    probe = models.folded(network).cpu().double().eval()
    for value in (*probe.parameters(), *probe.buffers()):
        value.data.fill_(0.01)
    for middle in (16, 32, 64, 128, 256):
        side = 2 * middle + 1
        lr = torch.full((1, 3, side, side), 0.5, dtype=torch.float64, requires_grad=True)
        hr = probe(lr)
        scale = hr.shape[-1] // side
        own = slice(scale * middle, scale * (middle + 1))
        (seen,) = torch.autograd.grad(hr[..., own, own].sum(), lr)
        farthest = int((seen[0].abs().sum(dim=0).nonzero() - middle).abs().max())
        if farthest < middle:
            return scale, farthest
    raise UsageError("the network sees 256 pixels or more to a side: it cannot be used in tiles")


def fill_transparent(pixels: np.ndarray) -> np.ndarray:
    """Colours of visible pixels near for wholly transparent ones, whose own would be drawn into neighbours."""
    hidden = pixels[..., -1] == 0
    if pixels.ndim < 3 or pixels.shape[2] % 2 or not hidden.any() or hidden.all():
        return pixels
    weighted = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    weighted[:, :-1] *= weighted[:, -1:]
    fill = _filled(weighted)[0].permute(1, 2, 0).numpy()[hidden]
    colours, filled = fill[:, :-1] / fill[:, -1:], pixels.copy()
    filled[hidden, :-1] = colours if pixels.dtype == np.float32 else colours.round()
    return filled


def _filled(x: Tensor) -> Tensor:
    """Pixels of weight 0 in the last channel take the mean of the smallest square of 2, 4, 8 ... that has any."""
    if max(x.shape[-2:]) == 1:
        return x
    coarse = nn.functional.interpolate(_filled(nn.functional.avg_pool2d(x, 2, ceil_mode=True)), scale_factor=2)
    return torch.where(x[:, -1:] > 0, x, coarse[..., : x.shape[-2], : x.shape[-1]])
