"""Networks: heads that make what they promise, costs by formulas, equivalences; what moves their weights."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from srlib import models
from srlib.images.color import to_ycbcr
from srlib.images.degrade import upsample
from srlib.images.tasks import TASKS
from srlib.models.bodies import Folding
from srlib.models.equivalence import to_subpixel, to_subpixel_weight, to_transposed
from srlib.train.optimisers import Average, Muon, make_optimisers


@pytest.mark.parametrize("head", models.HEADS)
def test_every_head_makes_whole_blocks(head):
    for scale in (4,) if head == "subpixel-2x2" else (2, 3, 4):
        assert models.HEADS[head](8, 3, scale)(torch.rand(1, 8, 6, 7)).shape == (1, 3, 6 * scale, 7 * scale)


@pytest.mark.parametrize("task", ["rgb-rgb", "gray-rgb"])
def test_skip_adds_the_interpolation_to_every_colour(task):
    net, lr = models.build("residual", task), torch.rand(2, TASKS[task][0], 8, 8)
    for parameter in net.head.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(net(lr), upsample(lr, 4, "bicubic").expand(2, 3, 32, 32))


def test_per_channel_and_luma_only_use_the_gray_network():
    torch.manual_seed(0)
    gray, lr = models.build("residual", "gray-gray").eval(), torch.rand(2, 3, 8, 8)
    in_turn = [gray(channel) for channel in lr.split(1, dim=1)]
    torch.testing.assert_close(models.PerChannel(gray)(lr), torch.cat(in_turn, dim=1))
    before, after = (to_ycbcr(x, limited=False) for x in (lr, models.LumaOnly(gray)(lr)))
    torch.testing.assert_close(after[:, :1], gray(before[:, :1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(after[:, 1:], upsample(before[:, 1:], 4), atol=1e-5, rtol=0)


def test_self_ensemble_commutes_with_flips_and_turns():
    torch.manual_seed(0)
    net = models.SelfEnsemble(models.build("subpixel").double().eval())
    lr = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    for change in (lambda x: x.flip(-1), lambda x: torch.rot90(x, 1, dims=(-2, -1))):
        torch.testing.assert_close(net(change(lr)), change(net(lr)))


def test_layer_table_counts_as_the_formulas_do_and_leaves_the_network_as_it_was():
    conv, up = nn.Conv2d(3, 8, 5, padding=2), nn.ConvTranspose2d(8, 2, 9, 4, 3, 1)
    net = nn.Sequential(conv, nn.BatchNorm2d(8).eval(), up)
    rows = models.layer_table(net, (2, 3, 10, 12))
    assert [row["multiply_adds"] for row in rows] == [2 * 10 * 12 * 8 * 3 * 25, 0, 2 * 10 * 12 * 8 * 2 * 81]
    assert models.count_multiply_adds(net, (2, 3, 10, 12)) == sum(row["multiply_adds"] for row in rows)
    assert rows[2]["output"] == (2, 2, 40, 48)
    assert sum(row["parameters"] for row in rows) == models.count_parameters(net)
    assert [net.training, conv.training, net[1].training] == [True, True, False]
    assert int(net[1].num_batches_tracked) == 0
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.build("resnet"), "unknown model 'resnet': choose from subpixel"),
        (lambda: models.build("base", "rgb-gray"), "unknown task 'rgb-gray'"),
        (lambda: models.build("base", head="magic"), "unknown head 'magic'"),
        (lambda: models.build("base", body="magic"), "unknown body 'magic'"),
        (lambda: models.build("base", init="magic"), "unknown init 'magic'"),
        (lambda: models.build("base", head="subpixel-2x2", scale=2), "made for scale 4"),
        (lambda: models.build("base", batch_norm=True), "plain body only"),
        (lambda: models.build("base", leak=0.1), "plain body only"),
        (lambda: models.icnr_(torch.empty(20, 5, 3, 3), 4), r"no multiple of scale\^2 = 16"),
        (lambda: models.tying(4, 3, 2), "order must be"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_leaky_relu_lets_a_part_through_below_zero():
    bent = models.build("subpixel", leak=0.1).body[1]
    assert bent(torch.tensor([-10.0, 10.0])).tolist() == [-1, 10]


@pytest.mark.parametrize(
    ("name", "bodies", "parameters"),
    [("small", ("residual", "collapsible"), 51_760), ("base", ("wide", "wide-collapsible"), 273_488)],
)
def test_networks_fold_into_plain_ones_within_their_size(name, bodies, parameters):
    lr = torch.rand(1, 3, 9, 11, dtype=torch.float64)
    for network in (models.build(name, body=body).double() for body in bodies):
        plain = models.folded(network)
        assert not any(isinstance(layer, Folding) for layer in plain.modules())
        assert models.count_parameters(plain) == parameters
        assert models.count_multiply_adds(network, lr.shape) == models.count_multiply_adds(plain, lr.shape) > 0
        assert (network(lr) - plain(lr)).abs().max() < 1e-10


@pytest.mark.parametrize("order", [0, 1])
def test_order_1_keeps_ramps_and_order_0_does_not(order):
    ramp = (torch.arange(12.0)[:, None] - 2 * torch.arange(12.0))[None, None].double()
    for scale, kernel in ((2, 3), (3, 5), (4, 3), (4, 5)):
        head, inner = models.TiedConv2d(1, 1, scale, kernel, order).double(), slice(3 * scale, -3 * scale)
        nn.init.normal_(head.weight)
        out = nn.functional.pixel_shuffle(head(ramp).detach(), scale)[..., inner, inner]
        uneven = max(float(steps.max() - steps.min()) for steps in (out.diff(dim=2), out.diff(dim=3)))
        assert (uneven < 1e-10) == (order == 1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_transposed_convolution_and_its_twin_agree_forward_and_in_gradients_there_and_back(data):
    """The equivalence of arXiv 1609.07009: every argument is drawn, the two axes apart."""

    def both(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    stride, dilation, (groups, inputs), (outputs, bias) = both(1, 4), both(1, 2), both(1, 3), both(0, 1)
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    kernel, padding, channels = both(1, 9), both(0, 4), (groups * inputs, groups * (outputs + 1))
    grown = zip((5, 6), kernel, stride, padding, extra, dilation)
    assume(all((n - 1) * s + d * (k - 1) + 1 - 2 * p + q > 0 for n, k, s, p, q, d in grown))
    layer = nn.ConvTranspose2d(*channels, kernel, stride, padding, extra, groups, bool(bias), dilation).double()
    x = torch.randn(2, layer.in_channels, 5, 6, dtype=torch.float64, requires_grad=True)
    twin = to_subpixel(layer)
    back, ours, theirs = to_transposed(twin), twin(x), layer(x)
    assert repr(back) == repr(layer)
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in layer.state_dict().items())

    probe = torch.randn_like(theirs)
    grads = torch.autograd.grad((theirs * probe).sum(), [x, *layer.parameters()])
    twins = torch.autograd.grad((ours * probe).sum(), [x, *twin.parameters()])
    # On the entries that exist in both, the weight's gradient is re-indexed as the weight is.
    moved = to_subpixel_weight(grads[1], twin.rows, twin.columns, layer.groups)
    pairs = [(ours, theirs), (twins[0], grads[0]), (twins[1] * (twin.source() >= 0), moved)]
    if bias:
        pairs.append((twins[2].unflatten(0, (len(grads[2]), -1)).sum(dim=1), grads[2]))
    scale = max(1.0, *(float(theirs.detach().abs().max()) for _, theirs in pairs))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-12 * scale, rtol=0)


def conv(**options):
    return nn.Sequential(nn.Conv2d(2, 4, 3, **options), nn.PixelShuffle(2))


@pytest.mark.parametrize(
    ("layer", "error", "reason"),
    [
        (nn.Conv2d(1, 4, 3), TypeError, "followed by nn.PixelShuffle"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), TypeError, "followed by nn.PixelShuffle"),
        (conv(), ValueError, "bias differs"),
        (conv(stride=2, bias=False), ValueError, "stride 1"),
        (conv(dilation=2, bias=False), ValueError, "dilation 1"),
        (conv(padding=1, padding_mode="reflect", bias=False), ValueError, "zeros only"),
        (conv(padding="same", bias=False), ValueError, "numbers below .3, 3., the kernel's, got 'same'"),
        (conv(padding=3, bias=False), ValueError, "numbers below"),
        (to_subpixel(nn.ConvTranspose2d(1, 1, 9, 4, 3, 1, bias=False)), ValueError, "has no tap"),
    ],
)
def test_what_cannot_be_a_transposed_convolution_is_refused(layer, error, reason):
    for parameter in layer.parameters():
        parameter.data += 1  # as training also moves what stands for no tap
    with pytest.raises(error, match=reason):
        to_transposed(layer)
    with pytest.raises(TypeError, match="ConvTranspose2d can be"):
        to_subpixel(layer)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
def test_steps_of_muon_are_those_of_pytorch_on_each_kernel_as_a_matrix():
    """PyTorch iterates in bfloat16, hence the tolerance; kernels of one shape go together."""
    torch.manual_seed(0)
    kernels = [nn.Parameter(torch.randn(24, 10, 1, 1)) for _ in range(3)] + [nn.Parameter(torch.randn(6, 4, 3, 3))]
    kernels[3].data = kernels[3].data.to(memory_format=torch.channels_last)
    matrices = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in kernels]
    before, ours = [matrix.detach().clone() for matrix in matrices], Muon(kernels, lr=0.01, weight_decay=0.3)
    theirs = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for kernel, matrix in zip(kernels, matrices):
            kernel.grad = torch.randn_like(kernel)
            matrix.grad = kernel.grad.flatten(1)
        ours.step()
        theirs.step()
    for kernel, matrix, start in zip(kernels, matrices, before):
        moved = (matrix - start).norm()
        assert moved > 0.02
        assert (kernel.flatten(1) - matrix).norm() < 0.02 * moved


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_every_weight_has_one_optimiser_and_kernels_alone_decay(name):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    groups = [group for made in make_optimisers(name, model, 1e-3, 0.1) for group in made.param_groups]
    decays = [(id(weight), group["weight_decay"]) for group in groups for weight in group["params"]]
    assert sorted(decays) == sorted((id(weight), 0.1 * (weight.ndim > 1)) for weight in model.parameters())


def test_average_is_the_running_mean_of_the_weights():
    model, average = nn.Linear(1, 1), Average(nn.Linear(1, 1), 0.9)
    average.model.load_state_dict(model.state_dict())
    expected = model.weight.item()
    for step in range(100):
        model.weight.data += 1
        average.update(model, step)
        expected += (model.weight.item() - expected) * (1 - min(0.9, (1 + step) / (10 + step)))
        assert average.model.weight.item() == pytest.approx(expected, rel=1e-5)
