"""Chunks that are upscaled when they are read."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

import esrgan_ext as esr
from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work import live as live_module
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.prepare import channel_ranges, load_model, make_upscaler
from napari_esrgan._work.ranges import RangeChoice
from napari_esrgan._work.upscale import run_upscale

RNG = np.random.default_rng(0)
STACK = Axes(("plane", "y", "x"))


@pytest.fixture
def errors():
    """What went wrong in chunks."""
    return []


@pytest.fixture
def live(make_request, monkeypatch, errors):
    """A live source of a stack, with small chunks."""
    monkeypatch.setattr(live_module, "CHUNK", 16)
    data = RNG.integers(100, 4000, (2, 40, 50), np.uint16)
    request = make_request(data, axes=STACK)
    network = load_model(request.model, lambda _: None, lambda: False)
    ranges = channel_ranges(request, lambda: False)
    upscaler = make_upscaler(request, network, [].append, lambda: False)
    return data, live_module.LiveSource(data, STACK, [upscaler], ranges, errors.append)


def test_chunks_fit_together_to_the_whole(live, model_file):
    data, source = live
    array = source.array()
    assert array.shape == (2, 160, 200)
    assert source.computed == 0
    expected = esr.upscale(data, model_file, channel_axis=False, data_range="minmax", device="cpu")
    assert np.abs(np.asarray(array).astype(int) - expected).max() <= 1


def test_only_what_is_asked_for_is_computed(live):
    _, source = live
    np.asarray(source.array()[0, 10:80, 70:120])
    assert source.computed == 2


def test_inference_is_locked(live, monkeypatch):
    _, source = live
    active, most, lock = 0, 0, threading.Lock()
    real = esr.Upscaler.__call__

    def counted(self, *args, **kwargs):
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        try:
            return real(self, *args, **kwargs)
        finally:
            with lock:
                active -= 1

    monkeypatch.setattr(esr.Upscaler, "__call__", counted)
    np.asarray(source.array())
    assert source.computed == 2 * 3 * 4
    assert most == 1


def test_rgb_and_turned_axes(make_request, model_file):
    image = RNG.integers(0, 255, (30, 20, 3), np.uint8)
    axes = Axes(("x", "y"), rgb=True)
    request = make_request(image, axes=axes, value_range=RangeChoice("type"))
    network = load_model(request.model, lambda _: None, lambda: False)
    upscaler = make_upscaler(request, network, [].append, lambda: False)
    source = live_module.LiveSource(image, axes, [upscaler], [None], [].append)
    expected = esr.upscale(image.swapaxes(0, 1), model_file, device="cpu").swapaxes(0, 1)
    np.testing.assert_array_equal(np.asarray(source.array()), expected)


def test_errors_in_a_chunk_leave_the_layer_usable(live, monkeypatch, errors):
    data, source = live

    def fail(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(esr.Upscaler, "__call__", fail)
    array = np.asarray(source.array()[0, :64, :64])
    np.testing.assert_array_equal(array[::4, ::4], data[0, :16, :16])
    assert isinstance(errors[0], MemoryError)


def test_a_live_layer_can_be_the_source_of_a_run(live, make_request):
    """Its chunks are computed by the network that the run computes with."""
    _, source = live
    choice = RangeChoice("limits", (0, 4000))
    request = make_request(
        source.array(), only_shown=True, region=Rect(0, 20, 0, 30), value_range=choice
    )
    outcome = run_upscale(replace(request, axes=STACK, shown=(1,)), [].append, lambda: False)
    assert outcome.result.shape == (1, 80, 120)
    assert source.computed == 1
