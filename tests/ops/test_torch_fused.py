"""A compact network as one call for a graph: on a pretended queue, in the network's own type."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from esrgan_ext.inference.graphs import BatchRunner
from esrgan_ext.models import SRVGGNetCompact
from esrgan_ext.ops.cuda import PixelMap
from esrgan_ext.ops.torch_fused import TorchNetwork
from tests.inference.test_graphs import PretendedQueue
from tests.models.test_compact import make

RNG = np.random.default_rng(0)
LEVELS = {np.uint8: 255.0, np.uint16: 65535.0}


def fused(network: SRVGGNetCompact) -> TorchNetwork:
    return TorchNetwork(network.kernels.shape, network, network.strips)


def expected(network: SRVGGNetCompact, image: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(image.astype(np.float64))
    return copy.deepcopy(network).double().plain_forward(x).numpy()


@pytest.mark.parametrize("config", [{}, {"scale": 2}, {"upsampling": 2}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_go_in_and_come_out_as_they_are_stored(config, dtype):
    network = make(**config)
    top = LEVELS.get(dtype, 1.0)
    image = (RNG.random((2, 3, 11, 9)) * top).astype(dtype)
    runner = BatchRunner(fused(network), PretendedQueue())
    exact = expected(network, image / top) * top
    pixels = PixelMap(1 / top, 0.0, top, 0.0)
    work: list[int] = []
    for _ in range(3):  # enqueued, recorded, replayed
        result, overflowed = runner.run(
            image, torch.from_numpy(image[:1]).dtype, pixels, work.append, 1000
        )
        assert not overflowed
        assert result.dtype == dtype
        tolerance = {np.uint8: 0.51, np.uint16: 0.6}.get(dtype, 1e-5)
        limits = (-np.inf, np.inf) if dtype == np.float32 else (0, top)
        assert np.abs(result.astype(np.float64) - exact.clip(*limits)).max() <= tolerance
    assert sum(work) == 3000


def test_the_parts_of_a_large_image_join(monkeypatch):
    monkeypatch.setattr("esrgan_ext.models.compact.TAIL_STRIP_PIXELS", 100)
    network = make(scale=2)
    image = RNG.random((1, 3, 41, 20), dtype=np.float32)
    runner = BatchRunner(fused(network), PretendedQueue())
    result, _ = runner.run(image, torch.float32, PixelMap(), lambda macs: None, 1)
    np.testing.assert_allclose(result, expected(network, image), atol=1e-5)


def test_overflow_is_told():
    network = make()
    image = RNG.random((1, 3, 8, 8), dtype=np.float32)
    image[0, 1, 3, 3] = np.inf
    runner = BatchRunner(fused(network), PretendedQueue())
    _, overflowed = runner.run(image, torch.float32, PixelMap(), lambda macs: None, 1)
    assert overflowed


def test_graphs_go_where_a_parameter_moved_and_stay_where_it_was_written_to():
    network = make()
    image = RNG.random((1, 3, 8, 8), dtype=np.float32)
    operator = fused(network)
    runner = BatchRunner(operator, PretendedQueue())

    def run() -> np.ndarray:
        return runner.run(image, torch.float32, PixelMap(), lambda macs: None, 1)[0]

    before, token = run(), operator.packed()
    with torch.no_grad():
        network.body[0].weight.mul_(1.5)
    assert operator.packed() is token
    assert not np.array_equal(run(), before)
    network.body[0].weight = torch.nn.Parameter(network.body[0].weight * 2, requires_grad=False)
    assert operator.packed() is not token
    np.testing.assert_allclose(run(), expected(network, image), atol=1e-5)


def test_a_network_on_the_cpu_has_no_such_call():
    assert make().fused() is None
