"""Compact networks in the compiled extension against the plain definition."""

from __future__ import annotations

import copy
import threading

import pytest
import torch

from esrgan_ext import load_model
from esrgan_ext.models import SRVGGNetCompact
from esrgan_ext.ops import cpu
from esrgan_ext.ops.build import library
from tests.models.test_compact import make
from tests.ops.test_cpu import pictures, run, threads  # noqa: F401

pytestmark = pytest.mark.skipif(
    library.source_folder() is None
    or library.load() is None
    or not hasattr(torch.ops.esrgan_ext, "compact_pack"),
    reason="no compiled extension, or one built before it had these kernels",
)

NETWORKS = [
    {"nf": 64},
    {"nf": 32, "upsampling": 2, "activation": "relu", "in_channels": 1},
    {"nf": 64, "upsampling": 1, "activation": "leakyrelu", "in_channels": 4},
    {"nf": 32, "scale": 2},
    {"nf": 32, "scale": 3, "num_conv": 0},
    {"nf": 96, "upsampling": 3},
]


def in_float64(network: SRVGGNetCompact, x: torch.Tensor) -> torch.Tensor:
    return copy.deepcopy(network).double().plain_forward(x.double())


@pytest.mark.parametrize("config", NETWORKS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (38, 23)])
def test_agrees_with_the_definition(config: dict, size: tuple[int, int]) -> None:
    network = make(**config)
    with torch.no_grad():  # features of about 1 in every layer
        for layer in network.convolutions():
            layer.weight.mul_(0.6 / layer.weight.std() / (9 * layer.in_channels) ** 0.5)
    x = torch.rand(2, network.in_channels, *size)
    assert cpu.supports(network.kernels.shape, x)
    torch.testing.assert_close(run(network, x).double(), in_float64(network, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_packaged_models_are_as_exact_as_promised(scale: int) -> None:
    network = load_model(f"realesr-animevideov3-x{scale}")
    for kind, picture in pictures().items():
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
        got, exact = run(network, x).double(), in_float64(network, x)
        decibels = -10 * torch.log10((got - exact).square().mean()).item()
        assert decibels >= 120, (kind, decibels)


@pytest.mark.parametrize("config", [{}, {"scale": 2}], ids=str)
def test_the_number_of_threads_changes_no_bit(threads, config: dict) -> None:  # noqa: F811
    network = make(nf=32, **config)
    x = torch.rand(1, 3, 45, 150)
    results = []
    for count in (1, 2, 3, 5):
        threads(count)
        results.append(run(network, x))
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("config", [{"num_conv": 5}, {"scale": 3}], ids=str)
def test_a_window_with_its_reach_equals_the_whole_to_the_bit(config: dict) -> None:
    network = make(nf=32, **config)
    reach, x = network.reach, torch.rand(1, 3, 90, 100)
    first = (reach + 3) // 4 * 4
    window = x[:, :, 8 : 8 + first + 10 + reach, 12 : 12 + first + 10 + reach]
    inside = slice(first * network.scale, (first + 10) * network.scale)
    top, left = (8 + first) * network.scale, (12 + first) * network.scale
    side = 10 * network.scale
    whole = run(network, x)[:, :, top : top + side, left : left + side]
    assert torch.equal(run(network, window)[:, :, inside, inside], whole)


def test_strips_cover_the_output_from_the_top_and_work_adds_up() -> None:
    network = make(nf=32, scale=3)
    x = torch.rand(1, 3, 190, 40)
    work: list[int] = []
    strips = list(network.strips(x, work.append))
    rows = 0
    for top, strip in strips:
        assert top == rows
        rows += strip.shape[2]
    assert rows == 570
    assert sum(work) == network.macs(190, 40)
    assert torch.equal(torch.cat([s for _, s in strips], 2), run(network, x))


def test_raising_in_on_work_stops_the_network() -> None:
    network = make(nf=64, num_conv=32)
    done = []

    class Stop(Exception):
        pass

    def on_work(macs: int) -> None:
        done.append(macs)
        raise Stop

    with pytest.raises(Stop), torch.inference_mode():
        network(torch.rand(1, 3, 400, 400), on_work)
    assert sum(done) < network.macs(400, 400) / 2
    assert not [t for t in threading.enumerate() if t.name == "esrgan-network"]


@pytest.mark.parametrize("name", ["body.2.weight", "body.2.bias", "body.3.weight"])
@pytest.mark.parametrize("write", ["add_", "data"])
def test_weights_changed_in_place_are_noticed(name: str, write: str) -> None:
    network = make(nf=32)
    x = torch.rand(1, 3, 9, 9)
    before = run(network, x)
    tensor = dict(network.named_parameters())[name]
    if write == "add_":
        with torch.no_grad():
            tensor.add_(0.05)
    else:
        tensor.data += 0.05
    after = run(network, x)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after.double(), in_float64(network, x), rtol=0, atol=1e-4)


def test_other_layouts_of_the_input_are_read_as_they_are() -> None:
    network = make(nf=32)
    x = torch.rand(1, 3, 20, 24)
    expected = run(network, x[:, :, ::2, 4:20].contiguous())
    assert torch.equal(run(network, x[:, :, ::2, 4:20]), expected)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(network, channels_last[:, :, ::2, 4:20]), expected)


def test_shapes_beyond_the_kernels_are_left_to_torch() -> None:
    for config in ({"nf": 8}, {"nf": 160}, {"in_channels": 5, "nf": 32}):
        network = make(**config)
        x = torch.rand(1, network.in_channels, 6, 7)
        assert not cpu.supports(network.kernels.shape, x)
        torch.testing.assert_close(run(network, x), network.plain_forward(x), rtol=1e-4, atol=1e-4)


def test_wrong_arguments_are_refused() -> None:
    ops, network = torch.ops.esrgan_ext, make(nf=32)
    shape = network.kernels.shape.as_list()
    packed, x = network.kernels.packed(), torch.rand(1, 3, 4, 4)
    out = torch.empty(1, 3, 16, 16)
    for bad in (
        (x.double(), packed, shape, out),
        (x[:, :2], packed, shape, out),
        (x, packed[1:], shape, out),
        (x, packed, shape, out[:, :, :8]),
        (x, packed, [3, 40, 2, 4, 4], out),
        (x, packed, shape[:4], out),
    ):
        with pytest.raises(RuntimeError):
            ops.compact_into(*bad, None)
