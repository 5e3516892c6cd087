"""Tensors that stay on their device: the array's numbers, and no picture on the host.

There is no GPU here. The route's numbers are looked at on CPU tensors that are sent that way; what
crosses, on tensors that say they are on a GPU and count what leaves it.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import esrgan_ext as esr
from esrgan_ext.inference import device_tensors
from esrgan_ext.inference.devices import Device
from esrgan_ext.inference.graphs import BatchRunner
from esrgan_ext.inference.tiles import Rect
from tests.conftest import make_network
from tests.inference.test_engine_on_a_gpu import Operator, PretendedGpu
from tests.inference.test_graphs import PretendedQueue

DTYPES = [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64, torch.bool]
DTYPES += [torch.float16, torch.float32, torch.float64]


def tensor(shape, dtype=torch.float32):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if dtype.is_floating_point:
        return values.to(dtype)
    if dtype == torch.bool:
        return values > 0.5
    return (values.double() * torch.iinfo(dtype).max).to(dtype)


@pytest.fixture
def sent_that_way(monkeypatch):
    """CPU tensors take the device's route; says how many did."""
    taken = []
    monkeypatch.setattr(device_tensors, "stays", lambda image, devices: True)
    steps = device_tensors.TensorSteps
    first = steps.without_missing
    monkeypatch.setattr(steps, "without_missing", lambda *a: taken.append(1) or first(*a))
    return taken


@pytest.fixture(scope="module")
def upscaler(tiny_network):
    return esr.Upscaler(tiny_network, device="cpu")


def by_array(upscaler, t, **options):
    return upscaler(t.numpy(), channel_axis=t.ndim - 3, **{"data_range": "type", **options})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 7, 9), (2, 7, 9), (3, 7, 9), (4, 7, 9), (2, 3, 7, 9)])
def test_the_numbers_are_the_arrays(sent_that_way, upscaler, shape, dtype):
    t = tensor(shape, dtype)
    result = upscaler(t)
    assert sent_that_way
    assert result.dtype == dtype
    assert np.array_equal(result.numpy(), by_array(upscaler, t))


def test_bfloat16_is_rounded_at_the_end(sent_that_way, upscaler):
    t = tensor((3, 8, 10)).bfloat16()
    result, spread = upscaler(t, return_std=True)
    assert (result.dtype, spread.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(upscaler(t), upscaler(t.float()).bfloat16())
    assert sent_that_way


@pytest.mark.parametrize(
    "options",
    [
        {"outscale": 2.5},
        {"outscale": 0.7},
        {"tile": 5},
        {"tile": 4, "outscale": 3.3, "overlap": 3},
        {"ensemble": True},
        {"data_range": (0.1, 0.7)},
        {"data_range": "minmax"},
        {"denoise": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint16])
def test_options_are_the_arrays(sent_that_way, tiny_network, options, dtype):
    t = tensor((2, 3, 8, 10), dtype)
    if isinstance(options.get("data_range"), tuple) and dtype == torch.uint16:
        options = {"data_range": (100, 40000)}
    up = esr.Upscaler(tiny_network, device="cpu", **{"data_range": "type", **options})
    result = up(t)
    assert sent_that_way
    assert np.array_equal(result.numpy(), up(t.numpy(), channel_axis=1))


def test_the_spread_is_the_arrays(sent_that_way, upscaler):
    t = tensor((4, 7, 9)) * 3
    found = upscaler(t, return_std=True, data_range=(0, 3))
    expected = by_array(upscaler, t, return_std=True, data_range=(0, 3))
    for got, wanted in zip(found, expected, strict=True):
        assert np.array_equal(got.numpy(), wanted)


def test_missing_pixels_are_the_arrays(sent_that_way, upscaler):
    t = tensor((2, 3, 9, 11))
    t[0, 0, 2:4, 3] = math.nan
    t[0, 2, :, 10] = math.nan
    t[1, 1] = math.nan
    for image in (t, torch.full((3, 4, 5), math.nan)):
        with pytest.warns(RuntimeWarning, match="NaN pixels"):
            result = upscaler(image)
        with pytest.warns(RuntimeWarning, match="NaN pixels"):
            expected = by_array(upscaler, image)
        assert np.array_equal(result.numpy(), expected, equal_nan=True)
    with pytest.raises(esr.ImageError, match="infinite"):
        upscaler(tensor((3, 4, 5)) / 0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_transparent_pixels_are_the_arrays(sent_that_way, upscaler, dtype):
    t = tensor((3, 4, 9, 11), dtype)
    t[0, 3] = tensor((1, 1, 1), dtype).squeeze()  # one value throughout
    t[1, 3, 2:6, 3:] = 0
    t[2, 3] = 0
    assert np.array_equal(upscaler(t).numpy(), by_array(upscaler, t))
    assert sent_that_way


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint16])
@pytest.mark.parametrize("many", [False, True])
def test_hot_pixels_are_the_arrays(sent_that_way, upscaler, dtype, many):
    t = (tensor((1, 3, 30, 40)) * 100).to(dtype)
    t[0, 0, 7, 9] = t[0, 1, 0, 0] = 20000
    t[0, 2, 12, 12:14] = 15000
    low_high = (0, 1) if many else (0, 100)
    result = upscaler(t, data_range=low_high)
    assert np.array_equal(result.numpy(), by_array(upscaler, t, data_range=low_high))
    assert sent_that_way
    if not many:
        assert result.numpy().max() > 5000  # put back


def test_regions_pieces_and_progress(sent_that_way, upscaler):
    t = tensor((2, 3, 12, 14))
    pieces, seen = [], []
    whole = upscaler(
        t,
        on_tile=lambda piece, slices: pieces.append((piece, slices)),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (2 * 12 * 14,) * 2
    again = torch.zeros_like(whole)
    for piece, slices in pieces:
        again[slices] = piece
    assert torch.equal(again, whole)
    part = upscaler(t, region=Rect(2, 7, 3, 9))
    assert part.shape == (2, 3, 20, 24)
    assert torch.allclose(part, whole[:, :, 8:28, 12:36], atol=1e-5)
    with pytest.raises(esr.UpscaleCancelled):
        upscaler(t, progress=lambda *_: False)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t[:, :, ::2, 1:],
        lambda t: t.transpose(2, 3),
        lambda t: t.flip(1),
        lambda t: t.requires_grad_(),
    ],
)
def test_strides_and_gradients(sent_that_way, upscaler, view):
    t = view(tensor((1, 3, 8, 10)))
    result = upscaler(t)
    assert not result.requires_grad
    assert np.array_equal(result.numpy(), by_array(upscaler, t.detach()))


