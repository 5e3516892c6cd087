"""Tensors on real GPUs: what they are upscaled to, and what crosses to the host; skipped without
one."""

from __future__ import annotations

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
]


def values_of(dtype: torch.dtype, channels: int) -> torch.Tensor:
    values = torch.rand(2, channels, 128, 160, generator=torch.Generator().manual_seed(0))
    if channels == 4:
        values[:, 3] = 1
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * torch.iinfo(dtype).max).to(dtype)


@pytest.mark.parametrize(("dtype", "channels", "options"), CASES, ids=str)
def test_no_picture_crosses_to_the_host(dtype, channels, options):
    up = esr.Upscaler(make_network(), device="cuda", precision="fp32", **options)
    values = values_of(dtype, channels)
    image = values.cuda()
    up(image)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        result = up(image)
        torch.cuda.synchronize()
    assert result.device == image.device
    assert result.dtype == dtype
    kernels = list(seen.profiler.kineto_results.events())
    to_host = [event for event in kernels if "DtoH" in event.name()]
    assert kernels
    # Flags and extremes, each a copy of a few bytes.
    sizes = [event.nbytes() for event in to_host]
    assert max(sizes, default=0) <= 64, sizes
    expected = esr.Upscaler(make_network(), device="cpu", **options)(values)
    tolerance = {torch.uint8: 1, torch.uint16: 8, torch.float32: 1e-3}.get(dtype, 2e-2)
    difference = np.abs(result.cpu().double().numpy() - expected.double().numpy())
    assert difference.max() <= tolerance


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
