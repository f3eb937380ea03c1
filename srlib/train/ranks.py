"""Several processes that train one network together (``torchrun``): who is who, and what they agree on."""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


def start(device: torch.device) -> torch.device:
    """Join the other processes that ``torchrun`` started, if it did; the device that is this process's own."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return device
    cards = torch.cuda.device_count() if device.type == "cuda" else 0
    if cards:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % cards)
        torch.cuda.set_device(device)
    enough = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) <= cards  # NCCL wants a card for each process
    dist.init_process_group("nccl" if enough else "gloo", timeout=timedelta(minutes=10))
    return device


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def gather(value: Any) -> list[Any]:
    """All ranks' values in order, on every rank."""
    values = [value] * rank_and_world()[1]
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values
