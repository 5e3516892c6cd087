"""The upscaler where a network is one operator call: on a pretended GPU, with the real networks.

The operator is the network's own definition in float64 here, the queue that of `test_graphs`; what
is tested is everything between an image and the operator.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

import esrgan_ext as esr
from esrgan_ext.inference import engine as module
from esrgan_ext.inference.devices import Device
from esrgan_ext.models import RRDBNet
from esrgan_ext.ops.build import selfcheck
from esrgan_ext.ops.cpu import NetworkShape
from esrgan_ext.ops.cuda import FusedNetwork
from tests.conftest import make_network
from tests.inference.test_graphs import PretendedQueue

RNG = np.random.default_rng(0)


class Operator(FusedNetwork):
    """The definition, with the conversions of the real operator."""

    def __init__(self, network: RRDBNet, gpu: PretendedGpu) -> None:
        shape = NetworkShape(network.in_channels, network.out_channels, 8, 4, 1, 2)
        packed = torch.zeros(1)
        super().__init__(shape, "float32", lambda: packed)
        self._network = network
        self._dtype = network.conv_first.weight.dtype
        self._exact = copy.deepcopy(network).double()
        self._gpu = gpu

    def into(self, x, packed, out, pixels, nonfinite):
        self._gpu.calls.append((self._dtype, x.dtype, tuple(x.shape)))
        if self._gpu.fails:
            raise self._gpu.fails.pop(0)
        y = self._exact.plain_forward(x.double() * pixels.in_scale + pixels.in_offset)
        if self._dtype == torch.float16 and self._gpu.overflows_above is not None:
            y = torch.where(y > self._gpu.overflows_above, torch.inf, y)
        nonfinite.fill_(int(not bool(torch.isfinite(y).all())))
        y = y * pixels.out_scale + pixels.out_offset
        if not out.is_floating_point():
            limits = torch.iinfo(out.dtype)
            y = torch.nan_to_num(y).round().clamp(limits.min, limits.max)
        out.copy_(y)


class PretendedGpu:
    def __init__(self) -> None:
        self.calls: list[tuple[torch.dtype, torch.dtype, tuple[int, ...]]] = []
        self.fails: list[Exception] = []
        self.overflows_above: float | None = None
        self.queue = PretendedQueue()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    """Every RRDBNet without pixel-unshuffling is one operator call from now on."""
    pretended = PretendedGpu()

    def fused(network: RRDBNet) -> Operator | None:
        if network.config.unshuffle > 1:
            return None
        return Operator(network, pretended)

    monkeypatch.setattr(RRDBNet, "fused", fused)
    monkeypatch.setattr(module, "_queue", lambda device: pretended.queue)
    monkeypatch.setattr(selfcheck, "_verdicts", {})
    return pretended


def on_the_cpu(network: RRDBNet, image: np.ndarray, **options: object) -> np.ndarray:
    """The result of the path without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RRDBNet, "fused", lambda network: None)
        return esr.upscale(image, network, device="cpu", **options)


