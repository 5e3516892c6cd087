"""Builds the network that a recipe trains, with the initial weights of its paper."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from esrgan_ext.models import (
    CompactConfig,
    RRDBNet,
    RRDBNetConfig,
    SRNetwork,
    SRResNet,
    SRResNetConfig,
    SRVGGNetCompact,
)
from esrgan_ext.models.rrdbnet import NEGATIVE_SLOPE
from esrgan_ext.training.recipe import Recipe

PRELU_SLOPE = 0.25  # torch's, where training begins


def build_generator(recipe: Recipe, seed: int) -> SRNetwork:
    """A network with random weights.

    Parameters
    ----------
    recipe : Recipe
        Its `initialisation_scale` is ESRGAN's "smaller initialization" (arXiv 1809.00219,
        section 3.1; 0.1 in its code).
    seed : int

    Returns
    -------
    SRNetwork
        In train mode, channels-last.
    """
    options = recipe.generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: SRNetwork
        if options.architecture == "srresnet":
            network = SRResNet(
                SRResNetConfig(
                    nf=options.nf,
                    nb=options.nb,
                    scale=options.scale,
                    batch_norm=options.batch_norm,
                )
            )
        elif options.architecture == "compact":
            network = SRVGGNetCompact(
                CompactConfig(nf=options.nf, num_conv=options.nb, upsampling=options.scale)
            )
            # With torch's own weights a chain of 17 passes on a billionth of the image.
            _initialise(network, 1.0, PRELU_SLOPE)
            if recipe.nearest_start:  # to which the network adds what its last convolution gives
                with torch.no_grad():
                    for parameter in network.convolutions()[-1].parameters():
                        parameter.mul_(0.1)
        else:
            network = RRDBNet(
                RRDBNetConfig(
                    in_channels=options.channels,
                    out_channels=options.channels,
                    nf=options.nf,
                    nb=options.nb,
                    gc=options.gc,
                    scale=options.scale,
                )
            )
            _initialise(network, recipe.initialisation_scale, NEGATIVE_SLOPE)
            if recipe.nearest_start:
                _begin_as_nearest(network)
    return network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def gray_of(network: RRDBNet) -> RRDBNet:
    """A network of one channel that does what a colour network does to gray images: the same
    value in all its channels, and the mean of them out."""
    config = replace(network.config, in_channels=1, out_channels=1)
    state = dict(network.state_dict())
    state["conv_first.weight"] = state["conv_first.weight"].sum(1, keepdim=True)
    for name in ("conv_last.weight", "conv_last.bias"):
        state[name] = state[name].mean(0, keepdim=True)
    gray = RRDBNet(config)
    gray.load_state_dict(state)
    return gray


def _initialise(network: nn.Module, scale: float, slope: float) -> None:
    """He's weights for that slope, in residual blocks times the scale."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=slope)
            if name.startswith("body."):
                with torch.no_grad():
                    layer.weight.mul_(scale)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def _begin_as_nearest(network: RRDBNet) -> None:
    """Let the first feature channels carry the image from end to end, the others hardly count.

    Brightness is not negative, so LeakyReLU passes it; the residual branches start near zero.
    """
    carried = range(min(network.in_channels, network.out_channels, network.config.nf))
    layers = [network.conv_first, *network.upsampling_convolutions(), network.conv_hr]
    for layer in layers:
        for channel in carried:
            layer.weight[channel] = 0
            layer.weight[channel, channel, 1, 1] = 1
    network.conv_body.weight.mul_(0.1)
    network.conv_last.weight.mul_(0.1)
    for channel in carried:
        network.conv_last.weight[channel, : len(carried)] = 0
        network.conv_last.weight[channel, channel, 1, 1] = 1
