"""One config, one ``fit``: fast, resumable to the last bit, on one process or many.

A batch is a pure function of (seed, step) and the learning rate of (config, progress), so a checkpoint needs
only weights, averages, optimiser, random state and the step to go on exactly where it stopped.
"""

import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from srlib.train.checkpoints import FORMAT, load, random_state, require_same, save, set_random_state
from srlib.images.color import to_gray
from srlib.train.config import TrainConfig, learning_rate
from srlib.data import Batches, Store
from srlib.images.degrade import pair
from srlib.errors import UsageError
from srlib.train.losses import LOSSES, Loss
from srlib.device import choose_precision
from srlib.measure.metrics import mse, to_decibel
from srlib.models import build
from srlib.train.optimisers import make_optimisers


def as_task(lr: Tensor, hr: Tensor, task: str) -> tuple[Tensor, Tensor]:
    """The RGB pair as input and target of a task: gray is the BT.601 luma, of the 8-bit LR for the input."""
    source, target = task.split("-")
    return to_gray(lr) if source == "gray" else lr, to_gray(hr) if target == "gray" else hr


class Average:
    """Exponential moving average of weights (Polyak), with a warm-up so that step 0 does not linger."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = deepcopy(model).requires_grad_(False), decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.copy_(theirs)


@torch.no_grad()
def validate(model: nn.Module, photos: Tensor, config: TrainConfig, device: torch.device) -> float:
    """Mean PSNR in dB over uint8 photos ``[N, 3, H, W]``: the task's channels, no border cut."""
    model.eval()
    values = []
    for chunk in photos.split(16):
        lr, hr = as_task(*pair(chunk.to(device), config.kernel, config.scale), config.task)
        values.append(to_decibel(mse(model(lr), hr, crop_border=0, channels="as-is")))
    model.train()
    return float(torch.cat(values).mean())


# ---------------------------------------------------------------- the loop


@dataclass
class Fit:
    """The trained network (averaged weights, eval mode) and its history, one dict per logged step."""

    model: nn.Module
    history: list[dict]


