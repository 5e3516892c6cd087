"""The networks: shapes, variants, the inference path against the definition, counting of work."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.models import RRDBNet, RRDBNetConfig, SRNetwork, SRResNet, SRResNetConfig, rrdbnet
from tests.conftest import make_network

SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (33, 18)]
VARIANTS = [
    {},
    {"nf": 32, "gc": 16, "nb": 2},
    {"scale": 1},
    {"scale": 2},
    {"scale": 8},
    {"scale": 2, "unshuffle": 2},
    {"scale": 1, "unshuffle": 4},
    {"scale": 4, "unshuffle": 2},
    {"in_channels": 1, "out_channels": 1},
    {"in_channels": 4, "out_channels": 4},
    {"plus": True},
]


def in_double(network: SRNetwork) -> SRNetwork:
    return copy.deepcopy(network).double()


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_inference_equals_the_definition_in_float64(config, size):
    network = make_network(**config)
    x = torch.rand(2, network.in_channels, *size)
    expected = in_double(network).plain_forward(x.double())
    with torch.no_grad():
        result = network(x)
    assert result.shape == (2, network.out_channels, *(side * network.scale for side in size))
    assert torch.allclose(result.double(), expected, atol=2e-6)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_strips_of_the_tail_join_without_a_seam(config, monkeypatch):
    network = in_double(make_network(**config))
    monkeypatch.setattr(rrdbnet, "TAIL_STRIP_PIXELS", 150)
    x = torch.rand(1, network.in_channels, 41, 30, dtype=torch.float64)
    with torch.no_grad():
        pieces = list(network.strips(x))
    tops = [top for top, _ in pieces]
    assert len(pieces) > 1 or network.alignment > 1
    assert tops == [sum(rows.shape[2] for _, rows in pieces[:k]) for k in range(len(pieces))]
    joined = torch.cat([rows for _, rows in pieces], 2)
    assert torch.allclose(joined, network.plain_forward(x), atol=1e-12)


def test_convolution_strips_on_the_cpu_join_without_a_seam(monkeypatch):
    from esrgan_ext.ops import eager

    monkeypatch.setattr(eager, "CPU_STRIP_MACS", 20_000)
    network = in_double(make_network(nb=2))
    x = torch.rand(2, 3, 23, 17, dtype=torch.float64)
    calls: list[int] = []
    with torch.no_grad():
        result = network(x, calls.append)
    assert len(calls) > 200
    assert torch.allclose(result, network.plain_forward(x), atol=1e-12)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_reported_work_adds_up_to_macs(config):
    network = make_network(**config)
    calls: list[int] = []
    with torch.no_grad():
        network(torch.rand(3, network.in_channels, 14, 27), calls.append)
    assert sum(calls) == pytest.approx(3 * network.macs(14, 27), rel=0.02)


def test_macs_of_the_published_network_match_the_published_cost():
    # 588 GFLOP for 128 x 128 pixels, two per multiply-accumulate.
    assert 2 * RRDBNet().macs(128, 128) == pytest.approx(588e9, rel=0.01)


def test_work_can_be_stopped_from_the_callback():
    class Stop(Exception):
        pass

    def stop(macs: int) -> None:
        raise Stop

    with torch.no_grad(), pytest.raises(Stop):
        make_network()(torch.rand(1, 3, 8, 8), stop)


def test_reach_is_the_radius_of_the_receptive_field():
    network = in_double(make_network())
    size = 2 * network.reach + 21
    x = torch.rand(1, 3, size, size, dtype=torch.float64)
    changed = x.clone()
    middle = size // 2
    changed[:, :, middle, middle] += 1000
    with torch.no_grad():
        difference = (network(changed) - network(x)).abs().amax((0, 1))
    rows = difference.amax(1).nonzero().flatten() // 4
    assert (rows - middle).abs().max() <= network.reach
    assert (rows - middle).abs().max() >= network.reach - 4


def test_changed_weights_are_noticed():
    network = make_network()
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        network(x)
        for p in network.parameters():
            p.mul_(0.5)
        assert torch.allclose(network(x), network.plain_forward(x), atol=1e-6)
        network.load_state_dict(make_network(seed=1).state_dict())
        assert torch.allclose(network(x), make_network(seed=1).plain_forward(x), atol=1e-6)


def test_copies_and_pickles_work_after_a_run():
    network = make_network()
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected = network(x)
        assert torch.equal(copy.deepcopy(network)(x), expected)
        assert torch.equal(pickle.loads(pickle.dumps(network))(x), expected)


def test_gradients_flow_to_every_parameter():
    network = RRDBNet(RRDBNetConfig(nf=8, nb=1, gc=4))
    network(torch.rand(1, 3, 6, 6)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_but_agrees(dtype, memory_format):
    network = make_network()
    x = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        expected = network(x)
        half = copy.deepcopy(network).to(dtype)
        result = half(x.to(dtype).contiguous(memory_format=memory_format)).float()
    assert (result - expected).abs().max() < 0.02 * expected.abs().max()


def test_empty_batch_gives_an_empty_result():
    for network in (make_network(), SRResNet(SRResNetConfig(nf=8, nb=1)).eval()):
        with torch.no_grad():
            assert network(torch.rand(0, 3, 5, 6)).shape == (0, 3, 20, 24)


def test_wrong_channel_count_is_refused():
    with torch.no_grad(), pytest.raises(ValueError, match="expected N,3,H,W"):
        make_network()(torch.rand(1, 1, 4, 4))


@pytest.mark.parametrize("config", [{"nf": 0}, {"nb": 0}, {"scale": 3}, {"unshuffle": 3}])
def test_impossible_configurations_are_refused(config):
    with pytest.raises(ValueError, match="must be"):
        RRDBNetConfig(**config)


def test_esrgan_plus_adds_the_two_paths_of_the_paper():
    """arXiv 2001.08073, figure 2: x enters the second output, that one enters the fourth."""
    block = RRDBNet(RRDBNetConfig(nf=4, nb=1, gc=2, plus=True)).double().body[0].rdb1
    x = torch.rand(1, 4, 6, 7, dtype=torch.float64)

    def lrelu(v):
        return torch.where(v >= 0, v, 0.2 * v)

    def conv(name, *inputs):
        layer = getattr(block, name)
        return F.conv2d(torch.cat(inputs, 1), layer.weight, layer.bias, padding="same")

    y1 = lrelu(conv("conv1", x))
    y2 = lrelu(conv("conv2", x, y1)) + torch.einsum(
        "oi,nihw->nohw", block.conv1x1.weight[..., 0, 0], x
    )
    y3 = lrelu(conv("conv3", x, y1, y2))
    y4 = lrelu(conv("conv4", x, y1, y2, y3)) + y2
    expected = 0.2 * conv("conv5", x, y1, y2, y3, y4) + x
    assert torch.allclose(block(x), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    config=st.sampled_from([{}, {"scale": 2, "unshuffle": 2}, {"scale": 1, "unshuffle": 4}]),
)
def test_any_size_gives_scale_times_the_size(height, width, config):
    network = make_network(nf=4, gc=2, **config)
    x = torch.rand(1, 3, height, width)
    with torch.no_grad():
        result = network(x)
        assert result.shape[2:] == (height * network.scale, width * network.scale)
        assert torch.allclose(result, network.plain_forward(x), atol=2e-6)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_srresnet_inference_equals_the_definition(scale, batch_norm):
    torch.manual_seed(0)
    network = SRResNet(SRResNetConfig(nf=8, nb=2, scale=scale, batch_norm=batch_norm))
    network(torch.rand(4, 3, 12, 12))  # gives the running statistics values of their own
    network.eval()
    x = torch.rand(2, 3, 9, 7)
    calls: list[int] = []
    with torch.no_grad():
        result = network(x, calls.append)
    assert result.shape == (2, 3, 9 * scale, 7 * scale)
    assert torch.allclose(result.double(), in_double(network).plain_forward(x.double()), atol=1e-5)
    assert sum(calls) == 2 * network.macs(9, 7)
