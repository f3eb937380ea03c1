"""The training loop. ``train_step`` is all of deep learning: forward, backward, step. The rest are callbacks."""

import math
from collections.abc import Iterable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict
from time import perf_counter

import torch
from torch import Tensor, nn

from srlib.data import Batches, Store
from srlib.device import choose_precision, exact_float32
from srlib.errors import UsageError
from srlib.images.tasks import as_task
from srlib.models import build
from srlib.train import ranks
from srlib.train.callbacks import Callback, StopIfNotFinite, Validate
from srlib.train.checkpoints import FORMAT, random_state, set_random_state
from srlib.train.config import TrainConfig, learning_rate
from srlib.train.losses import LOSSES, Loss
from srlib.train.memory import require_fits
from srlib.train.optimisers import Average, make_optimisers


class Trainer:
    """Trains the network of a config on the train split of a store; its state lies on the object.

    A batch is a pure function of (seed, step) and the learning rate of (config, progress), so weights, averages,
    optimisers, random state and the step are enough to go on bit for bit (on CUDA under deterministic cuDNN).
    """

    def train_step(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Forward, backward, step; loss and gradient norm stay on the device, since reading them stalls a GPU."""
        loss = self.objective(lr.contiguous(memory_format=torch.channels_last), hr)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.clip or math.inf, foreach=self.foreach
        )
        for optimiser in self.optimisers:
            optimiser.step()
        self.average.update(self.model, self.step)
        return loss.detach(), norm

    def forward_and_loss(self, lr: Tensor, hr: Tensor) -> Tensor:
        """The forward pass in the trainer's precision, and the loss of its output."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            output = self.network(lr)
        return self.loss(output, hr)

    def run(self) -> "Trainer":
        """Train to the end of the config.

        Raises:
            FloatingPointError: a loss or a gradient is not finite; the message names the step.
            UsageError: on a GPU, a batch that does not fit; the message names one that does.
        """
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng([self.device] if self.device.type == "cuda" else []))
            stack.enter_context(exact_float32())
            if self.device.type != "cpu":
                require_fits(self)
            set_random_state(self.random, self.device)
            for callback in self.callbacks:
                stack.enter_context(callback.around(self))
            start, share = perf_counter() - self.seconds, self.share()
            while share < 1:
                rate = learning_rate(self.config, self.step, share)
                for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
                    group["lr"] = rate
                batches = self.late if share >= 1 - self.config.late_share else self.early
                lr, hr = as_task(*batches.batch(self.step), self.config.task)
                self.recent.append(self.train_step(lr, hr))
                self.step += 1
                self.seconds = perf_counter() - start
                share = self.share()
                for callback in self.callbacks:
                    callback.after_step(self)
                if self.step % self.config.validate_every == 0 or share >= 1:
                    self.log({"step": self.step, "seconds": self.seconds, "learning_rate": rate})
        self.average.model.to(memory_format=torch.contiguous_format).requires_grad_(True).eval()
        return self

    def log(self, row: dict) -> None:
        """Add a row to the history, once every callback has passed it and put in what it has to say."""
        row["loss"] = float(torch.stack([loss for loss, _ in self.recent]).mean())
        self.history.append(row)
        for callback in self.callbacks:
            callback.at_log(self, row)
        self.recent.clear()

    def __init__(
        self, config: TrainConfig, store: Store, *, device: torch.device | str = "cpu",
        precision: torch.dtype | None = None, init: dict | None = None, loss: Loss | None = None,
        callbacks: Iterable[Callback] = (), compile: bool = False,
    ) -> None:  # fmt: skip
        """``precision``: bfloat16 (autocast) or float32, None chooses. ``init``: a state dict to start from.
        ``loss``: a callable instead of ``LOSSES[config.loss]``. ``callbacks``: after the two that always run."""
        self.config, self.device = config, torch.device(device)
        self.rank, self.world = ranks.rank_and_world()
        self.precision = precision or choose_precision(self.device)[0]
        if loss is None and config.loss not in LOSSES:
            raise UsageError(f"loss: no {config.loss!r}: choose from {', '.join(LOSSES)}, or pass a callable")
        self.loss: Loss = loss or LOSSES[config.loss]
        self.early = Batches(
            store, "train", config.batch_size, config.patch, config.kernel, config.scale, config.seed, self.device,
            rank=self.rank, world_size=self.world,
        )  # fmt: skip
        self.late = self.early.with_patch(config.late_patch or config.patch)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            model = build(config.model, config.task, config.scale, **config.options)
            if init is not None:
                model.load_state_dict(init)
            self.model: nn.Module = model.to(self.device, memory_format=torch.channels_last).train()
            if self.rank:  # ranks drop different units, and rank 0 the same as a process alone
                torch.manual_seed(config.seed + self.rank * 1_000_003)
            self.random = random_state(self.device)
        self.average = Average(deepcopy(self.model), config.ema)
        self.optimisers = make_optimisers(config.optimiser, self.model, config.learning_rate)
        self.foreach = None if self.device.type == "mps" else True
        ddp = nn.parallel.DistributedDataParallel  # buffers are constants, or statistics that rank 0 keeps
        self.network = ddp(self.model, broadcast_buffers=False) if self.world > 1 else self.model
        own = loss is not None  # a loss with a state of its own, such as a critic's, is not compiled
        self.objective = torch.compile(self.forward_and_loss) if compile and not own else self.forward_and_loss
        self.callbacks = [StopIfNotFinite(), Validate(store), *callbacks]
        self.step, self.seconds, self.agreed = 0, 0.0, 0.0
        self.history: list[dict] = []
        self.recent: list[tuple[Tensor, Tensor]] = []  # of each step since the last row: loss and gradient norm

    def share(self) -> float:
        """How much of the training lies behind, from 0 to 1: the same on every rank, by rank 0's clock."""
        if self.config.minutes is None:
            return self.step / (self.config.steps or 1)
        if self.world == 1 or self.step % 16 == 0:
            self.agreed = ranks.from_rank_0(self.seconds, self.device)
        return self.agreed / (60 * self.config.minutes)

    def state_dict(self) -> dict:
        """All that :meth:`load_state_dict` needs to go on. Every rank has to ask for it, since each has a part."""
        return {
            "format": FORMAT, "config": asdict(self.config), "step": self.step, "seconds": self.seconds,
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
        if len(state["random"]) == self.world:
            self.random = state["random"][self.rank]
        self.history, self.step, self.seconds = state["history"], state["step"], state["seconds"]
