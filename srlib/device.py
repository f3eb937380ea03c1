"""What this machine computes with: a device, a precision that pays there, and exact float32 for measurements."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from srlib.errors import UsageError

PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


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

    ``auto`` takes bfloat16 where the hardware multiplies it natively and is about twice as fast by it: CUDA from
    compute capability 8.0 on, CPUs with AMX or AVX512-BF16. Elsewhere bfloat16 is slower, and it takes float32.

    Raises:
        UsageError: an unknown name.
    """
    if wanted not in PRECISIONS:
        raise UsageError(f"unknown precision {wanted!r}: choose from {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[wanted]
    return _automatic(device) if dtype is None else (dtype, f"{wanted} as asked")


def _automatic(device: torch.device) -> tuple[torch.dtype, str]:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        name = f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"
        native = major >= 8
    else:
        tests = (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX512-BF16"))
        found = [name for test, name in tests if getattr(torch.cpu, test, lambda: False)()]
        native = device.type == "cpu" and bool(found)
        name = f"CPU with {found[0]}" if native else device.type
    return (torch.bfloat16, f"bfloat16 autocast ({name})") if native else (torch.float32, f"float32 ({name})")


@contextmanager
def exact_float32() -> Iterator[None]:
    """float32 that is float32: without TF32, to which cuDNN rounds convolutions (10 bits of mantissa) unasked.

    A score or a meter inside is comparable between a GPU and a CPU.
    """
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
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
