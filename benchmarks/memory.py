"""How much memory does building a store take, however many photos there are?

    python benchmarks/memory.py [--photos 50000]

Generates that many different JPEGs of 178 x 218 in a temporary folder (5 GB with the store, for 50,000), builds
their store in a process of its own, and prints the peak of that process and how much of it was PyTorch and the
rest being imported. Linux only: the peak is read from /proc.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

BUILD = """
import sys
from srlib.data import open_store
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
store = open_store(sys.argv[1], sys.argv[2])
print(f"{store.images.nbytes / 2**20:,.0f} MiB of rows; peak {peak():,.0f} MiB, {before:,.0f} MiB of it before")
"""


def generate(folder: Path, count: int) -> None:
    """One picture, with a number after its end, where decoders stop reading: all files differ."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (28, 23, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((178, 218), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    for i in range(count):
        (folder / f"photo{i:06d}.jpg").write_bytes(buffer.getvalue() + b"%d" % i)


def main() -> None:
    """Generate, build, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=50_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch, "photos")
        photos.mkdir()
        generate(photos, args.photos)
        subprocess.run([sys.executable, "-c", BUILD, str(photos), str(Path(scratch, "runs"))], check=True)


if __name__ == "__main__":
    main()
