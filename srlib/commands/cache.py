"""``python -m srlib cache``: look at a folder of photos and build its store."""

import argparse

from srlib.data.celeba import fetch
from srlib.data.folders import find_source
from srlib.data.opening import MAX_BAD, open_source
from srlib.data.sources import printable
from srlib.data.store import CROPS
from srlib.errors import UsageError
from srlib.device import resolve_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cache``."""
    add = parser.add_argument
    add("--data", required=True, metavar="FOLDER", help="CelebA in any layout, or any folder of photos")
    add("--crop", default="center", choices=CROPS, help="how faces of CelebA are cut (default: center)")
    add("--runs", default="runs", metavar="DIR", help="the store goes to DIR/stores (default: runs)")
    add("--max-bad", type=float, default=MAX_BAD, metavar="PERCENT",
        help=f"photos that may be unreadable; they are listed and left out (default: {MAX_BAD:g})")  # fmt: skip
    add("--fetch", action="store_true", help="download CelebA into FOLDER first, by torchvision")


def main(args: argparse.Namespace) -> int:
    """Build the store, or find it; print what the folder holds and what the store holds."""
    if not 0 <= args.max_bad <= 100:
        raise UsageError(f"--max-bad is a percentage from 0 to 100, got {args.max_bad:g}")
    if args.data == "sample":
        raise UsageError("the sample is cut in memory and needs no store: give --data a folder of photos")
    try:
        if args.fetch:
            fetch(args.data)
        source = find_source(args.data)
        title = {"celeba": "CelebA", "folder": "photos"}[source.kind]
        print(f"{title} in {printable(source.root)}: {len(source.photos):,} to read")
        if source.other:
            seen = ", ".join(f"{count:,} {ending}" for ending, count in source.other.most_common(8))
            print(f"left alone, no photos: {seen}")
        store = open_source(source, resolve_runs(args.runs), args.crop, args.max_bad, tell=True)
        print(store.describe())
        print(f"{store.images.filename}, {store.images.nbytes / 1e6:,.0f} MB, fingerprint {store.fingerprint}")
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here")
        return 130
    return 0
