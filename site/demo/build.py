"""What the page ``try`` needs beside its own files, as one script: the network, three photos and the worker.

A page that was opened as a file may fetch nothing, so all of it is text inside ``try_data.js``.
"""

import base64
import io
import json
from pathlib import Path

from torch import Tensor, nn

from srlib.data.sample import PHOTOS
from srlib.upscale import load_network

SIDE = 352  # of the photos' parts: two tiles, and a phone shows them pixel by pixel
OUTPUTS = 4  # that the worker computes at a time
CROPS = {  # left, top, what is to see
    "astronaut": (80, 0, "An astronaut in an orange suit, a flag and a model of a shuttle behind her"),
    "grace_hopper": (80, 30, "A rear admiral of the US Navy in uniform, a flag behind her"),
    "coffee": (160, 40, "A cup of coffee on a saucer with a spoon, on a wooden table"),
}
SEEN = {"train": "the network was trained on it", "val": "not trained on", "test": "not trained on"}


def text(raw: bytes) -> str:
    """As base64."""
    return base64.b64encode(raw).decode()


def ordered(weight: Tensor) -> Tensor:
    """The taps ``[out, in, 3, 3]`` as the worker reads them: ``[out / 4, 3, 3, in, 4]``."""
    return weight.unflatten(0, (-1, OUTPUTS)).permute(0, 3, 4, 2, 1)


def layers(network: nn.Module) -> list[dict]:
    """The convolutions in the order of use: the first, two for each residual block, the head."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return [
        {
            "inputs": layer.in_channels,
            "outputs": layer.out_channels,
            "taps": text(ordered(layer.weight.detach()).numpy().astype("<f4").tobytes()),
            "bias": text(layer.bias.detach().numpy().astype("<f4").tobytes()),
        }
        for layer in convolutions
    ]


def photos() -> list[dict]:
    """Parts of photos of the bundled sample, as PNG."""
    parts = []
    for name, (left, top, alt) in CROPS.items():
        photo = next(photo for photo in PHOTOS if photo.name == name)
        part, buffer = photo.read().crop((left, top, left + SIDE, top + SIDE)), io.BytesIO()
        part.save(buffer, "PNG")
        credit = f"{photo.credit}, {photo.licence}; {SEEN[photo.split]}"
        url = f"data:image/png;base64,{text(buffer.getvalue())}"
        parts.append({"name": name, "alt": alt, "credit": credit, "url": url})
    return parts


def write(folder: Path) -> None:
    """Write ``try_data.js`` beside this file's worker."""
    worker = (folder / "try_worker.js").read_text(encoding="utf-8")
    data = {"worker": worker, "layers": layers(load_network("small")[0]), "photos": photos()}
    (folder / "try_data.js").write_text(f"const DATA = {json.dumps(data)};\n", encoding="utf-8")
