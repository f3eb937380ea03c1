"""What this machine offers: a device, a precision that pays there, and a place for runs."""

from functools import cache
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from srlib.errors import UsageError

WORTHWHILE = 1.1  # gain below which bfloat16 is not worth its rounding
ROOT = Path(__file__).resolve().parent.parent


def resolve_runs(runs: str | Path) -> Path:
    """``RUNS`` as a path: a relative one counts from the repository's root, whatever the working directory."""
    return (ROOT / Path(runs).expanduser()).resolve()


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: unknown name, or a device that this machine lacks.
    """
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in have.items() if there)
    kind = str(name).split(":")[0]
    if kind not in have:
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or mps")
    if not have[kind]:
        raise UsageError(
            f"device {name!r} is not there: PyTorch {torch.__version__} sees no {kind} on this machine"
        )
    return torch.device(name)


@cache
def choose_precision(device: torch.device) -> tuple[torch.dtype, str]:
    """bfloat16 where the hardware multiplies it natively and a short measurement finds it faster, float32
    elsewhere; and the reason in words. Measured once per process, in a fraction of a second."""
    name = _multiplies_bfloat16(device)
    if name is None:
        return torch.float32, f"float32 ({device.type} without native bfloat16)"
    gain = _gain_of_bfloat16(device)
    if gain < WORTHWHILE:
        return torch.float32, f"float32 ({name}, yet bfloat16 is only {gain:.1f} times as fast here)"
    return torch.bfloat16, f"bfloat16 autocast ({name}, {gain:.1f} times as fast as float32 here)"


def _multiplies_bfloat16(device: torch.device) -> str | None:
    """The name of what multiplies bfloat16 natively, or None."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) if torch.cuda.get_device_capability(device) >= (8, 0) else None
    if device.type == "cpu":
        for test, name in (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX512-BF16")):
            if getattr(torch.cpu, test, lambda: False)():
                return f"CPU with {name}"
    return None


def _gain_of_bfloat16(device: torch.device, repeats: int = 7) -> float:
    """How many times faster a convolution of 64 channels trains under bfloat16 autocast.

    Turn by turn, and the best of each: another program that runs for a moment slows single turns only.
    """
    x = torch.linspace(0, 1, 8 * 64 * 44 * 44, device=device).view(8, 64, 44, 44)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.linspace(-1, 1, 64 * 64 * 9, device=device).view(64, 64, 3, 3).requires_grad_()
    best = {True: float("inf"), False: float("inf")}
    for turn in range(repeats + 2):
        for reduced in best:
            start = perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                y = nn.functional.conv2d(x, weight, padding=1)
            torch.autograd.grad(y.float().mean(), (x, weight))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= 2:  # the first turns compile and allocate
                best[reduced] = min(best[reduced], perf_counter() - start)
    return best[False] / best[True]
