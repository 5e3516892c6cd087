"""What crosses to the host of images on a GPU: numbers, and never a picture, whatever is asked for.

There is no GPU here: the tensors say that they are on one, and count what leaves it.
"""

from __future__ import annotations

import math
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

import esrgan_ext as esr
from esrgan_ext.inference.device_tensors import job as device_job
from esrgan_ext.inference.devices import Device
from esrgan_ext.inference.engine import Engine
from esrgan_ext.inference.graphs import BatchRunner
from esrgan_ext.models import RRDBNet
from tests.conftest import make_network
from tests.inference.device_tensors.pretended import OnGpu, OnGpuOperator, PretendedCuda, Queue
from tests.inference.device_tensors.test_route import noisy, tensor
from tests.inference.test_engine_on_a_gpu import PretendedGpu


@pytest.fixture(params=["kernels", "plain torch"])
def on_gpu(request, monkeypatch):
    """Makes an upscaler whose networks are on that GPU, as one operator or as torch's."""
    monkeypatch.setattr(Device, "free_memory", lambda self: 1 << 30)
    monkeypatch.setattr(device_job, "stays", lambda image, devices: isinstance(image, OnGpu))
    make = Engine.__init__

    making = []

    def made(engine, network, device, ensemble):
        make(engine, network, device, ensemble)
        if not making and _get_current_dispatch_mode() is None:
            return  # one of the CPU's, to compare with

        def plain(x, on_work=None):
            return network.plain_forward(x)

        if request.param == "kernels" and isinstance(network, RRDBNet):
            engine._runner = BatchRunner(OnGpuOperator(network, PretendedGpu()), Queue())
        # Ensembles are plain torch's in any case.
        engine._ready.strips = lambda x, on_work: iter([(0, plain(x))])
        engine._ready.forward = plain

    monkeypatch.setattr(Engine, "__init__", made)

    def upscaler(model=None, **options):
        making.append(True)
        up = esr.Upscaler(model or make_network(), device="cpu", **options)
        making.clear()
        up._take((Device(torch.device("meta"), "fp32"),))
        return up

    return upscaler


def image_of(shape, dtype):
    if dtype == torch.bfloat16:
        return tensor(shape).to(dtype)
    return tensor(shape, dtype)


def with_hot(t):
    """A narrow range, and single pixels far beyond it."""
    t = (t.double() / t.double().max() * 200 + 100).to(t.dtype)
    t[..., 5, 7] = 30000
    t[..., 0, 0] = 20000
    return t


def with_missing(t):
    t[:, 1, 3:8, 4:9] = math.nan
    t[0, 0] = math.nan
    return t


def with_hidden(t):
    t[:, -1, 2:7, 3:] = 0
    return t


def with_opaque(t):
    t[:, -1] = 1
    return t


CASES = [
    (3, torch.uint8, {}, None),
    (1, torch.uint8, {"outscale": 2.5}, None),
    (3, torch.uint16, {"data_range": (10, 60000)}, None),
    (3, torch.float32, {"tile": 8, "overlap": 2}, None),
    (3, torch.float32, {"tile": 8, "overlap": 2, "outscale": 3}, None),
    (3, torch.float32, {"ensemble": True}, None),
    (3, torch.float32, {"data_range": "minmax"}, None),
    (4, torch.float16, {}, with_opaque),
    (4, torch.bfloat16, {"data_range": (0, 0.8)}, with_opaque),
    # Percentiles, of values that are counted and of others.
    (3, torch.uint8, {"data_range": "auto"}, None),
    (3, torch.uint16, {"data_range": "auto"}, None),
    (1, torch.int16, {"data_range": "auto"}, None),
    (3, torch.float32, {"data_range": "auto"}, None),
    (3, torch.int32, {"data_range": "auto"}, None),
    (3, torch.uint16, {"data_range": "auto"}, with_hot),
    (3, torch.float32, {"data_range": "auto"}, with_hot),
    (3, torch.float32, {"data_range": (0, 0.01)}, None),
    (3, torch.uint16, {"data_range": (100, 300), "tile": 8, "overlap": 2}, with_hot),
    (3, torch.uint8, {"consistent": True}, None),
    (3, torch.uint16, {"consistent": True, "data_range": "auto"}, with_hot),
    (3, torch.float32, {"consistent": True, "tile": 8, "overlap": 2}, None),
    (3, torch.float32, {"consistent": True, "outscale": 2}, with_missing),
    (3, torch.float32, {}, with_missing),
    (3, torch.float32, {"data_range": "auto", "tile": 8, "overlap": 2}, with_missing),
    (3, torch.float64, {"data_range": "minmax", "outscale": 3}, with_missing),
    (4, torch.uint8, {}, with_hidden),
    (2, torch.float32, {"outscale": 2}, with_hidden),
]


