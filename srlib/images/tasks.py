"""Training pairs, and the lecture's three tasks: which channels a network sees, and which it is to make."""

from torch import Tensor

from srlib.errors import known
from srlib.images import camera, color
from srlib.images.degrade import KERNELS, degrade

TASKS = {"rgb-rgb": (3, 3), "gray-rgb": (1, 3), "gray-gray": (1, 1)}  # channels in and out
DEGRADATIONS = (*KERNELS, "real")  # how LR is made: by one of the kernels, or as a phone does


def pair(hr_u8: Tensor, kernel: str, scale: int) -> tuple[Tensor, Tensor]:
    """uint8 ``[N, C, H, W]`` to the training pair ``(lr, hr)`` of floats in [0, 1], LR rounded to 8 bits.
    ``kernel`` is one of :data:`DEGRADATIONS`; ``real``, for RGB, draws from PyTorch's generator."""
    hr = hr_u8.div(255)  # to float in the same pass
    return camera.photograph(hr, scale) if kernel == "real" else degrade(hr, kernel, scale, round_lr=True), hr


def as_task(lr: Tensor, hr: Tensor, task: str) -> tuple[Tensor, Tensor]:
    """RGB ``[N, 3, H, W]`` as a task's input and target, gray as BT.601 luma. ValueError for an unknown task."""
    known("task", task, TASKS)
    source, target = task.split("-")
    return color.to_gray(lr) if source == "gray" else lr, color.to_gray(hr) if target == "gray" else hr


def task_pair(hr_u8: Tensor, task: str, kernel: str, scale: int) -> tuple[Tensor, Tensor]:
    """uint8 RGB ``[N, 3, H, W]`` to input and target of a task: :func:`pair`, then :func:`as_task`."""
    return as_task(*pair(hr_u8, kernel, scale), task)
