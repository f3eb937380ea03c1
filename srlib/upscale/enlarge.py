"""A whole photo through a network, tile by tile: what one pass over all of it gives, in little memory."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from tqdm.auto import tqdm

from srlib import models
from srlib.upscale import photo_files as pictures
from srlib.train import trainer as training
from srlib.images.color import to_gray
from srlib.images.degrade import upsample
from srlib.errors import UsageError
from srlib.device import choose_device, resolve_runs

SCALE = 4
TILE = 256  # side in pixels of the photo; only speed and memory depend on it
SHIPPED = Path(__file__).with_name("weights")
LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}
WIDEST = 256  # pixels that a network may see to each side
Photo = TypeVar("Photo", Image.Image, np.ndarray, Tensor)

# ---------------------------------------------------------------- which network


def find_weights(model: str | Path, runs: str | Path = "runs") -> Path:
    """The checkpoint that a name or a file stands for.

    What ends in .pt or names a folder is a file. A name is first looked for in ``runs`` (``RUNS/NAME/model.pt``,
    which ``srlib train --out RUNS/NAME`` writes), then among the weights that come with the package.

    Raises:
        UsageError: neither is there; the message lists the names that are.
    """
    path = Path(model).expanduser()
    if path.suffix == ".pt" or len(path.parts) != 1:
        return path
    folder = resolve_runs(runs)
    for candidate in (folder / path / "model.pt", SHIPPED / f"{path}.pt"):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.pt"))) or "none"
    own = ", ".join(sorted(file.parent.name for file in folder.glob("*/model.pt"))) or "none"
    choices = f"choose one shipped ({shipped}), one in {folder} ({own}), or a file"
    raise UsageError(f"no model {str(model)!r}: {choices}")


def load_network(path: Path) -> tuple[nn.Module, str]:
    """The network of a checkpoint, made to take RGB, and one line that says what it is.

    Raises:
        UsageError: no checkpoint, or of a network that cannot enlarge a photo in its own colours 4 times.
    """
    network, config = training.load_model(path)
    if config.task == "gray-rgb":
        raise UsageError(
            f"{path}: a gray-rgb network invents colours instead of enlarging those of the photo: "
            "choose one trained with --task rgb-rgb or gray-gray"
        )
    if config.scale != SCALE:
        raise UsageError(f"{path}: enlarges {config.scale} times, but upscale is made for {SCALE}")
    parameters = models.count_parameters(models.folded(network))
    about = f"{config.model} {config.task}, {parameters:,} parameters, {path}"
    return models.PerChannel(network) if config.task == "gray-gray" else network, about


# ---------------------------------------------------------------- tiles


@torch.enable_grad()
def reach(network: nn.Module) -> int:
    """How many pixels to each side of its own an output pixel can see, in pixels of the input.

    Found by the gradient of one pixel's outputs in float64, on a copy whose weights are all positive, so that
    no path is closed by a ReLU and none cancels another.

    Raises:
        ValueError: the network sees more than 256 pixels to a side, so it cannot be used in tiles.
    """
    probe = copy.deepcopy(network).cpu().double().eval()
    for layer in probe.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    for parameter in probe.parameters():
        parameter.data.abs_().add_(1e-3)
    middle = 16
    while middle <= WIDEST:
        lr = torch.full((1, 3, 2 * middle + 1, 2 * middle + 1), 0.5, dtype=torch.float64, requires_grad=True)
        own = slice(SCALE * middle, SCALE * (middle + 1))
        (seen,) = torch.autograd.grad(probe(lr)[..., own, own].sum(), lr)
        farthest = int((seen[0].abs().sum(dim=0).nonzero() - middle).abs().max())
        if farthest < middle:
            return farthest
        middle *= 2
    raise ValueError(f"the network sees more than {WIDEST} pixels to a side: it cannot be used in tiles")


def cuts(size: int, most: int) -> list[tuple[int, int]]:
    """An axis cut into as few parts of at most ``most`` pixels as can be, even to one pixel: (start, end)."""
    parts = ceil(size / most)
    edges = [size * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def fill_transparent(pixels: np.ndarray) -> np.ndarray:
    """Colours for pixels that are wholly transparent, from the nearest visible ones; ``[h, w, 2 or 4]``.

    What is stored there is never seen, but a network or an interpolation would draw it into its visible
    neighbours. Visible colours are averaged over squares of 2, 4, 8 ... pixels (weighted by alpha), and each
    gap takes the smallest square that has any.
    """
    hidden = pixels[..., -1] == 0
    if not hidden.any() or hidden.all():
        return pixels
    bands = [slice(top, top + 256) for top in range(0, len(pixels), 256)]  # of an even height; they save memory
    levels = [torch.cat([avg_pool2d(_weighted(pixels[band]), 2, ceil_mode=True) for band in bands], dim=-2)]
    while max(levels[-1].shape[-2:]) > 1:
        levels.append(avg_pool2d(levels[-1], 2, ceil_mode=True))
    fill = levels.pop()
    for finer in reversed(levels):
        coarse = fill.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
        fill = torch.where(finer[:, -1:] > 0, finer, coarse[..., : finer.shape[-2], : finer.shape[-1]])
    colours = (fill[0, :-1] / fill[0, -1:]).permute(1, 2, 0).numpy()
    colours = colours if pixels.dtype == np.float32 else colours.round().astype(pixels.dtype)
    filled = pixels.copy()
    for band in bands:
        down, across = np.nonzero(hidden[band])
        filled[band.start + down, across, :-1] = colours[(band.start + down) // 2, across // 2]
    return filled


def _weighted(pixels: np.ndarray) -> Tensor:
    """``[1, C, h, w]`` floats: colours times alpha, and alpha."""
    floats = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    return torch.cat([floats[:, :-1] * floats[:, -1:], floats[:, -1:]], dim=1)


class Enlarger:
    """A network made ready for photos: folded, on its device, with the overlap that its tiles need.

    Args:
        network: RGB to RGB, 4 times as large, such as :func:`load_network` gives; it is copied.
        tile: side of the tiles in pixels of the photo. The result does not depend on it: each tile is computed
            with as many pixels around it as the network can see, and where the photo ends the network meets
            the same border as in one pass over all.
        self_ensemble: the mean over 8 flips and rotations, at 8 times the cost.
    """

    def __init__(
        self, network: nn.Module, *, tile: int = TILE, device: torch.device, self_ensemble: bool = False
    ) -> None:
        if tile < 1:
            raise UsageError(f"a tile must have at least 1 pixel a side, got {tile}")
        network = models.folded(network).eval()
        self.overlap = max(reach(network), 2)  # 2 for the bicubic interpolation of alpha
        self.tile, self.device = tile, device
        network = network.to(device, memory_format=torch.channels_last)
        self.takes_gray = isinstance(network, models.PerChannel)
        self.network = models.SelfEnsemble(network) if self_ensemble else network

    def image(self, image: Image.Image) -> Image.Image:
        """An image of mode L, LA, RGB, RGBA or I;16 in the same mode, 4 times as large."""
        size = (SCALE * image.width, SCALE * image.height)
        enlarged = Image.new(image.mode, size, None)  # not filled: memory is taken as tiles arrive
        for top, left, part in self._tiles(np.asarray(image)):
            enlarged.paste(Image.fromarray(part), (left, top))
        return enlarged

    def array(self, pixels: np.ndarray) -> np.ndarray:
        """``[h, w]`` or ``[h, w, C]`` to 4 times as large, of the same type; see :func:`upscale`."""
        enlarged = np.empty((SCALE * pixels.shape[0], SCALE * pixels.shape[1], *pixels.shape[2:]), pixels.dtype)
        for top, left, part in self._tiles(pixels):
            enlarged[top : top + part.shape[0], left : left + part.shape[1]] = part
        return enlarged

    def _tiles(self, pixels: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """Top and left in the enlarged photo, and the pixels that belong there."""
        height, width = pixels.shape[:2]
        if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
            pixels = fill_transparent(pixels)
        with tqdm(total=height * width, unit="px", unit_scale=True, leave=False, delay=1) as bar:
            for top, bottom in cuts(height, self.tile):
                for left, right in cuts(width, self.tile):
                    above, before = max(0, top - self.overlap), max(0, left - self.overlap)
                    part = pixels[above : bottom + self.overlap, before : right + self.overlap]
                    rows = slice(SCALE * (top - above), SCALE * (bottom - above))
                    columns = slice(SCALE * (left - before), SCALE * (right - before))
                    yield SCALE * top, SCALE * left, self._pass(part, rows, columns)
                    bar.update((bottom - top) * (right - left))

    @torch.inference_mode()
    def _pass(self, pixels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """One pass of the network; of what comes out, the part that is kept, rounded to the type that came in."""
        levels = LEVELS[pixels.dtype]
        lr = torch.from_numpy(np.atleast_3d(pixels).astype(np.float32)).to(self.device).div_(levels)
        lr = lr.permute(2, 0, 1)[None]  # channels last in memory, as the network likes it
        colours = lr[:, :1] if lr.shape[1] < 3 else lr[:, :3]
        if colours.shape[1] == 3 or self.takes_gray:
            hr = self.network(colours)[..., rows, columns]
        else:
            hr = to_gray(self.network(colours.expand(-1, 3, -1, -1))[..., rows, columns])
        if lr.shape[1] in (2, 4):
            hr = torch.cat([hr, upsample(lr[:, -1:], SCALE)[..., rows, columns]], dim=1)
        hr = hr[0].clamp(0, 1).permute(1, 2, 0)
        if levels > 1:
            hr = (hr * levels).round().to(torch.uint8 if levels == 255 else torch.int32)
        part = hr.cpu().numpy().astype(pixels.dtype, copy=False)
        return part if pixels.ndim == 3 else part[..., 0]


# ---------------------------------------------------------------- for all kinds of pictures


def upscale(
    image: Photo,
    model: str | Path | nn.Module = "base",
    *,
    self_ensemble: bool = False,
    tile: int = TILE,
    device: str = "auto",
    runs: str | Path = "runs",
) -> Photo:
    """A photo, 4 times as wide and as high, as the kind of thing that it was.

    Args:
        image: one of
            a Pillow image: it is turned upright by its EXIF; L, LA, RGB, RGBA and I;16 stay what they are,
            other modes become the one of these that fits; the colour profile stays in ``info``;
            an array ``[h, w]`` or ``[h, w, C]`` of uint8, uint16, or float32 in [0, 1];
            a float tensor ``[C, h, w]`` or ``[N, C, h, w]`` in [0, 1]; it is not rounded to 8 bits.
            C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha). Alpha is enlarged by bicubic.
        model: a name (``runs/NAME/model.pt`` if you have trained one, else the weights of that name that come
            with the package), a file, or a network from RGB to RGB.
        self_ensemble: the mean over 8 flips and rotations: a little better, 8 times slower.
        tile: side of the tiles in pixels; larger ones need more memory. The result does not depend on it.
        device: auto, cpu, cuda or mps.

    Raises:
        UsageError: unknown model, device or kind of picture.
        BadPhoto: a Pillow image of 32 bits per pixel with values outside the usual range.
    """
    place = choose_device(device)
    network = model if isinstance(model, nn.Module) else load_network(find_weights(model, runs))[0]
    enlarger = Enlarger(network, tile=tile, device=place, self_ensemble=self_ensemble)
    if isinstance(image, Image.Image):
        picture = pictures.from_image(image)
        enlarged = enlarger.image(picture.image)
        if picture.profile:
            enlarged.info["icc_profile"] = picture.profile
        return enlarged
    if isinstance(image, np.ndarray) and image.dtype in LEVELS:
        _require_channels(image.shape[2:] or (1,), image.ndim in (2, 3), image)
        return enlarger.array(image)
    if isinstance(image, Tensor) and image.is_floating_point():
        _require_channels(image.shape[-3:-2], image.ndim in (3, 4), image)
        if image.ndim == 4:
            return torch.stack([_tensor(enlarger, one) for one in image])
        return _tensor(enlarger, image)
    kind = f"{type(image).__name__} of {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
    raise UsageError(f"cannot enlarge {kind}: give a Pillow image, an array of uint8, or a float tensor")


def _require_channels(channels: tuple[int, ...], dimensions_fit: bool, image: np.ndarray | Tensor) -> None:
    if not dimensions_fit or channels[0] not in (1, 2, 3, 4) or 0 in image.shape:
        order = "[C, h, w] or [N, C, h, w]" if isinstance(image, Tensor) else "[h, w] or [h, w, C]"
        raise UsageError(f"cannot enlarge the shape {tuple(image.shape)}: give {order} with 1 to 4 channels")


def _tensor(enlarger: Enlarger, image: Tensor) -> Tensor:
    pixels = image.detach().permute(1, 2, 0).float().cpu().numpy()
    return torch.from_numpy(enlarger.array(pixels)).permute(2, 0, 1).to(image)
