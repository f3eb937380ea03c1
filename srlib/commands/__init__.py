"""``python -m srlib``: finds the room that serves a command and hands over to it.

A room that serves a command has ``add_arguments(parser)`` and ``main(args) -> int``. It is imported only
when its command is given, since a GPU machine may lack what the other commands need.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from srlib.errors import DataError, UsageError

COMMANDS = {
    "run": ("course", "execute the five notebooks and make a report"),
    "cache": ("srlib.commands.cache", "decode a folder of photos once, into a store"),
    "train": ("srlib.commands.train", "train one network from photos, alone or under torchrun"),
    "evaluate": ("srlib.commands.evaluate", "score a network beside bicubic on the same images"),
    "upscale": ("srlib.commands.upscale", "enlarge photos four times by a network"),
    "doctor": ("course.doctor", "check this machine, line by line"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="python -m srlib", description="Single-image super-resolution, a course."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS))
    for name, (room, purpose) in COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=purpose.capitalize() + ".", allow_abbrev=False
        )
        if argv[:1] == [name]:
            import_module(room).add_arguments(command)
    args = parser.parse_args(argv)
    try:
        return import_module(COMMANDS[args.command][0]).main(args)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