def test_auto_takes_the_same_model(sent_that_way):
    photo = tensor((3, 12, 12), torch.uint8)
    stain = photo.clone()
    stain[2] = 0
    up = esr.Upscaler(device="cpu")
    for image in (photo, stain):
        array = image.numpy()
        expected = up.choice(array.shape, array.dtype, channel_axis=0, image=array)
        assert up.choice(array.shape, array.dtype, channel_axis=0, image=image) == expected


class OnGpu(torch.Tensor):
    """Says that it is on another device and keeps its values in a tensor within; nothing reaches
    them but through operators. The device is "meta", the one beside the CPU that each torch has."""

    is_meta = False

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(),
            dtype=values.dtype, device="meta",
        )  # fmt: skip

    def __init__(self, values):
        self.values = values

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError("use it within a PretendedCuda")


class PretendedCuda(TorchDispatchMode):
    """Runs operators on `OnGpu` and writes down what each brings to the host: its name and the
    number of values."""

    def __init__(self):
        super().__init__()
        self.crossed: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        leaves = tree_leaves((args, kwargs))
        involved = any(isinstance(leaf, OnGpu) for leaf in leaves)
        target = next((leaf.type for leaf in leaves if isinstance(leaf, torch.device)), None)

        def on_cpu(leaf):
            if isinstance(leaf, torch.device):
                return torch.device("cpu")
            return leaf.values if isinstance(leaf, OnGpu) else leaf

        inner = tree_map(on_cpu, (args, kwargs))
        result = func(*inner[0], **inner[1])
        if not involved and target != "meta":
            return result
        if name == "_local_scalar_dense" or target == "cpu":
            self.crossed.append((name, result.numel() if target == "cpu" else 1))
            return result
        if name == "copy_" and not isinstance(args[0], OnGpu):
            self.crossed.append((name, args[0].numel()))
        if kwargs.get("out") is not None:
            return kwargs["out"]
        if name.endswith("_") and not name.startswith("_"):
            return args[0]
        return tree_map(lambda r: OnGpu(r) if isinstance(r, torch.Tensor) else r, result)


class Queue(PretendedQueue):
    def empty(self, like, dtype):
        return OnGpu(torch.empty_strided(like.shape, like.stride(), dtype=dtype))

    def staging(self, like):
        return torch.empty(like.shape, dtype=like.dtype)


