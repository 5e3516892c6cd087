"""Tensors that stay on their device: the array's numbers to the bit.

There is no GPU here: CPU tensors are sent that way.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

import esrgan_ext as esr
from esrgan_ext.inference.device_tensors import job as device_job
from esrgan_ext.inference.device_tensors import windows
from esrgan_ext.inference.tiles import Rect
from tests.conftest import torch_threads

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
    monkeypatch.setattr(device_job, "stays", lambda image, devices: True)
    steps = windows.TensorSteps
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
        {"data_range": "auto"},
        {"consistent": True},
        {"consistent": True, "outscale": 2, "tile": 5},
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


@pytest.fixture
def one_thread():
    """On a CPU several threads of torch add float32 to the same place in any order (a GPU sorts
    what it adds first)."""
    with torch_threads(1):
        yield


@pytest.mark.usefixtures("one_thread")
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint16, torch.uint8])
@pytest.mark.parametrize("extra", ["hot", "missing", "spread", "alpha"])
def test_consistent_results_are_the_arrays(sent_that_way, tiny_network, dtype, extra):
    t = tensor((2, 4 if extra == "alpha" else 3, 9, 11), dtype)
    options = {"data_range": "auto"}
    if extra == "hot" and dtype != torch.uint8:
        t = (tensor((2, 3, 9, 11)) * 300).to(dtype)
        t[0, 1, 4, 5] = 40000
    if extra == "missing" and dtype.is_floating_point:
        t[0, 0, 2:4, 3] = math.nan
    up = esr.Upscaler(tiny_network, device="cpu", consistent=True, **options)
    spread = extra == "spread"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = up(t, return_std=spread)
        expected = up(t.numpy(), channel_axis=1, return_std=spread)
    for got, wanted in zip(found, expected, strict=True) if spread else [(found, expected)]:
        assert np.array_equal(got.numpy(), wanted, equal_nan=dtype.is_floating_point)
    assert sent_that_way


def noisy(shape, dtype, levels):
    """Smooth waves; each plane with noise of its own strength, as shares of the range."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    waves = 0.5 + 0.2 * np.sin(x / 9) * np.cos(y / 7) + np.zeros(shape)
    waves += rng.normal(size=shape) * np.reshape(levels, (-1, 1, 1))
    waves = waves.clip(0, 1)
    if not dtype.is_floating_point:
        waves = (waves * torch.iinfo(dtype).max).round()
    return torch.from_numpy(waves).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
@pytest.mark.parametrize("model", ["lite-micro-x4", "auto"])
def test_models_that_follow_the_noise_follow_it_there(sent_that_way, dtype, model):
    up = esr.Upscaler(model, device="cpu")
    results = []
    for level in (0.0, 0.03, 0.2):
        t = noisy((1, 64, 70), dtype, [level])
        results.append(up(t))
        assert np.array_equal(results[-1].numpy(), by_array(up, t))
    assert sent_that_way
    plain = esr.Upscaler("lite-micro-x4", device="cpu", denoise=None)
    assert torch.equal(results[0], plain(noisy((1, 64, 70), dtype, [0.0])))
    assert not torch.equal(results[2], plain(noisy((1, 64, 70), dtype, [0.2])))


def test_each_channel_has_its_own_strength_and_pieces_are_the_results(sent_that_way):
    up = esr.Upscaler("lite-micro-x4", device="cpu", tile=40)
    t = torch.stack([noisy((3, 64, 70), torch.float32, [0.0, 0.2, 0.04])] * 2)
    pieces, seen = [], []
    found = up(
        t,
        on_tile=lambda piece, where: pieces.append((piece, where)),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert sent_that_way
    assert np.array_equal(found.numpy(), by_array(up, t))
    again = torch.zeros_like(found)
    for piece, where in pieces:
        again[where] = piece
    assert torch.equal(again, found)
    assert seen[-1] == (3 * 2 * 64 * 70,) * 2
    # Of one small image: a spread takes eight runs.
    small = torch.stack([noisy((3, 34, 36), torch.float32, [0.0, 0.2, 0.04])])
    mean, spread = up(small, return_std=True)
    assert mean.shape == spread.shape == (1, 3, 136, 144)


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


def test_missing_pixels_in_holes_and_stripes_are_the_arrays(sent_that_way, upscaler):
    t = tensor((1, 3, 40, 50))
    t[0, 0, 5:30, 8:47] = math.nan
    t[0, 1, ::2] = math.nan
    t[0, 2, (tensor((1, 40, 50)) > 0.1)[0]] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert np.array_equal(upscaler(t).numpy(), by_array(upscaler, t), equal_nan=True)


def test_auto_takes_the_same_model(sent_that_way):
    photo = tensor((3, 12, 12), torch.uint8)
    stain = photo.clone()
    stain[2] = 0
    up = esr.Upscaler(device="cpu")
    for image in (photo, stain):
        array = image.numpy()
        expected = up.choice(array.shape, array.dtype, channel_axis=0, image=array)
        assert up.choice(array.shape, array.dtype, channel_axis=0, image=image) == expected


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
