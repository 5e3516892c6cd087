"""The discriminators: their size against published ones, spectral norm against an SVD."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from esrgan_ext.models.discriminators import (
    UNetDiscriminator,
    UNetDiscriminatorConfig,
    VGGDiscriminator,
    VGGDiscriminatorConfig,
)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_as_many_parameters_as_published():
    # ESRGAN's code counts 14,502,281 for patches of 128. It has biases in the nine convolutions
    # before a BatchNorm, which takes them out again: 64 + 2 * (128 + 256) + 4 * 512 of them.
    assert parameters(VGGDiscriminator()) == 14_502_281 - (64 + 2 * (128 + 256) + 4 * 512)
    # Real-ESRGAN's code counts 4,376,897.
    assert parameters(UNetDiscriminator()) == 4_376_897


@pytest.mark.parametrize("size", [32, 64, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_vgg_discriminator_takes_any_multiple_of_32(size, channels):
    network = VGGDiscriminator(VGGDiscriminatorConfig(in_channels=channels, nf=4, size=size))
    x = torch.rand(2, channels, size, size, requires_grad=True)
    logits = network(x)
    assert logits.shape == (2, 1)
    logits.sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 40), (64, 24)])
def test_unet_gives_a_logit_a_pixel(height, width):
    network = UNetDiscriminator(UNetDiscriminatorConfig(nf=4))
    x = torch.rand(2, 3, height, width, requires_grad=True)
    logits = network(x)
    assert logits.shape == (2, 1, height, width)
    logits.sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None for p in network.parameters())


def test_unet_equals_its_description():
    """Layer by layer from the paper's figure 6, with weights divided by their largest singular
    value in float64."""
    torch.manual_seed(0)
    network = UNetDiscriminator(UNetDiscriminatorConfig(nf=4)).double()
    x = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    for layer in (*network.down, *network.up, *network.refine):
        layer.parametrizations.weight[0].n_power_iterations = 500  # to convergence
    network.train()(x)
    network.eval()

    def normalised(layer):
        weight = layer.parametrizations.weight.original
        return weight / torch.linalg.svdvals(weight.flatten(1))[0]

    def activated(values):
        return torch.where(values >= 0, values, 0.2 * values)

    def doubled(values):
        return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)

    with torch.no_grad():
        first = network.conv_first
        x0 = activated(F.conv2d(x, first.weight, first.bias, padding=1))
        x1 = activated(F.conv2d(x0, normalised(network.down[0]), stride=2, padding=1))
        x2 = activated(F.conv2d(x1, normalised(network.down[1]), stride=2, padding=1))
        x3 = activated(F.conv2d(x2, normalised(network.down[2]), stride=2, padding=1))
        x4 = activated(F.conv2d(doubled(x3), normalised(network.up[0]), padding=1)) + x2
        x5 = activated(F.conv2d(doubled(x4), normalised(network.up[1]), padding=1)) + x1
        x6 = activated(F.conv2d(doubled(x5), normalised(network.up[2]), padding=1)) + x0
        y = activated(F.conv2d(x6, normalised(network.refine[0]), padding=1))
        y = activated(F.conv2d(y, normalised(network.refine[1]), padding=1))
        last = network.conv_last
        expected = F.conv2d(y, last.weight, last.bias, padding=1)
        assert torch.allclose(network(x), expected, atol=1e-6)


def test_vgg_discriminator_equals_its_description():
    """Stage by stage, with BatchNorm by its formula over the batch, in float64."""
    torch.manual_seed(0)
    network = VGGDiscriminator(VGGDiscriminatorConfig(nf=3, size=32)).double().train()
    x = y = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    weights = [p.detach() for p in network.features.parameters() if p.ndim == 4]
    assert [w.shape[0] for w in weights] == [3, 3, 6, 6, 12, 12, 24, 24, 24, 24]
    for number, weight in enumerate(weights):
        halving = number % 2 == 1
        assert weight.shape[2:] == ((4, 4) if halving else (3, 3))
        bias = network.features[0].bias.detach() if number == 0 else None
        y = F.conv2d(y, weight, bias, stride=2 if halving else 1, padding=1)
        if number:
            mean = y.mean((0, 2, 3), keepdim=True)
            y = (y - mean) / (y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        y = torch.where(y >= 0, y, 0.2 * y)
    first, _, second = network.classifier
    hidden = y.flatten(1) @ first.weight.T + first.bias
    assert hidden.shape == (4, 100)
    expected = torch.where(hidden >= 0, hidden, 0.2 * hidden) @ second.weight.T + second.bias
    assert torch.allclose(network(x), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (VGGDiscriminator(VGGDiscriminatorConfig(nf=2, size=32)), (1, 3, 64, 64)),
        (VGGDiscriminator(VGGDiscriminatorConfig(nf=2, size=32)), (1, 1, 32, 32)),
        (UNetDiscriminator(UNetDiscriminatorConfig(nf=2)), (1, 3, 12, 16)),
        (UNetDiscriminator(UNetDiscriminatorConfig(nf=2)), (1, 4, 16, 16)),
        (UNetDiscriminator(UNetDiscriminatorConfig(nf=2)), (3, 16, 16)),
    ],
)
def test_other_sizes_are_refused_with_what_is_possible(network, shape):
    with pytest.raises(ValueError, match="this discriminator takes N"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("size", [0, 16, 100, -32])
def test_a_size_that_cannot_be_halved_five_times_is_refused(size):
    with pytest.raises(ValueError, match="multiple of 32"):
        VGGDiscriminatorConfig(size=size)
