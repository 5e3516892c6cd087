"""The compact networks: the definition, the inference path against it, counting of work."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from esrgan_ext.models import CompactConfig, SRVGGNetCompact, compact

VARIANTS = [
    {},
    {"upsampling": 1, "in_channels": 1},
    {"upsampling": 2, "activation": "relu"},
    {"upsampling": 3, "activation": "leakyrelu", "num_conv": 0},
    {"scale": 2},
    {"scale": 3, "in_channels": 4},
]


def make(**config) -> SRVGGNetCompact:
    """A small network with random weights and slopes, in eval mode."""
    torch.manual_seed(0)
    network = SRVGGNetCompact(CompactConfig(**{"nf": 8, "num_conv": 2, **config})).eval()
    for name, p in network.named_parameters():
        nn.init.normal_(p, std=0.3 if p.ndim == 1 or name.startswith("body.0") else 0.15)
    return network.requires_grad_(False)


def published(network: SRVGGNetCompact, x: torch.Tensor) -> torch.Tensor:
    """What Real-ESRGAN's code computes with these tensors, and ncnn's Interp after it."""
    config, state = network.config, network.state_dict()
    y, last = x, 2 * config.num_conv + 2
    for k in range(0, last + 1, 2):
        y = F.conv2d(y, state[f"body.{k}.weight"], state[f"body.{k}.bias"], padding=1)
        if k == last:
            break
        if config.activation == "prelu":
            y = torch.where(y > 0, y, y * state[f"body.{k + 1}.weight"].view(1, -1, 1, 1))
        else:
            y = torch.where(y > 0, y, y * (0.1 if config.activation == "leakyrelu" else 0.0))
    factor = config.upsampling
    y = F.pixel_shuffle(y, factor) + x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    if config.scale == factor:
        return y
    size = [side * config.scale for side in x.shape[2:]]
    return F.interpolate(y, size=size, mode="bicubic", align_corners=False)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (33, 18)], ids=str)
def test_inference_equals_the_published_network_in_float64(config, size):
    network = make(**config)
    x = torch.rand(2, network.in_channels, *size)
    exact = copy.deepcopy(network).double()
    expected = published(exact, x.double())
    assert torch.allclose(exact.plain_forward(x.double()), expected, atol=1e-12)
    with torch.no_grad():
        result = network(x)
    assert result.shape == (2, network.in_channels, *(side * network.scale for side in size))
    assert torch.allclose(result.double(), expected, atol=5e-6)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_strips_join_without_a_seam_and_work_adds_up(config, monkeypatch):
    monkeypatch.setattr(compact, "TAIL_STRIP_PIXELS", 150)
    network = make(**config).double()
    x = torch.rand(1, network.in_channels, 41, 30, dtype=torch.float64)
    calls: list[int] = []
    with torch.no_grad():
        pieces = list(network.strips(x, calls.append))
    assert len(pieces) > 1
    assert [top for top, _ in pieces] == [
        sum(rows.shape[2] for _, rows in pieces[:k]) for k in range(len(pieces))
    ]
    assert torch.allclose(torch.cat([rows for _, rows in pieces], 2), network.plain_forward(x))
    assert sum(calls) == pytest.approx(network.macs(41, 30), rel=0.02)


@pytest.mark.parametrize("config", [{}, {"scale": 2}, {"num_conv": 0}], ids=str)
def test_no_pixel_sees_further_than_the_reach(config):
    network = make(**config).double()
    size = 2 * network.reach + 21
    x = torch.rand(1, 3, size, size, dtype=torch.float64)
    changed = x.clone()
    middle = size // 2
    changed[:, :, middle, middle] += 1000
    difference = (network(changed) - network(x)).abs().amax((0, 1))
    rows = difference.amax(1).nonzero().flatten() // network.scale
    assert 0 < (rows - middle).abs().max() <= network.reach


def test_the_published_network_costs_what_its_weights_say():
    network = SRVGGNetCompact()
    assert sum(p.numel() for p in network.parameters()) == 621_424  # of realesr-animevideov3.pth
    assert network.macs(1, 1) == 3 * 64 * 9 + 16 * 64 * 64 * 9 + 64 * 48 * 9


@pytest.mark.parametrize(
    "config",
    [{"nf": 0}, {"num_conv": -1}, {"upsampling": 9}, {"activation": "gelu"}, {"scale": 1}],
    ids=str,
)
def test_impossible_configurations_are_refused(config):
    with pytest.raises(ValueError, match="must"):
        CompactConfig(**config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_but_agrees(dtype):
    network = make()
    x = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        expected, half = network(x), copy.deepcopy(network).to(dtype)(x.to(dtype)).float()
    assert (half - expected).abs().max() < 0.03 * expected.abs().max()
