"""Several processes that train one network together (``torchrun``): who is who, and what they agree on."""

import datetime
import os
from typing import Any

import torch
import torch.distributed as dist

from srlib.device import widest


def start(device: torch.device) -> torch.device:
    """Join the other processes that ``torchrun`` started, if it did; the device that is this process's own."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
            torch.cuda.set_device(device)
        alone = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) <= torch.cuda.device_count()  # NCCL wants a card each
        backend = "nccl" if device.type == "cuda" and alone else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=10))
    return device


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def from_rank_0(value: float, device: torch.device) -> float:
    """Rank 0's value on every rank."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value, dtype=widest(device), device=device)
    dist.broadcast(shared, 0)
    return float(shared)


def smallest(value: int, device: torch.device) -> int:
    """The smallest of all ranks' values, on every rank."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value, device=device)
    dist.all_reduce(shared, dist.ReduceOp.MIN)
    return int(shared)


def gather(value: Any) -> list[Any]:
    """All ranks' values in order, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
