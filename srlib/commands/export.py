"""``python -m srlib export``: a network as an ONNX file, for RGB pictures of any size."""

import argparse
from pathlib import Path

import torch

from srlib.errors import DataError, UsageError
from srlib.files import atomic, printable
from srlib.upscale import load_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="FILE|NAME", help="a model.pt, NAME in RUNS, small, base or base-real")
    parser.add_argument("--onnx", required=True, metavar="FILE", type=Path, help="what to write")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--runs", default="runs", help="where networks of your own are looked for by name")


def main(args: argparse.Namespace) -> int:
    network, about = load_network(args.model, args.runs)
    if args.onnx.exists() and not (args.force and args.onnx.is_file()):
        raise UsageError(f"{printable(args.onnx)} is there already: add --force, or name another file")
    try:
        with atomic(args.onnx) as aside:
            torch.onnx.export(
                network, (torch.rand(2, 3, 24, 32),), aside, dynamo=True, opset_version=20, external_data=False,
                input_names=["lr"], output_names=["hr"], dynamic_shapes=[{0: "n", 2: "height", 3: "width"}],
                verbose=False,
            )  # fmt: skip
    except ImportError:
        raise UsageError("export needs two more packages: pip install onnx onnxscript") from None
    except OSError as error:
        raise DataError(f"cannot write {printable(args.onnx)} ({error.strerror})") from None
    print(f"{printable(args.onnx)}: RGB lr [n, 3, height, width] in [0, 1] to hr, not clamped; {about}")
    return 0
