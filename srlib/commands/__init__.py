"""``python -m srlib``: imports a command's module when it is given: a machine may lack what others need."""

import argparse
import sys
from functools import partial
from importlib import import_module
from io import TextIOWrapper

from srlib.errors import DataError, UsageError

COMMANDS = {
    "cache": ("srlib.commands.cache", "decode a folder of photos once, into a store"),
    "train": ("srlib.commands.train", "train one network from photos, alone or under torchrun"),
    "evaluate": ("srlib.commands.evaluate", "score a network beside bicubic on the same images"),
    "upscale": ("srlib.commands.upscale", "enlarge photos by a network"),
    "export": ("srlib.commands.export", "write a network as an ONNX file"),
}


def dispatch(prog: str, about: str, commands: dict[str, tuple[str, str]], argv: list[str] | None = None) -> int:
    """Run one of ``commands``, a name to (module, purpose); 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=about)
    choices = parser.add_subparsers(dest="command", required=True, metavar="|".join(commands))
    for name, (module, purpose) in commands.items():
        choice = choices.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.", allow_abbrev=False)
        if argv[:1] == [name]:
            import_module(module).add_arguments(choice)
    if any(not word or (word.startswith("--") and word.endswith("=")) for word in argv):
        parser.error("an argument is empty: is a variable not set?")
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, TextIOWrapper):  # a file's name may have letters that the screen, or a pipe, has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return import_module(commands[args.command][0]).main(args)
    except (UsageError, DataError, MemoryError, OSError) as error:
        usage = isinstance(error, UsageError)
        print(f"{'error' if usage else 'failed'}: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2 if usage else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


main = partial(dispatch, "srlib", "Single-image super-resolution: data, training, scores, photos.", COMMANDS)
