"""The equivalence of arXiv 1609.07009: forward and gradients, there and back, and what is refused."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from srlib.models.equivalence import to_subpixel, to_subpixel_weight, to_transposed


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_forward_and_gradients_agree_there_and_back(data):
    """Every argument is drawn, the two axes apart."""

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
    pairs = [(ours, theirs), (twins[0], grads[0]), (twins[1] * twin.exists(), moved)]
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
