"""``python -m srlib upscale``: photos and folders of photos enlarged. All names are settled before work starts."""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from srlib.data import decode, find
from srlib.device import out_of_memory
from srlib.errors import DataError, UsageError
from srlib.files import printable
from srlib.upscale import TILE, Enlarger, load_network, photo_files

COMPARED = "_compare"
WINDOW, PANEL, GAP, STRIP = 64, 512, 8, 30  # pixels: the crop's side in the photo, about its side when shown, ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"""NAME.jpg becomes NAME_x4.jpg beside it (by --width 1920, NAME_w1920.jpg). JPEG, PNG, WebP
        and TIFF stay what they are, others become PNG. Folders are searched to the bottom; pictures in them whose
        names end so, or in {COMPARED}, are passed over as outputs of earlier runs: name them yourself for them."""
    add, home = parser.add_argument, os.path.expanduser
    add("photos", nargs="+", metavar="PHOTO", type=home, help="a photo, or a folder of photos")
    add("--output", metavar="FILE|FOLDER", type=home, help="FILE for one photo, or a FOLDER, made if missing")
    add("--model", default="base", metavar="FILE|NAME", help="a model.pt, NAME in RUNS, small, base or base-real")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--scale", type=int, metavar="N", help="so many times as large: 2, 3 or 4")
    size.add_argument("--width", type=int, metavar="W", help="so many pixels wide, at most 4 times the photo's")
    add("--consistent", action="store_true", help="the result, shrunk by bicubic, gives the photo again")
    add("--self-ensemble", action="store_true", help="mean over 8 flips and rotations, 8 times slower")
    add("--tile", type=int, default=TILE, metavar="N", help=f"side of a tile in pixels ({TILE}); it takes memory")
    add("--compare", action="store_true", help=f"also write NAME{COMPARED}.png: nearest, bicubic, the model")
    add("--force", action="store_true", help="overwrite what is there")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--runs", default="runs", help="where networks of your own are looked for by name")


def main(args: argparse.Namespace) -> int:
    """Enlarge; 0 done, 1 where a photo failed."""
    network, about = load_network(args.model, args.runs)
    how = {"self_ensemble": args.self_ensemble, "consistent": args.consistent}
    enlarger = Enlarger(network, tile=args.tile, device=args.device, **how)
    args.scale = enlarger.scale if args.scale is None else args.scale
    if not 2 <= args.scale <= enlarger.scale or (args.width is not None and args.width < 1):
        raise UsageError(f"--scale goes from 2 to {enlarger.scale} with this network, --width from 1")
    plan, failed = _plan(args, f"_w{args.width}" if args.width else f"_x{args.scale}")
    more = [name.replace("_", "-") for name in how if how[name]]
    print(", ".join([f"network: {about}, on {enlarger.device.type}", *more]))
    total, start = len(plan) + len(failed), time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds: no half file stays
    for photo, outputs in tqdm(plan.items(), unit="photo", leave=False, disable=len(plan) < 2):
        try:
            done = _enlarge(photo, outputs, enlarger, args)
        except (decode.BadPhoto, OSError, MemoryError, RuntimeError) as error:
            full = out_of_memory(error)
            if isinstance(error, RuntimeError) and not full:
                raise
            failed[photo] = "does not fit into memory" if full else getattr(error, "strerror", "") or str(error)
            tqdm.write(f"failed: {printable(photo)}: {failed[photo]}", file=sys.stderr)
        else:
            tqdm.write(done)
    if total > 1 or not plan:
        print(f"{total - len(failed)} of {total} photos enlarged in {time.perf_counter() - start:.1f} s")
        for photo, reason in failed.items():
            print(f"failed: {printable(photo)}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _enlarge(photo: Path, outputs: list[Path], enlarger: Enlarger, args: argparse.Namespace) -> str:
    """Do it; the line that says what was done."""
    start, picture = time.perf_counter(), photo_files.read(photo)
    across, down = picture.image.size
    width = args.width or args.scale * across
    if width > enlarger.scale * across:
        raise decode.BadPhoto(f"{across} pixels wide: --width {width} is over {enlarger.scale} times that")
    size = width, max(1, round(width * down / across))
    photo_files.suit(picture, outputs[0], size)
    enlarged = enlarger.image(picture.image)
    if size != enlarged.size:
        enlarged = enlarged.resize(size, Image.Resampling.BICUBIC)  # the course's own kernel, in less memory
    photo_files.write(enlarged, outputs[0], picture.options)
    for path in outputs[1:]:
        picture.options.pop("exif", None)  # it speaks of the photo
        sheet = _compared(decode.to_rgb(picture.image), enlarged, Path(args.model))
        photo_files.write(sheet, path, picture.options)
    done = f"{printable(outputs[0])}: {enlarged.width}x{enlarged.height}, {time.perf_counter() - start:.1f} s"
    return "; ".join([done, *picture.notes])


def _compared(photo: Image.Image, enlarged: Image.Image, model: Path) -> Image.Image:
    """The most detailed window of an RGB photo, that of the largest mean squared gradient, by nearest, by bicubic
    (Pillow's) and by a network, side by side at the same whole-number zoom, each under its name."""
    gray = np.asarray(photo.convert("L"), np.float32)
    energy = np.diff(gray, axis=0, prepend=gray[:1]) ** 2 + np.diff(gray, axis=1, prepend=gray[:, :1]) ** 2
    window, step = (min(WINDOW, photo.height), min(WINDOW, photo.width)), WINDOW // 4
    means = torch.nn.functional.avg_pool2d(torch.from_numpy(energy)[None], window, stride=step)[0]
    top, left = (step * place for place in divmod(int(means.argmax()), means.shape[1]))
    box, scale = (left, top, left + window[1], top + window[0]), enlarged.width / photo.width
    left, top, right, bottom = (round(scale * side) for side in box)
    ours = decode.to_rgb(enlarged.crop((left, top, max(right, left + 1), max(bottom, top + 1))))
    panels = {way: photo.resize(ours.size, Image.Resampling[way.upper()], box) for way in ("nearest", "bicubic")}
    panels[model.parent.name if model.name == "model.pt" else model.stem] = ours
    width, height = (max(1, PANEL // max(ours.size)) * side for side in ours.size)
    sheet = Image.new("RGB", (3 * width + 4 * GAP, height + STRIP + GAP), "white")
    for x, (name, panel) in zip(range(GAP, sheet.width, width + GAP), panels.items()):
        ImageDraw.Draw(sheet).text((x, STRIP / 2), name, "black", ImageFont.load_default(18), anchor="lm")
        sheet.paste(panel.resize((width, height), Image.Resampling.NEAREST), (x, STRIP))
    return sheet


def _photos(root: Path, ending: str, bad: dict[Path, str]) -> list[Path]:
    """The photos below a folder, as paths in it; what cannot be opened goes into ``bad``, with reasons."""
    try:
        source = find.any_folder(root)
    except OSError as error:
        raise UsageError(f"{printable(error.filename)}: no such photo or folder: {error.strerror}") from None
    places = [Path(photo.path) for photo in source.photos]
    fresh = [place for place in places if not place.stem.endswith((ending, COMPARED))]
    earlier = f"{len(places) - len(fresh)} outputs of earlier runs ({ending}, {COMPARED})"
    if not fresh and not source.bad:
        raise UsageError(f"no photos in {printable(root)}" + f", only {earlier}" * bool(places))
    if len(fresh) < len(places):
        print(f"{printable(root)}: {earlier} are passed over")
    bad |= {root / path: reason for path, reason in source.bad.items()}
    return fresh


def _place(path: Path) -> str:
    """What two paths of one file share; on macOS and Windows A.jpg and a.jpg are one."""
    place = os.path.realpath(path)
    return place.casefold() if sys.platform in ("darwin", "win32") else place


def _plan(args: argparse.Namespace, ending: str) -> tuple[dict[Path, list[Path]], dict[Path, str]]:
    """Each photo once with the files that it becomes, and what cannot be opened; nothing is lost by it."""
    output, formats = Path(args.output or "."), photo_files.FORMATS
    as_file = output.suffix and not output.is_dir() and not args.output.endswith(("/", os.sep))
    if as_file and output.suffix.lower() not in formats:
        raise UsageError(f"--output {output}: a file must end in {', '.join(formats)}; a folder in /")
    photos, plan = dict[str, tuple[Path, Path]](), dict[Path, list[Path]]()
    bad, owner = dict[Path, str](), dict[str, Path]()
    for root in map(Path, args.photos):
        inside = [Path()] if root.is_file() else _photos(root, ending, bad)
        photos |= {_place(root / path): (root / path, path.parent) for path in inside}
    for photo, below in photos.values():
        suffix = photo.suffix if photo.suffix.lower() in formats else ".png"
        folder = output / below if args.output else photo.parent
        target = output if as_file else folder / f"{photo.stem}{ending}{suffix}"
        plan[photo] = [target, target.with_name(f"{photo.stem}{COMPARED}.png")][: 1 + args.compare]
        for path in plan[photo]:
            if first := owner.get(_place(path)):
                twice = f"would be written twice, for {printable(first)} and {printable(photo)}"
                raise UsageError(f"{printable(path)} {twice}: give them one by one, rename one, or name a folder")
            if (path.exists() and not path.is_file()) or _place(path) in photos:
                raise UsageError(f"{printable(path)} is no file, or one of the photos: choose another --output")
            owner[_place(path)] = photo
    paths = [path for outputs in plan.values() for path in outputs]
    if (there := [path for path in paths if os.path.lexists(path)]) and not args.force:
        known = f"already there: {printable(there[0])} ({len(there)} in all)"
        raise UsageError(f"{known}: add --force, or --output elsewhere")
    for folder in {path.parent for path in paths}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise DataError(f"cannot write to {printable(folder)} ({error.strerror}): try --output") from None
    return plan, bad
