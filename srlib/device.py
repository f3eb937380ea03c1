"""What this machine computes with: a device, a precision that pays there, exact float32, and random draws."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from srlib.errors import UsageError, known

PRECISIONS = ("auto", "float32", "bfloat16")


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU. UsageError: an unknown device, or one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in there if there[kind])
    kind = re.sub(r":\d+$", "", str(name))  # cuda:1 is a cuda
    known("device", kind, ("auto", *there))
    if not there[kind]:
        raise UsageError(f"PyTorch {torch.__version__} sees no {kind} on this machine: choose auto or cpu")
    return torch.device(name)


def choose_precision(device: torch.device, wanted: str = "auto") -> tuple[torch.dtype, str]:
    """The precision of training, and the reason in words. ``auto`` takes bfloat16 where the hardware multiplies it
    natively and is about twice as fast by it: CUDA from compute capability 8.0 on, CPUs with AMX or AVX512-BF16;
    elsewhere bfloat16 is slower, and it takes float32. UsageError: an unknown name."""
    known("precision", wanted, PRECISIONS)
    if wanted != "auto":
        return getattr(torch, wanted), f"{wanted} as asked"
    name, tests = device.type, ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    native = name == "cpu" and any(getattr(torch.cpu, test, bool)() for test in tests)
    if name == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        native, name = major >= 8, f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"
    return (torch.bfloat16, f"bfloat16 autocast ({name})") if native else (torch.float32, f"float32 ({name})")


@contextmanager
def exact_float32() -> Iterator[None]:
    """float32 without TF32 (10 bits of mantissa), to which cuDNN rounds unasked: a GPU computes as a CPU does."""
    cudnn: Any = torch.backends.cudnn
    places, name = [cudnn, torch.backends.cuda.matmul], "allow_tf32"
    try:
        before = [getattr(place, name) for place in places]
    except RuntimeError:  # PyTorch, once somebody has set fp32_precision, which will replace allow_tf32
        places, name = [cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul], "fp32_precision"
        before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, {"allow_tf32": False, "fp32_precision": "ieee"}[name])
        yield
    finally:
        for place, value in zip(places, before):
            setattr(place, name, value)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that a network draws from: the CPU's, and the device's where it has its own."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """The inverse of :func:`random_state`; what the device has no use for is left alone."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws inside follow from ``seed``; those after, on the CPU and on ``device``, are as if there were none."""
    before = random_state(device)
    try:
        torch.manual_seed(seed)
        yield
    finally:
        set_random_state(before, device)


def widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it; float32 on Apple's GPUs, which do not."""
    return torch.float32 if device.type == "mps" else torch.float64


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is full: PyTorch has a type for it on CUDA, elsewhere only words."""
    told = isinstance(error, RuntimeError) and re.search("out of memory|can't allocate memory", str(error))
    return isinstance(error, MemoryError) or bool(told)


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that may be used, what PyTorch keeps in its own cache included."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
