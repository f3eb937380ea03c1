"""``python -m srlib cache``: look at a folder of photos and build its store."""

import argparse
import os

from srlib.data import CROPS, build, find
from srlib.errors import DataError, UsageError
from srlib.files import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="FOLDER", help="CelebA in any layout, or any folder of photos")
    add("--crop", default="center", choices=CROPS, help="lecture is for CelebA, tiles for large photos")
    add("--fetch", action="store_true", help="download CelebA into FOLDER first, by torchvision")
    add("--max-bad", type=float, default=1.0, metavar="P", help="percentage that may be unreadable")
    add("--runs", default="runs", metavar="DIR", help="the store goes to DIR/stores (default: runs)")


def main(args: argparse.Namespace) -> int:
    """Build the store, or find it; print what the folder holds, what the store holds and where it is."""
    if not 0 <= args.max_bad <= 100:
        raise UsageError(f"--max-bad is a percentage from 0 to 100, got {args.max_bad:g}")
    if args.data == "sample":
        raise UsageError("the sample is cut in memory and needs no store: give --data a folder of photos")
    if args.fetch:
        from torchvision.datasets import CelebA

        try:
            CelebA(os.path.expanduser(args.data), split="all", download=True)
        except Exception as error:  # gdown, requests, urllib and torchvision raise types of their own
            why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise DataError(f"CelebA was not fetched ({why}). By hand: {find.ORIGIN}") from error
    source = find.find_source(args.data)
    print(f"{len(source.photos):,} to read in {printable(source.root)} ({source.kind})")
    if source.other:
        print("left alone, no photos:", ", ".join(f"{n:,} {ending}" for ending, n in source.other.most_common(8)))
    store = build.open_source(source, args.runs, args.crop, args.max_bad, verbose=True)
    place = getattr(store.images, "filename", "in memory")
    print(f"{store.describe()}\n{place}, {store.images.nbytes / 1e6:,.0f} MB, fingerprint {store.fingerprint}")
    return 0
