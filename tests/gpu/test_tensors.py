"""Tensors on real GPUs: what they are upscaled to, and what crosses to the host; skipped without
one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import esrgan_ext as esr
from tests.conftest import make_network

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.timeout(900),
]

CASES = [
    (torch.uint8, 3, {}),
    (torch.uint16, 3, {}),
    (torch.uint8, 1, {"outscale": 2.5}),
    (torch.float32, 3, {"tile": 64}),
    (torch.float32, 3, {"ensemble": True, "data_range": "minmax"}),
    (torch.float16, 4, {}),
    (torch.bfloat16, 3, {"outscale": 3, "tile": 64}),
    (torch.uint8, 3, {"data_range": "auto"}),
    (torch.uint16, 3, {"data_range": "auto", "consistent": True}),
    (torch.float32, 3, {"data_range": "auto"}),
    (torch.float32, 3, {"consistent": True, "tile": 64}),
    (torch.float32, 3, {"consistent": True, "outscale": 2}),
]


def values_of(dtype: torch.dtype, channels: int) -> torch.Tensor:
    values = torch.rand(2, channels, 128, 160, generator=torch.Generator().manual_seed(0))
    if channels == 4:
        values[:, 3] = 1
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * torch.iinfo(dtype).max).to(dtype)


def sizes_to_host(call: Callable[[], object]) -> list[int]:
    """Bytes of each copy to the host while something runs the second time."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    events = list(seen.profiler.kineto_results.events())
    assert events
    return [event.nbytes() for event in events if "DtoH" in event.name()]


def largest_difference(result: torch.Tensor, expected: torch.Tensor) -> float:
    got, wanted = result.cpu().double().numpy(), expected.double().numpy()
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    return float(np.nanmax(np.abs(got - wanted)))


@pytest.mark.parametrize(("dtype", "channels", "options"), CASES, ids=str)
def test_no_picture_crosses_to_the_host(dtype, channels, options):
    up = esr.Upscaler(make_network(), device="cuda", precision="fp32", **options)
    values = values_of(dtype, channels)
    image = values.cuda()
    # Flags, extremes and percentiles, each a copy of a few bytes.
    assert max(sizes_to_host(lambda: up(image)), default=0) <= 64
    result = up(image)
    assert result.device == image.device
    assert result.dtype == dtype
    expected = esr.Upscaler(make_network(), device="cpu", **options)(values)
    tolerance = {torch.uint8: 1, torch.uint16: 8, torch.float32: 1e-3}.get(dtype, 2e-2)
    assert largest_difference(result, expected) <= tolerance


@pytest.mark.parametrize("kind", ["missing", "hot", "hidden"])
def test_pixels_that_are_filled_and_put_back_stay_there(kind):
    values = values_of(torch.float32, 4 if kind == "hidden" else 3) * 100
    if kind == "missing":
        values[0, 0, 20:60, 30:90] = np.nan
        values[1, 1, ::3] = np.nan
    elif kind == "hot":
        values[0, 0, 7, 9] = values[1, 2, 0, 0] = 20000
    else:
        values[:, 3, 40:90, 20:] = 0
    options = {"data_range": (0, 100)}
    up = esr.Upscaler(make_network(), device="cuda", precision="fp32", **options)
    image = values.cuda()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert max(sizes_to_host(lambda: up(image)), default=0) <= 64
        result = up(image)
        expected = esr.Upscaler(make_network(), device="cpu", **options)(values)
    assert largest_difference(result, expected) <= 0.1


@pytest.mark.parametrize("model", ["lite-micro-x4", "auto"])
def test_noise_is_looked_at_there(model):
    values = torch.rand(2, 1, 128, 160, generator=torch.Generator().manual_seed(0))
    up = esr.Upscaler(model, device="cuda", precision="fp32")
    image = values.cuda()
    # Three doubles for each plane, two for each of twelve classes of brightness.
    assert max(sizes_to_host(lambda: up(image)), default=0) <= 12 * 2 * 8
    expected = esr.Upscaler(model, device="cpu")(values)
    assert largest_difference(up(image), expected) <= 1e-3


class OtherArray:
    """An array of another library on the GPU, as CuPy's are."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __array_namespace__(self):
        return SimpleNamespace(from_dlpack=lambda tensor: OtherArray(torch.from_dlpack(tensor)))

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def test_arrays_with_dlpack_stay_there():
    values = values_of(torch.float32, 3).movedim(1, 3)
    up = esr.Upscaler(make_network(), device="cuda", precision="fp32", channel_axis=3)
    image = OtherArray(values.cuda())
    assert max(sizes_to_host(lambda: up(image)), default=0) <= 64
    result = up(image)
    assert isinstance(result, OtherArray)
    assert result.tensor.is_cuda
    expected = esr.Upscaler(make_network(), device="cpu", channel_axis=3)(values.numpy())
    assert largest_difference(result.tensor, torch.from_numpy(expected)) <= 1e-3


def test_a_callers_stream_is_followed():
    up = esr.Upscaler(make_network(), device="cuda", precision="fp32")
    image = torch.rand(3, 200, 200, device="cuda")
    expected = up(image)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late = torch.zeros_like(image).copy_(image)
        result = up(late)
    stream.synchronize()
    assert torch.equal(result, expected)
