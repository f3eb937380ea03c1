"""What this machine offers: a device, a precision that pays there, and a place for runs."""

from pathlib import Path

import torch

from srlib.errors import UsageError

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


def choose_precision(device: torch.device) -> tuple[torch.dtype, str]:
    """bfloat16 where the hardware multiplies it natively, float32 elsewhere; and the reason in words."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
        name = torch.cuda.get_device_name(device)
        return (torch.bfloat16, f"bfloat16 autocast ({name})") if fast else (torch.float32, f"float32 ({name})")
    if device.type == "cpu":
        for test, name in (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX512-BF16")):
            if getattr(torch.cpu, test, lambda: False)():
                return torch.bfloat16, f"bfloat16 autocast (CPU with {name})"
        return torch.float32, "float32 (CPU without AVX512-BF16 or AMX)"
    return torch.float32, f"float32 ({device.type})"