@pytest.mark.parametrize(
    ("channels", "dtype", "options", "change"),
    CASES,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_no_picture_crosses_to_the_host(on_gpu, channels, dtype, options, change):
    values = image_of((2, channels, 12, 20), dtype)
    values = values if change is None else change(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with PretendedCuda() as cuda:
            result = on_gpu(**options)(OnGpu(values))
        expected = esr.Upscaler(make_network(), device="cpu", **options)(values)
    assert isinstance(result, OnGpu)
    assert result.dtype == dtype
    # Flags, extremes, percentiles: no crossing grows with the picture.
    sizes = [size for _, size in cuda.crossed]
    assert max(sizes) <= 2
    windows = 2 * 6 if "tile" in options else 1
    assert len(sizes) <= 12 + 12 * windows
    span = 1 if dtype.is_floating_point else torch.iinfo(dtype).max
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 1e-2}.get(dtype, max(1e-5, 1 / span))
    if change is with_hot:
        tolerance = max(tolerance, 0.05)  # of 20000
    difference = (result.values.double() - expected.double()).abs() / span
    assert torch.equal(result.values.isnan(), expected.isnan())
    assert difference.nan_to_num().max() <= tolerance


@pytest.mark.parametrize(
    ("model", "options"),
    [("lite-micro-x4", {}), ("auto", {"tile": 24, "overlap": 4}), ("auto", {"outscale": 2})],
    ids=str,
)
@pytest.mark.parametrize("level", [0.0, 0.2])
def test_noise_is_looked_at_there(on_gpu, model, options, level):
    values = torch.stack([noisy((1, 26, 34), torch.float32, [level])] * 17)
    up = on_gpu(model, **options)
    with PretendedCuda() as cuda:
        result = up(OnGpu(values))
    # Three numbers for each of the 16 planes that are looked at are the most.
    assert max(size for _, size in cuda.crossed) == 48
    expected = esr.Upscaler(model, device="cpu", **options)(values[:1])
    assert (result.values[:1] - expected).abs().max() < 1e-4


def test_channels_of_different_noise_stay_there(on_gpu):
    values = noisy((3, 34, 36), torch.uint16, [0.0, 0.2, 0.04])
    with PretendedCuda() as cuda:
        result = on_gpu("lite-micro-x4")(OnGpu(values))
    assert max(size for _, size in cuda.crossed) <= 48
    expected = esr.Upscaler("lite-micro-x4", device="cpu")(values)
    assert (result.values.int() - expected.int()).abs().max() <= 7


def test_a_photo_is_told_from_stains_there(on_gpu):
    photo = tensor((3, 12, 14), torch.uint8)
    stains = photo.clone()
    stains[1] = 7
    up = esr.Upscaler(device="cpu")
    for image in (photo, stains):
        array = image.numpy()
        with PretendedCuda() as cuda:
            found = up.choice(array.shape, array.dtype, channel_axis=0, image=OnGpu(image))
        assert found == up.choice(array.shape, array.dtype, channel_axis=0, image=array)
        assert [size for _, size in cuda.crossed] == [3]


class GpuArray:
    """An array of another library on the GPU, as CuPy's are: torch sees its memory."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, *, stream=None, **_):
        return self.tensor

    def __dlpack_device__(self):
        return (2, 0)


class NamedArray(GpuArray):
    """One that names its library itself."""

    def __array_namespace__(self):
        return sys.modules[__name__]


def from_dlpack(image):
    """That library's."""
    return GpuArray(image)


@pytest.fixture
def capsules(monkeypatch):
    """torch takes what `GpuArray.__dlpack__` gives; real capsules need a GPU."""
    monkeypatch.setattr(torch, "from_dlpack", lambda image: image.__dlpack__(stream=1))
    monkeypatch.setattr(GpuArray, "__module__", __name__)
    library = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, __name__.partition(".")[0], library)


@pytest.mark.parametrize("kind", [GpuArray, NamedArray])
@pytest.mark.parametrize(
    ("shape", "dtype", "axis", "options"),
    [
        ((12, 20), torch.uint16, None, {}),
        ((12, 20, 3), torch.uint8, None, {"outscale": 2}),
        ((5, 12, 20), torch.float32, None, {"consistent": True}),
        ((6, 12, 20), torch.float32, 0, {"data_range": (0, 2)}),
        ((2, 12, 3, 20), torch.float32, 2, {"tile": 8}),
        ((12, 20, 4), torch.uint8, 2, {}),
    ],
)
def test_arrays_of_cupys_kind_stay_there(on_gpu, capsules, kind, shape, dtype, axis, options):
    values = tensor(shape, dtype)
    with PretendedCuda() as cuda:
        result = on_gpu(**options)(kind(OnGpu(values)), channel_axis=axis)
    assert max(size for _, size in cuda.crossed) <= 2
    assert isinstance(result, GpuArray)
    assert isinstance(result.tensor, OnGpu)
    expected = esr.Upscaler(make_network(), device="cpu", **options)(
        values.numpy(), channel_axis=axis
    )
    assert result.tensor.shape == expected.shape
    difference = result.tensor.values.double().numpy() - expected.astype(np.float64)
    assert np.abs(difference).max() <= (1e-4 if dtype.is_floating_point else 1)


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
