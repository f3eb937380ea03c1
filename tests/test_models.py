"""Networks: published sizes, heads that make what they promise, costs counted against formulas."""

import pytest
import torch
from torch import nn

from srlib import models
from srlib.images.color import to_ycbcr
from srlib.images.degrade import upsample
from srlib.images.tasks import TASKS
from srlib.models.folding import Folding


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
        (lambda: models.build("base", init="magic"), "unknown initialisation 'magic'"),
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
