"""What this machine computes with: a device, a precision that pays there, and exact float32 for measurements."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import perf_counter

import torch
from torch import nn

from srlib.errors import UsageError

PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
WORTHWHILE = 1.1  # gain below which bfloat16 is not worth its rounding


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


def choose_precision(device: torch.device, wanted: str = "auto") -> tuple[torch.dtype, str]:
    """The precision of training, and the reason in words.

    ``auto`` takes bfloat16 where the hardware multiplies it natively: on CUDA by compute capability (8.0 and
    later), on a CPU if a measurement of a fraction of a second, made once per process, finds it faster.

    Raises:
        UsageError: an unknown name.
    """
    if wanted not in PRECISIONS:
        raise UsageError(f"unknown precision {wanted!r}: choose from {', '.join(PRECISIONS)}")
    return _automatic(device) if wanted == "auto" else (PRECISIONS[wanted], f"{wanted} as asked")


@cache
def _automatic(device: torch.device) -> tuple[torch.dtype, str]:
    if device.type == "cuda":
        name, (major, minor) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        if major >= 8:
            return torch.bfloat16, f"bfloat16 autocast ({name}, compute capability {major}.{minor})"
        return torch.float32, f"float32 ({name}, compute capability {major}.{minor}, has no bfloat16)"
    tests = (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX512-BF16"))
    name = next((name for test, name in tests if getattr(torch.cpu, test, lambda: False)()), None)
    if device.type != "cpu" or name is None:
        return torch.float32, f"float32 ({device.type} without native bfloat16)"
    gain = _gain_of_bfloat16()
    if gain < WORTHWHILE:
        return torch.float32, f"float32 (CPU with {name}, yet bfloat16 is only {gain:.1f} times as fast here)"
    return torch.bfloat16, f"bfloat16 autocast (CPU with {name}, {gain:.1f} times as fast as float32 here)"


def _gain_of_bfloat16(repeats: int = 7) -> float:
    """How many times faster a convolution of 64 channels trains on this CPU under bfloat16 autocast.

    Turn by turn, and the best of each: another program that runs for a moment slows single turns only.
    """
    x = torch.linspace(0, 1, 8 * 64 * 44 * 44).view(8, 64, 44, 44)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.linspace(-1, 1, 64 * 64 * 9).view(64, 64, 3, 3).requires_grad_()
    best = {True: float("inf"), False: float("inf")}
    for turn in range(repeats + 2):
        for reduced in best:
            start = perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                y = nn.functional.conv2d(x, weight, padding=1)
            torch.autograd.grad(y.float().mean(), (x, weight))
            if turn >= 2:  # the first turns allocate
                best[reduced] = min(best[reduced], perf_counter() - start)
    return best[False] / best[True]


@contextmanager
def exact_float32() -> Iterator[None]:
    """float32 that is float32: without TF32, to which cuDNN rounds convolutions (10 bits of mantissa) unasked.

    A score or a meter inside is comparable between a GPU and a CPU.
    """
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, value in zip(backends, before):
            backend.allow_tf32 = value


def widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it; float32 on Apple's GPUs, which do not."""
    return torch.float32 if device.type == "mps" else torch.float64


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that may be used, what PyTorch keeps in its own cache included."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
