"""The training forms of the operators against their definition, in float64, with gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.models import RRDBNet, RRDBNetConfig
from esrgan_ext.ops import grouped, reference


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def compare(ours, theirs, inputs):
    # Rounding grows with the values, here up to 2000: 1.4e-15 of the largest at the most, over 576
    # shapes of dense blocks.
    largest = theirs.detach().abs().max().item() if theirs.numel() else 0.0
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-13 * largest)
    weight = torch.randn_like(theirs)
    gradients = torch.autograd.grad((ours * weight).sum(), inputs)
    expected = torch.autograd.grad((theirs * weight).sum(), inputs)
    for a, b in zip(gradients, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


sizes = st.integers(1, 9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), sizes, sizes, st.integers(1, 6), st.integers(1, 4))
def test_dense_block(batch, height, width, nf, gc):
    torch.manual_seed(0)
    x = random(batch, nf, height, width)
    weights = [random(gc if k < 4 else nf, nf + k * gc, 3, 3) for k in range(5)]
    biases = [random(gc if k < 4 else nf) for k in range(5)]
    compare(
        grouped.dense_block(x, weights, biases),
        reference.dense_block(x, weights, biases),
        [x, *weights, *biases],
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), sizes, sizes, st.integers(1, 6), st.integers(1, 6))
def test_upsample_conv(batch, height, width, channels, outputs):
    torch.manual_seed(0)
    x, weight, bias = random(batch, channels, height, width), random(outputs, channels, 3, 3), None
    bias = random(outputs)
    compare(
        grouped.upsample_conv(x, weight, bias),
        reference.upsample_conv(x, weight, bias),
        [x, weight, bias],
    )


@pytest.mark.parametrize("shape", [{"scale": 4}, {"scale": 1}, {"scale": 2, "unshuffle": 2}])
def test_networks_train_on_the_definition(shape):
    """forward with gradients, in float32 on the CPU, is plain_forward."""
    torch.manual_seed(0)
    network = RRDBNet(RRDBNetConfig(nf=8, nb=1, gc=4, **shape))
    x = torch.rand(2, 3, 9, 7)
    ours, theirs = network(x), network.plain_forward(x)
    assert torch.allclose(ours, theirs, atol=1e-5)
    parameters = list(network.parameters())
    weight = torch.randn_like(theirs)
    gradients = torch.autograd.grad((ours * weight).sum(), parameters)
    expected = torch.autograd.grad((theirs * weight).sum(), parameters)
    for a, b in zip(gradients, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())
