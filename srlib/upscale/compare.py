"""One crop of a photo, enlarged three ways, side by side."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from srlib.data.decode import to_rgb

WINDOW, PANEL, GAP, STRIP = 64, 512, 8, 30  # pixels: the crop's side in the photo, about its side when shown, ...


def side_by_side(photo: Image.Image, enlarged: Image.Image, label: str) -> Image.Image:
    """The most detailed window of a photo by nearest, by bicubic (Pillow's) and by a network, each under its name,
    at the same whole-number zoom, over white, as one picture."""
    photo, scale = to_rgb(photo), enlarged.width // photo.width
    left, top, right, bottom = box = _detailed_window(photo)
    size = (scale * (right - left), scale * (bottom - top))
    panels = {
        "nearest": photo.resize(size, Image.Resampling.NEAREST, box),
        "bicubic": photo.resize(size, Image.Resampling.BICUBIC, box),
        label: to_rgb(enlarged.crop((scale * left, scale * top, scale * right, scale * bottom))),
    }
    zoom = max(1, PANEL // max(size))
    width, height = zoom * size[0], zoom * size[1]
    sheet = Image.new("RGB", (3 * width + 4 * GAP, height + STRIP + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for x, (name, panel) in zip(range(GAP, sheet.width, width + GAP), panels.items()):
        draw.text((x, STRIP / 2), name, "black", font, anchor="lm")
        sheet.paste(panel.resize((width, height), Image.Resampling.NEAREST), (x, STRIP))
    return sheet


def _detailed_window(photo: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the window with the largest mean squared gradient."""
    gray = np.asarray(photo.convert("L"), np.float32)
    energy = np.diff(gray, axis=0, prepend=gray[:1]) ** 2 + np.diff(gray, axis=1, prepend=gray[:, :1]) ** 2
    height, width, step = min(WINDOW, photo.height), min(WINDOW, photo.width), WINDOW // 4
    means = torch.nn.functional.avg_pool2d(torch.from_numpy(energy)[None], (height, width), stride=step)[0]
    top, left = (step * int(place) for place in np.unravel_index(int(means.argmax()), means.shape))
    return left, top, left + width, top + height