def fit(
    config: TrainConfig,
    store: Store,
    *,
    device: torch.device | str = "cpu",
    precision: torch.dtype | None = None,
    out: Path | None = None,
    resume: bool = False,
    save_seconds: float | None = None,
    init: dict | None = None,
    loss: Loss | None = None,
    on_log: Callable[[int, nn.Module, dict], None] | None = None,
    progress: bool = True,
) -> Fit:
    """Train by ``config`` on the train split of a store.

    Args:
        precision: of the forward pass, ``torch.bfloat16`` (autocast) or ``torch.float32``; None chooses.
        out: folder for ``last.pt``, written every ``save_seconds`` (15, or SRLIB_SAVE_SECONDS) and at the
            end; None writes nothing.
        resume: go on from ``out/last.pt`` where it exists. Refused when that belongs to another config.
        init: a state dict to start from. loss: a callable instead of ``LOSSES[config.loss]``.
        on_log: called with (step, averaged network, row) at every row of the history.

    Raises:
        UsageError: bad config, a split without photos, a checkpoint of another config, a batch that does
            not fit into memory (the message names one that does).
        FloatingPointError: the loss is no longer finite; the message names the step. ``last.pt`` is good.
    """
    device = torch.device(device)
    if save_seconds is None:
        save_seconds = float(os.environ.get("SRLIB_SAVE_SECONDS", 15))
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    dtype = precision or choose_precision(device)[0]
    loss = loss or LOSSES.get(config.loss)
    if loss is None:
        raise UsageError(f"unknown loss {config.loss!r}: choose from {', '.join(LOSSES)}, or pass a callable")
    early = Batches(
        store, "train", config.batch_size, config.patch, config.kernel, config.scale, config.seed, device,
        rank=rank, world_size=world,
    )  # fmt: skip
    late = early.with_patch(config.late_patch or config.patch)
    photos = store.tensor("val", limit=16) if store.counts().get("val") else None

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        model = build(config.model, config.task, config.scale, **config.options)
        if init is not None:
            model.load_state_dict(init)
        model = model.to(device, memory_format=torch.channels_last).train()
        average = Average(model, config.ema)
        optimisers = make_optimisers(config.optimiser, model, config.learning_rate)
        history, step, before = [], 0, 0.0
        if resume and out is not None and (out / "last.pt").exists():
            state = load(out / "last.pt", device)
            require_same(state["config"], asdict(config), out / "last.pt")
            model.load_state_dict(state["model"])
            average.model.load_state_dict(state["average"])
            for optimiser, part in zip(optimisers, state["optimisers"]):
                optimiser.load_state_dict(part)
            set_random_state(state["random"], device)
            history, step, before = state["history"], state["step"], state["seconds"]
        # Ranks drop different units from here on, while one process stays as it was.
        if rank:
            torch.manual_seed(config.seed + rank * 1_000_003)
        forward = nn.parallel.DistributedDataParallel(model) if world > 1 else model

        def backward(lr: Tensor, hr: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                output = forward(lr.contiguous(memory_format=torch.channels_last))
            value = loss(output, hr)
            value.backward()
            return value

        def checkpoint() -> None:
            if out is not None and rank == 0:
                content = {
                    "format": FORMAT, "config": asdict(config), "step": step, "seconds": seconds(),
                    "model": model.state_dict(), "average": average.model.state_dict(),
                    "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                    "random": random_state(device), "history": history,
                }  # fmt: skip
                save(out / "last.pt", content)

        start, saved = time.perf_counter(), time.perf_counter()
        losses: list[Tensor] = []

        def seconds() -> float:
            return before + time.perf_counter() - start

        def done() -> float:
            """The share of the training that lies behind, the same on every rank."""
            if config.minutes is None:
                return step / config.steps
            share = torch.tensor(seconds() / (60 * config.minutes))
            if world > 1:
                dist.broadcast(share.to(device), 0)
            return float(share)

        bar = tqdm(
            total=config.steps, initial=step, unit="step", leave=False, disable=not progress or rank > 0,
            desc=f"{config.model} {config.task}",
        )  # fmt: skip
        share = done()
        while share < 1:
            rate = learning_rate(config, step, share)
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate
            batches = late if share >= 1 - config.late_share else early
            lr, hr = as_task(*batches.batch(step), config.task)
            model.zero_grad(set_to_none=True)
            try:
                value = backward(lr, hr)
            except torch.OutOfMemoryError:
                raise UsageError(_does_not_fit(backward, lr, hr, config)) from None
            if config.clip:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip, foreach=True)
            for optimiser in optimisers:
                optimiser.step()
            average.update(model, step)
            losses.append(value.detach())
            step += 1
            share = done()
            bar.update()
            if step % config.validate_every == 0 or share >= 1:
                _require_finite(losses, step, config)
                row = {"step": step, "loss": float(torch.stack(losses).mean()), "seconds": seconds()}
                row["learning_rate"] = rate
                if photos is not None:
                    row["val_psnr"] = validate(average.model, photos, config, device)
                history.append(row)
                losses.clear()
                speed = step * config.batch_size / max(row["seconds"], 1e-9)
                bar.set_postfix_str(
                    f"loss {row['loss']:.5f}, {row.get('val_psnr', 0):.2f} dB, {speed:.0f} crops/s"
                )
                if on_log:
                    on_log(step, average.model, row)
                if time.perf_counter() - saved > save_seconds or share >= 1:
                    checkpoint()
                    saved = time.perf_counter()
        bar.close()
    return Fit(average.model.to(memory_format=torch.contiguous_format).requires_grad_(True).eval(), history)


def _require_finite(losses: list[Tensor], step: int, config: TrainConfig) -> None:
    finite = torch.isfinite(torch.stack(losses))
    if not bool(finite.all()):
        first = step - len(losses) + 1 + int((~finite).nonzero()[0])
        raise FloatingPointError(
            f"the loss is not finite at step {first} (learning rate {config.learning_rate:g}): "
            f"try a tenth of the rate, a longer warm-up, or gradient clipping (clip = {config.clip:g})"
        )


def _does_not_fit(backward: Callable, lr: Tensor, hr: Tensor, config: TrainConfig) -> str:
    """Halve the batch until a step fits, so that the message can name a size that works."""
    size = len(lr)
    while size > 1:
        size //= 2
        try:
            backward(lr[:size], hr[:size])
        except torch.OutOfMemoryError:
            continue
        fits = size * (config.batch_size // len(lr))
        return f"a batch of {config.batch_size} crops does not fit into memory: a batch of {fits} fits"
    return f"not even one crop of {config.patch} pixels fits into memory: choose a smaller patch or network"


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, TrainConfig]:
    """The averaged network of a ``model.pt`` in eval mode, with the config that it was trained by."""
    content = load(path, device)
    config = TrainConfig(**content["config"])
    model = build(config.model, config.task, config.scale, **config.options)
    model.load_state_dict(content["average"])
    return model.to(device).eval(), config
