"""The training loop. ``train_step`` is all of deep learning: forward, backward, step. The rest are callbacks."""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from time import perf_counter

import torch
from torch import Tensor, nn

from srlib.data import Batches, Store
from srlib.device import choose_precision, exact_float32, random_state, seeded, set_random_state
from srlib.errors import UsageError
from srlib.images.tasks import task_pair
from srlib.models import build
from srlib.train import ranks
from srlib.train.callbacks import Callback, StopIfNotFinite, Validate, stop_if_too_large
from srlib.train.config import TrainConfig, learning_rate
from srlib.train.losses import LOSSES, Loss
from srlib.train.optimisers import Average, make_optimisers


class Trainer:
    """Trains the network of a config on the train split of a store; its state lies on the object. A batch follows
    from (seed, step) and a rate from (config, progress), so weights, averages, optimisers, random state and the
    step are enough to go on bit for bit (on CUDA under deterministic cuDNN)."""

    def train_step(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Forward, backward, step; loss and gradient norm stay on the device, since reading them stalls a GPU."""
        loss = self.objective(lr.contiguous(memory_format=torch.channels_last), hr)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf)
        for optimiser in self.optimisers:
            optimiser.step()
        self.average.update(self.model, self.step)
        return loss.detach().clone(), norm  # a copy, since a compiled step writes its next loss in the same place

    def forward_and_loss(self, lr: Tensor, hr: Tensor) -> Tensor:
        """The forward pass in the trainer's precision, and the loss of its output."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            output = self.network(lr)
        return self.loss(output.float(), hr)

    def run(self) -> "Trainer":
        """Train to the end; FloatingPointError: not finite; UsageError: a batch too large for the GPU's memory."""
        with seeded(self.config.seed, self.device), exact_float32():
            if self.device.type != "cpu":
                stop_if_too_large(self)
            set_random_state(self.random, self.device)
            start = perf_counter() - self.seconds
            self.tick(self.seconds)
            while self.share < 1:
                rate = learning_rate(self.config, self.step, self.share)
                for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
                    group["lr"] = rate
                self.recent.append(self.train_step(*self.batch()))
                self.step += 1
                self.tick(perf_counter() - start)
                for callback in self.callbacks:
                    callback.after_step(self)
                if self.step % self.config.validate_every == 0 or self.share >= 1:
                    row = {"step": self.step, "seconds": self.seconds, "learning_rate": rate}
                    row["loss"] = float(torch.stack([loss for loss, _ in self.recent]).mean())
                    self.history.append(row)
                    for callback in self.callbacks:
                        callback.at_log(self, row)
                    self.recent.clear()
        self.average.model.to(memory_format=torch.contiguous_format).requires_grad_(True).eval()
        return self

    def batch(self) -> tuple[Tensor, Tensor]:
        """The input and target of this step."""
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()  # it may write over the tensors of the last step
        late = self.share >= 1 - self.config.late_share
        return self.examples((self.late if late else self.early).crops(self.step))

    def tick(self, seconds: float) -> None:
        """Note the time; ``share``, how much of the training lies behind, is the same on every rank."""
        self.seconds = seconds
        if self.config.minutes is None:
            self.share = self.step / (self.config.steps or 1)
        elif self.world == 1 or self.step % 16 == 0 or not self.share:  # rank 0's clock, but not in each step
            self.share = ranks.gather(seconds)[0] / (60 * self.config.minutes)

    def __init__(self, config: TrainConfig, store: Store, *, device: torch.device | str = "cpu",
                 precision: torch.dtype | None = None, init: dict | None = None, loss: Loss | None = None,
                 callbacks: Iterable[Callback] = (), compile: bool = False) -> None:  # fmt: skip
        """``precision``: bfloat16 (autocast) or float32, None chooses. ``init``: a state dict to start from.
        ``loss``: a callable instead of ``LOSSES[config.loss]``. ``callbacks``: after those that always run."""
        self.config, self.device = config, torch.device(device)
        self.rank, self.world = ranks.rank_and_world()
        self.precision = precision or choose_precision(self.device)[0]
        if loss is None and config.loss not in LOSSES:
            raise UsageError(f"loss: no {config.loss!r}: choose from {', '.join(LOSSES)}, or pass a callable")
        self.loss: Loss = loss or LOSSES[config.loss]
        crops = (config.batch_size, config.patch, config.kernel, config.scale, config.seed)
        self.early = Batches(store, "train", *crops, self.device, rank=self.rank, world_size=self.world)
        self.late = replace(self.early, patch=config.late_patch or config.patch)
        with seeded(config.seed, self.device):
            model = build(config.model, config.task, config.scale, **config.options)
            model.load_state_dict(init or model.state_dict())
            self.model = model.to(self.device).to(memory_format=torch.channels_last).train()
            if self.rank:  # ranks drop different units, and rank 0 the same as a process alone
                torch.manual_seed(config.seed + self.rank * 1_000_003)
            self.random = random_state(self.device)
        self.average = Average(deepcopy(self.model), config.ema)
        self.optimisers = make_optimisers(config.optimiser, self.model, config.learning_rate, config.weight_decay)
        self.network: nn.Module = self.model
        if self.world > 1:  # gradients are averaged; buffers are constants, or statistics that rank 0 keeps
            self.network = nn.parallel.DistributedDataParallel(self.model, broadcast_buffers=False)
        self.objective = self.forward_and_loss
        self.examples: Callable = partial(task_pair, task=config.task, kernel=config.kernel, scale=config.scale)
        self.callbacks = [StopIfNotFinite(), Validate(), *callbacks]
        self.compiled = compile and loss is None  # a critic, say, changes as it is called
        if self.compiled:  # as CUDA graphs, where there is CUDA
            fast = partial(torch.compile, dynamic=False, mode="reduce-overhead")
            self.examples, self.objective = fast(self.examples), fast(self.objective)
        self.history, self.step, self.seconds, self.share = list[dict](), 0, 0.0, 0.0
        self.recent: list[tuple[Tensor, Tensor]] = []  # of each step since the last row: loss and gradient norm

    def state_dict(self) -> dict:
        """All that :meth:`load_state_dict` needs to go on. Every rank has to ask for it, since each has a part."""
        return {
            "config": asdict(self.config), "photos": self.early.store.fingerprint,
            "step": self.step, "seconds": self.seconds,
            "model": self.model.state_dict(), "average": self.average.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "random": ranks.gather(random_state(self.device)), "history": self.history,
        }  # fmt: skip

    def load_state_dict(self, state: dict) -> None:
        """Take up a training where it was. With another number of ranks, dropout goes on with other draws."""
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        for optimiser, part in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(part)
        self.random = state["random"][self.rank] if len(state["random"]) == self.world else self.random
        self.history, self.step, self.seconds = state["history"], state["step"], state["seconds"]
