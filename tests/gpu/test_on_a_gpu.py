"""The CUDA core on real GPUs; skipped without one.

Accuracy against float64 on the CPU, shapes and strides with outputs poisoned first, streams,
devices, graphs, memory, and that nothing waits for the device.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

import esrgan_ext as esr
from esrgan_ext import ops
from esrgan_ext.inference.graphs import CudaQueue
from esrgan_ext.models import RRDBNet
from esrgan_ext.ops import cuda, reference
from esrgan_ext.ops.build import selfcheck
from tests.conftest import make_network

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.timeout(900),
]

MODELS = ["realesrgan-x4plus", "realesrgan-x4plus-anime", "realsr-df2k"]
SIZES = [(1, 1), (1, 37), (33, 1), (7, 5), (64, 64), (45, 150)]
NETWORKS = [
    {"nf": 64, "nb": 1, "gc": 32},
    {"nf": 64, "nb": 2, "gc": 16, "scale": 2, "in_channels": 1, "out_channels": 1},
    {"nf": 32, "nb": 1, "gc": 32, "scale": 8, "in_channels": 4, "out_channels": 4},
    {"nf": 32, "nb": 1, "gc": 16, "scale": 2, "unshuffle": 2},
    {"nf": 32, "nb": 1, "gc": 16, "scale": 1, "unshuffle": 4},
]
PRECISIONS = [torch.float16, torch.bfloat16, torch.float32]
# Of the largest value; random weights, so rougher than what published models reach.
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float32: 1e-5}


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(params=range(min(2, torch.cuda.device_count())))
def device(request: pytest.FixtureRequest) -> torch.device:
    """The first two devices; the current one stays the first."""
    found = torch.device("cuda", request.param)
    if torch.cuda.get_device_capability(found) < (8, 0):
        pytest.skip("older than compute capability 8.0")
    return found


def poison(device: torch.device) -> None:
    """Fill the memory that is handed out next with NaN."""
    torch.full((1 << 26,), float("nan"), device=device)


def largest_difference(got: Tensor, expected: Tensor) -> float:
    got = got.detach().cpu().double()
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def on(device: torch.device, network: RRDBNet, dtype: torch.dtype) -> RRDBNet:
    return copy.deepcopy(network).to(device, dtype)


def in_float64(network: RRDBNet, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return copy.deepcopy(network).cpu().double().plain_forward(x.cpu().double())


def test_the_kernels_are_in_use(device):
    assert ops.backend(device) == "cuda", ops.library.cuda_origin()
    assert all(check.agrees for check in selfcheck.check_all(device))


@pytest.mark.parametrize(
    ("dtype", "decibels"), [(torch.float16, 60), (torch.bfloat16, 45), (torch.float32, 110)]
)
@pytest.mark.parametrize("model", MODELS)
def test_published_models_on_a_photo(device, model, dtype, decibels, photo):
    network = esr.load_model(model)
    pixels = torch.from_numpy(photo[32:96, 32:96].copy()).permute(2, 0, 1)[None] / 255
    placed = on(device, network, dtype)
    with torch.inference_mode():
        poison(device)
        got = placed(pixels.to(device, dtype)).double().cpu()
    error = (got - in_float64(network, pixels)).square().mean()
    assert -10 * torch.log10(error) >= decibels


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("config", NETWORKS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_every_shape(device, config, size, dtype):
    network = on(device, make_network(**config), dtype)
    x = torch.rand(2, network.in_channels, *size, device=device, dtype=dtype)
    with torch.inference_mode():
        poison(device)
        got = network(x)
    assert network.kernels.supports(network._unshuffled(x))
    assert largest_difference(got, in_float64(network, x)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("nf", "gc"), [(64, 32), (32, 16), (64, 16), (32, 32)])
@pytest.mark.parametrize("size", SIZES)
def test_dense_blocks_of_any_memory_format(device, nf, gc, size, dtype):
    weights, biases = selfcheck._parameters([3, 3, nf, gc, 1, 0])
    weights, biases = ([t.to(device, dtype) for t in ts[1:6]] for ts in (weights, biases))
    base = torch.randn(2, nf, *size, device=device, dtype=dtype)
    exact = [[t.cpu().double() for t in ts] for ts in (weights, biases)]
    expected = reference.dense_block(base.cpu().double(), *exact)
    strided = base.repeat_interleave(2, 3)[..., ::2]
    for x in (base, base.contiguous(memory_format=torch.channels_last), strided):
        poison(device)
        got = ops.dense_block(x, weights, biases)
        assert largest_difference(got, expected) < TOLERANCE[dtype]
    assert ops.dense_block(base[:0], weights, biases).shape == base[:0].shape


def test_gradients(device):
    weights, biases = selfcheck._parameters([3, 3, 32, 16, 1, 0])
    inputs = [torch.randn(1, 32, 9, 8), *weights[1:6], *biases[1:6]]
    grads = []
    for block, where in ((ops.dense_block, device), (reference.dense_block, "cpu")):
        leaves = [t.to(where, copy=True).requires_grad_() for t in inputs]
        block(leaves[0], leaves[1:6], leaves[6:]).square().sum().backward()
        grads.append([leaf.grad.cpu() for leaf in leaves])
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(37, 52, 3), (37, 52), (3, 20, 20), (37, 52, 4)])
def test_images_are_what_the_cpu_makes_of_them(device, dtype, shape):
    network = make_network(nf=32, gc=16)
    rng = np.random.default_rng(0)
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (rng.random(shape) * top).astype(dtype)
    expected = esr.upscale(image, network, device="cpu").astype(float) / top
    up = esr.Upscaler(network, device=device, precision="fp16", tile=24, overlap=16)
    for _ in range(3):  # kernel by kernel, captured, replayed
        got = up(image).astype(float) / top
        assert np.abs(got - expected).max() < 0.02


def test_nothing_waits_for_the_device(device):
    network = on(device, make_network(nf=64, gc=32), torch.float16)
    x = torch.rand(1, 3, 40, 40, device=device, dtype=torch.float16)
    with torch.inference_mode(), torch.cuda.device(device):
        network(x)
        torch.cuda.set_sync_debug_mode("error")
        try:
            network(x)
            ops.dense_block(
                torch.rand(1, 64, 8, 8, device=device, dtype=torch.float16),
                *network.body[0].rdb1.weights_and_biases(),
            )
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_graph_gives_what_the_call_gives_on_new_pixels(device):
    network = on(device, make_network(nf=64, gc=32), torch.float16)
    fused = network.fused()
    assert fused is not None
    with torch.inference_mode(), torch.cuda.device(device):
        x = torch.zeros(2, 3, 33, 47, device=device, dtype=torch.uint8)
        out, again = (
            torch.full((2, 3, 132, 188), 7, device=device, dtype=torch.uint8) for _ in range(2)
        )
        flag = torch.zeros(1, device=device, dtype=torch.int32)
        pixels = cuda.PixelMap(1 / 255, 0, 255, 0)
        packed = fused.packed()
        fused.into(x, packed, out, pixels, flag)
        replay = CudaQueue(device).record(lambda: fused.into(x, packed, out, pixels, flag))
        for _ in range(3):
            x.random_(0, 256)
            replay()
            fused.into(x, packed, again, pixels, flag)
            assert torch.equal(out, again)
            assert flag.item() == 0


def test_several_streams_at_once(device):
    network = on(device, make_network(nf=64, gc=32), torch.float16)
    inputs = [torch.rand(1, 3, 90, 90, device=device, dtype=torch.float16) for _ in range(4)]
    with torch.inference_mode(), torch.cuda.device(device):
        expected = [network(x).clone() for x in inputs]
        fresh = copy.deepcopy(network)  # packs on the first stream, the others wait for that
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in inputs]
        results = []
        for stream, x in zip(streams, inputs, strict=True):
            with torch.cuda.stream(stream):
                results.append([fresh(x) for _ in range(5)])
        torch.cuda.synchronize()
    for outputs, value in zip(results, expected, strict=True):
        assert all(torch.equal(y, value) for y in outputs)


def test_changed_weights_are_noticed(device):
    network = on(device, make_network(nf=32, gc=16), torch.float16)
    x = torch.rand(1, 3, 12, 12, device=device, dtype=torch.float16)
    with torch.inference_mode():
        before = network(x)
    with torch.no_grad():
        network.conv_last.bias.add_(1)
    with torch.inference_mode():
        assert largest_difference(network(x), before.cpu().double() + 1) < 1e-2


def test_overflow_is_computed_again_in_fp32(device):
    """conv_last brings the large values back: 8 bits of results that are themselves in the millions
    lie below what float32 can tell apart (torch's own differ from float64 by 3 levels then)."""
    network = make_network(nf=32, gc=16)
    network.conv_first.weight.mul_(1e6)
    network.conv_last.weight.mul_(3e-6)
    network.conv_last.bias.fill_(0.5)
    image = np.full((16, 16, 3), 200, np.uint8)
    with pytest.warns(RuntimeWarning, match="fp16 overflowed"):
        got = esr.upscale(image, network, device=device, precision="fp16")
    expected = esr.upscale(image, network, device="cpu")
    assert len(np.unique(expected)) > 50, "not all black and white"
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.alone
def test_peak_memory_is_at_most_half_of_torchs(device):
    network = on(device, esr.load_model("realesrgan-x4plus-anime"), torch.float16)
    x = torch.rand(1, 3, 512, 512, device=device, dtype=torch.float16)

    def peak(run) -> int:
        with torch.inference_mode():
            run(x)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            run(x)
        return torch.cuda.max_memory_allocated(device) - before

    assert peak(network) <= peak(network.plain_forward) / 2