class OnGpuOperator(Operator):
    """`Operator` without a look at its result."""

    def into(self, x, packed, out, pixels, nonfinite):
        y = self._exact.plain_forward(x.double() * pixels.in_scale + pixels.in_offset)
        nonfinite.copy_((~y.isfinite()).any().reshape(1))
        y = y * pixels.out_scale + pixels.out_offset
        if not out.is_floating_point():
            limits = torch.iinfo(out.dtype)
            y = y.round().clamp(limits.min, limits.max)
        out.copy_(y)


@pytest.fixture(params=["kernels", "plain torch"])
def on_gpu(request, monkeypatch):
    """Makes an upscaler whose network is on that GPU, as one operator or as torch's."""
    monkeypatch.setattr(Device, "free_memory", lambda self: 1 << 30)
    monkeypatch.setattr(device_tensors, "stays", lambda image, devices: isinstance(image, OnGpu))

    def made(**options):
        network = make_network()
        up = esr.Upscaler(network, device="cpu", **options)
        up._take((Device(torch.device("meta"), "fp32"),))
        operator = OnGpuOperator(network, PretendedGpu())

        def plain(x, on_work=None):
            return operator._exact.plain_forward(x.double()).float()

        if request.param == "kernels":
            up.engine._runner = BatchRunner(operator, Queue())
        # Ensembles are plain torch's in any case.
        up.engine._ready.strips = lambda x, on_work: iter([(0, plain(x))])
        up.engine._ready.forward = plain
        return up

    return made


@pytest.mark.parametrize(
    ("channels", "dtype", "options"),
    [
        (3, torch.uint8, {}),
        (1, torch.uint8, {"outscale": 2.5}),
        (3, torch.uint16, {"data_range": (10, 60000)}),
        (3, torch.float32, {"tile": 8, "overlap": 2}),
        (3, torch.float32, {"tile": 8, "overlap": 2, "outscale": 3}),
        (3, torch.float32, {"ensemble": True}),
        (3, torch.float32, {"data_range": "minmax"}),
        (4, torch.float16, {}),
        (4, torch.bfloat16, {"data_range": (0, 0.8)}),
    ],
    ids=str,
)
def test_no_picture_crosses_to_the_host(on_gpu, channels, dtype, options):
    values = tensor((2, channels, 12, 20), torch.float32 if dtype == torch.bfloat16 else dtype)
    if channels == 4:
        values[:, 3] = 1
    values = values.to(dtype)
    up = on_gpu(**options)
    with PretendedCuda() as cuda:
        result = up(OnGpu(values))
    assert isinstance(result, OnGpu)
    assert result.dtype == dtype
    sizes = [size for _, size in cuda.crossed]
    # Flags and extremes: no crossing grows with the picture.
    assert max(sizes) <= 2
    windows = 2 * 6 if "tile" in options else 1
    runs = 2 if channels == 4 else 1
    assert len(sizes) <= 6 + windows * (3 + runs)
    expected = esr.Upscaler(make_network(), device="cpu", **options)(values)
    tolerance = {torch.uint8: 1, torch.float32: 1e-5}.get(dtype, 1e-2)
    difference = result.values.double() - expected.double()
    assert difference.abs().max() <= tolerance


def test_what_leaves_the_device_is_counted(on_gpu):
    with PretendedCuda() as cuda:
        t = torch.rand(3, 8, 9).to("meta")
        t = (t + 1).clamp_(0, 1)
        assert isinstance(t, OnGpu)
        assert not cuda.crossed
        t.cpu()
        torch.empty(3, 8, 9).copy_(t)
        t.sum().item()
        assert t[0, 0].cpu().tolist() == [1.0] * 9
        assert [size for _, size in cuda.crossed] == [216, 216, 1, 9]
        with pytest.raises((RuntimeError, TypeError)):
            t.numpy()


def test_masks_cross_where_pixels_are_missing(on_gpu):
    values = tensor((3, 20, 30))
    values[1, 3:5, 4] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with PretendedCuda() as cuda:
            result = on_gpu()(OnGpu(values))
        expected = esr.upscale(values, make_network(), device="cpu")
    assert np.allclose(result.values, expected, atol=1e-5, equal_nan=True)
    assert sorted(size for _, size in cuda.crossed)[-1] == values.numel()


def test_several_devices_share_a_tensor_and_their_streams_are_waited_for(
    sent_that_way, tiny_network, monkeypatch
):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    t = tensor((4, 3, 9, 10))
    up = esr.Upscaler(tiny_network, device="cpu,cpu", tile=5)
    assert len(up.devices) == 2
    up.data_range = "type"
    result = up(t)
    assert waited == [torch.device("cpu")] * 2  # before the threads start, and after
    expected = up(t.numpy(), channel_axis=1)
    assert np.array_equal(result.numpy(), expected)