def image_of(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if dtype == np.float32:
        return RNG.random(shape, np.float32)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def camera_image(hot: int | None = None) -> np.ndarray:
    """A 16-bit image within 100 to 5000, with one pixel of value `hot` if wished."""
    image = np.repeat(np.linspace(100, 5000, 9 * 14).reshape(9, 14, 1), 3, 2).astype(np.uint16)
    if hot is not None:
        image[4, 7] = hot
    return image


@pytest.mark.parametrize("shape", [(9, 14, 3), (9, 14), (9, 14, 4), (2, 9, 14), (1, 1, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_results_are_those_of_the_cpu(gpu, tiny_network, shape, dtype):
    image = image_of(shape, dtype)
    expected = on_the_cpu(tiny_network, image)
    result = esr.upscale(image, tiny_network, device="cpu")
    assert gpu.calls
    assert result.dtype == expected.dtype
    tolerance = {np.uint8: 1, np.uint16: 1, np.float32: 1e-5}[dtype]
    assert np.abs(result.astype(np.float64) - expected.astype(np.float64)).max() <= tolerance


@pytest.mark.parametrize(
    ("image", "options", "seen"),
    [
        (image_of((9, 14, 3), np.uint8), {}, torch.uint8),
        (image_of((9, 14, 3), np.uint16), {"data_range": "auto"}, torch.uint16),
        (camera_image(), {"data_range": (100, 5000)}, torch.uint16),
        (camera_image(hot=60000), {"data_range": (100, 5000)}, torch.float32),  # put back
        (image_of((9, 14), np.uint16), {}, torch.float32),  # the mean of three results
        (image_of((9, 14, 3), np.uint8), {"outscale": 2}, torch.float32),  # resampled afterwards
        (image_of((9, 14, 3), np.uint8).astype(">u2"), {}, torch.float32),
    ],
)
def test_integers_are_converted_on_the_device_where_nothing_comes_after(
    gpu, tiny_network, image, options, seen
):
    result = esr.upscale(image, tiny_network, device="cpu", **options)
    assert {dtype for _, dtype, _ in gpu.calls} == {seen}
    expected = on_the_cpu(tiny_network, image, **options)
    assert result.dtype == image.dtype
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1


def test_a_constant_image_with_its_own_range_stays_constant(gpu, tiny_network):
    image = np.full((5, 6, 3), 77, np.uint8)
    result = esr.upscale(image, tiny_network, device="cpu", data_range="auto")
    assert (result == 77).all()


def test_each_window_is_one_call_and_windows_of_one_shape_one_graph(gpu, tiny_network):
    image = image_of((64, 64, 3), np.uint8)
    up = esr.Upscaler(tiny_network, device="cpu", tile=16, overlap=4)
    expected = on_the_cpu(tiny_network, image, tile=16, overlap=4)
    result = up(image)
    assert len(gpu.calls) == 16 == up.plan(image.shape, image.dtype).tiles
    shapes = {shape for _, _, shape in gpu.calls}
    assert shapes == {(1, 3, h, w) for h in (20, 24) for w in (20, 24)}
    assert gpu.queue.recorded == len(shapes)
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
    up(image)  # replays only
    assert gpu.queue.recorded == len(shapes)


def test_small_planes_go_as_one_batch(gpu, tiny_network):
    stack = image_of((5, 8, 8), np.float32)
    esr.upscale(stack, tiny_network, device="cpu")
    assert [shape for _, _, shape in gpu.calls] == [(5, 3, 8, 8)]


def test_progress_ends_at_the_whole_and_may_stop_the_work(gpu, tiny_network, monkeypatch):
    # Tiles this small are done before the next call would be due.
    monkeypatch.setattr("esrgan_ext.inference.progress.PROGRESS_INTERVAL", 0)
    seen: list[tuple[int, int]] = []
    image = image_of((32, 32, 3), np.uint8)
    up = esr.Upscaler(tiny_network, device="cpu", tile=16, overlap=4)
    up(image, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1024, 1024)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    with pytest.raises(esr.UpscaleCancelled):
        up(image, progress=lambda done, total: done < 300)
    assert len(gpu.calls) < 8


def in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "esrgan_ext.inference.upscaler.choose_devices",
        lambda *_: (Device(torch.device("cpu"), "fp16"),),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_overflows_in_fp16_is_computed_again_in_fp32(gpu, tiny_network, monkeypatch, dtype):
    image = image_of((6, 7, 3), dtype)
    expected = on_the_cpu(tiny_network, image)
    in_fp16(monkeypatch)
    gpu.overflows_above = 0.0
    with pytest.warns(RuntimeWarning, match="fp16 overflowed"):
        result = esr.upscale(image, tiny_network)
    assert [dtype for dtype, _, _ in gpu.calls] == [torch.float16, torch.float32]
    assert np.abs(result.astype(float) - expected.astype(float)).max() <= (
        1 if dtype == np.uint8 else 1e-5
    )


def test_what_is_not_finite_in_fp32_either_is_an_error(gpu):
    network = make_network()
    network.conv_last.bias.data.fill_(float("inf"))
    with pytest.raises(esr.ImageError, match="not finite"):
        esr.upscale(image_of((4, 4, 3), np.uint8), network, device="cpu")


def test_out_of_memory_halves_the_tile_and_gives_up_buffers(gpu, tiny_network):
    image = image_of((40, 40, 3), np.uint8)
    up = esr.Upscaler(tiny_network, device="cpu", overlap=4)
    gpu.fails = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
    with pytest.warns(RuntimeWarning, match=r"out of memory.*tiles of 20"):
        result = up(image)
    assert len(gpu.calls) == 5
    expected = on_the_cpu(tiny_network, image, tile=20, overlap=4)
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_kernels_that_fail_in_use_are_left_for_plain_torch(gpu, tiny_network, dtype):
    image = image_of((10, 11, 3), dtype)
    up = esr.Upscaler(tiny_network, device="cpu")
    gpu.fails = [RuntimeError("the CUDA kernels: invalid configuration argument")]
    with pytest.warns(RuntimeWarning, match=r"invalid configuration argument.*Plain PyTorch"):
        result = up(image)
    expected = on_the_cpu(tiny_network, image)
    assert np.abs(result.astype(float) - expected.astype(float)).max() <= (
        1 if dtype == np.uint8 else 1e-5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(up(image), result)
    assert len(gpu.calls) == 1
    assert not selfcheck.trusted(torch.device("cpu"), torch.float32)


def test_networks_without_kernels_and_ensembles_run_as_before(gpu):
    image = image_of((8, 8, 3), np.uint8)
    unshuffled = make_network(scale=2, unshuffle=2)
    assert np.array_equal(
        esr.upscale(image, unshuffled, device="cpu"), on_the_cpu(unshuffled, image)
    )
    network = make_network()
    result = esr.upscale(image, network, device="cpu", ensemble=True)
    assert np.array_equal(result, on_the_cpu(network, image, ensemble=True))
    assert not gpu.calls
