"""Networks on CUDA as far as they can be followed without a GPU: on tensors without data."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from esrgan_ext.models import RRDBNet, RRDBNetConfig
from esrgan_ext.ops import cuda
from esrgan_ext.ops.build import library

pytestmark = pytest.mark.skipif(
    library.source_folder() is None or library.load() is None, reason="no compiled extension"
)


class Calls(TorchDispatchMode):
    """Notes the operators of this package that are called, and how many others."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: list[str] = []
        self.convolutions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "esrgan_ext":
            self.ours.append(func.name())
        self.convolutions += "convolution" in func.name()
        return func(*args, **(kwargs or {}))


@pytest.fixture
def tensors_without_data(monkeypatch: pytest.MonkeyPatch):
    """A CUDA machine whose tensors have shapes only, and whose kernels take everything."""
    monkeypatch.setattr(cuda, "supports", lambda shape, device, dtype: shape.nf in (32, 64))
    monkeypatch.setattr(
        cuda.PackedWeights,
        "get",
        lambda self, shape, weights, biases, compute: torch.empty(9, device="cuda"),
    )
    monkeypatch.setattr(cuda, "working_bytes", lambda *_: 1_000_000)
    # Random numbers on CUDA need CUDA, with data or without.
    monkeypatch.setattr(torch.nn.Conv2d, "reset_parameters", lambda self: None)
    with FakeTensorMode(), torch.device("cuda"):
        yield


def network_on_cuda(dtype: torch.dtype = torch.float16, **config: object) -> RRDBNet:
    settings = {"nf": 32, "nb": 1, "gc": 16, **config}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # tensors without data cannot be converted in place
    try:
        network = RRDBNet(RRDBNetConfig(**settings))  # type: ignore[arg-type]
    finally:
        torch.set_default_dtype(before)
    return network.eval().requires_grad_(False)


@pytest.mark.usefixtures("tensors_without_data")
class TestOnCuda:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    @pytest.mark.parametrize("config", [{}, {"scale": 2, "unshuffle": 2}])
    def test_a_pass_is_one_call_of_the_operator(self, dtype, config):
        network = network_on_cuda(dtype, **config)
        x = torch.empty(2, 3, 7, 9, dtype=dtype)
        with torch.inference_mode(), Calls() as calls:
            y = network(x)
        assert calls.ours == ["esrgan_ext::rrdbnet"]
        assert calls.convolutions == 0
        assert y.shape == (2, 3, 7 * network.scale, 9 * network.scale)
        assert (y.dtype, y.device.type) == (dtype, "cuda")

    def test_work_is_reported_in_one_piece(self):
        network, work = network_on_cuda(), []
        with torch.inference_mode():
            strips = list(network.strips(torch.empty(2, 3, 7, 9, dtype=torch.float16), work.append))
        assert [(top, rows.shape) for top, rows in strips] == [(0, (2, 3, 28, 36))]
        assert work == [2 * network.macs(7, 9)]

    def test_mixed_types_other_widths_and_training_run_in_torch(self):
        network = network_on_cuda()
        assert not network.kernels.supports(torch.empty(1, 3, 4, 4))  # float32 into float16
        assert network_on_cuda(nf=48).fused() is None
        assert network_on_cuda(plus=True).fused() is None
        network = network_on_cuda(torch.float32)
        with Calls() as calls:
            network(torch.empty(1, 3, 4, 4))  # gradients are recorded
        assert not calls.ours
        assert calls.convolutions > 0

    def test_the_fused_form_is_for_graphs(self):
        fused = network_on_cuda().fused()
        assert fused is not None
        assert (fused.compute, fused.zoom) == ("float16", 4)
        x = torch.empty(1, 3, 4, 5, dtype=torch.uint8)
        out = torch.empty(1, 3, 16, 20, dtype=torch.uint8)
        flag = torch.empty(1, dtype=torch.int32)
        with torch.inference_mode(), Calls() as calls:
            fused.into(x, fused.packed(), out, cuda.PixelMap(1 / 255, 0, 255, 0), flag)
        assert calls.ours == ["esrgan_ext::rrdbnet_into"]
        assert network_on_cuda(scale=2, unshuffle=2).fused() is None

    def test_memory_is_what_the_kernels_say(self):
        network = network_on_cuda()
        assert network.activation_bytes(10, 10, 2) == 1_000_000
        assert network_on_cuda(nf=48).activation_bytes(10, 10, 2) != 1_000_000


def test_on_the_cpu_nothing_is_fused(tiny_network):
    assert tiny_network.fused() is None
