"""Consistency layers and live layers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from napari.components import ViewerModel

import esrgan_ext as esr
from esrgan_ext.inference.tiles import Rect
from napari_esrgan._window.layer_task import LayerTask
from napari_esrgan._work import live as live_module
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.consistency import compare, reduced, result_to_check, start_consistency
from napari_esrgan._work.ranges import RangeChoice
from napari_esrgan._work.request import channel_ranges, load_model, make_upscaler
from tests.napari_esrgan.test_upscale_widget import notices  # noqa: F401

RNG = np.random.default_rng(0)
PLANE, STACK = Axes(("y", "x")), Axes(("plane", "y", "x"))


def test_reducing_averages_over_pixels():
    plane = RNG.random((12, 20))
    np.testing.assert_allclose(
        reduced(plane, 3, 5), plane.reshape(3, 4, 5, 4).mean((1, 3)), rtol=1e-12
    )


@pytest.mark.parametrize("size", [(7, 9), (8, 13), (12, 20)])
def test_reducing_by_any_factor_keeps_the_mean(size):
    plane = RNG.random((12, 20, 3))
    small = reduced(plane, *size)
    assert small.shape == (*size, 3)
    np.testing.assert_allclose(small.mean((0, 1)), plane.mean((0, 1)), rtol=1e-12)


def test_an_exact_enlargement_is_consistent():
    source = RNG.integers(0, 4000, (3, 10, 12), np.uint16)
    big = source.repeat(4, 1).repeat(4, 2)
    outcome = compare(source, big, STACK, Rect(0, 10, 0, 12), None)
    assert outcome.rmse == pytest.approx(0, abs=1e-6)
    assert outcome.difference.shape == source.shape


def test_a_known_difference_is_found():
    source = RNG.integers(0, 200, (10, 12), np.uint8)
    big = source.repeat(4, 0).repeat(4, 1)
    big[8:12, 4:8] += 20  # pixel (2, 1)
    outcome = compare(source, big, PLANE, Rect(0, 10, 0, 12), None)
    assert outcome.difference[2, 1] == pytest.approx(20)
    assert outcome.rmse == pytest.approx(np.sqrt(400 / 120))


def test_nan_is_not_compared():
    source = RNG.random((10, 12))
    source[3, 4] = np.nan
    big = source.repeat(4, 0).repeat(4, 1)
    big[0, 0] = np.nan
    outcome = compare(source, big, PLANE, Rect(0, 10, 0, 12), None)
    assert np.isnan(outcome.difference[3, 4])
    assert np.isnan(outcome.difference[0, 0])
    assert np.isnan(outcome.difference).sum() == 2
    assert outcome.rmse == pytest.approx(0, abs=1e-6)


@pytest.fixture
def upscaled(qtbot, make_request):
    """A viewer with a source and its result."""
    from napari_esrgan._window.run import UpscaleController

    viewer = ViewerModel()
    data = RNG.integers(100, 4000, (3, 20, 24), np.uint16)
    source = viewer.add_image(data, name="cells", scale=(1, 0.5, 0.5))
    request = make_request(data, axes=STACK, region=Rect(2, 18, 3, 20))
    controller = UpscaleController(viewer)
    with qtbot.waitSignal(controller.ended, timeout=60_000):
        controller.start(source, request, "tiny")
    return viewer, source, viewer.layers[-1]


def test_a_consistency_layer_lies_on_its_source(upscaled, qtbot, notices):  # noqa: F811
    viewer, source, result = upscaled
    task = LayerTask(viewer)
    start_consistency(task, viewer, result_to_check(viewer))
    qtbot.waitUntil(lambda: not task.running, timeout=30_000)
    layer = viewer.layers[-1]
    expected = compare(source.data, result.data, STACK, Rect(2, 18, 3, 20), None)
    np.testing.assert_array_equal(layer.data, expected.difference)
    np.testing.assert_allclose(
        layer.data_to_world((1, -0.5, -0.5)), source.data_to_world((1, 1.5, 2.5))
    )
    assert f"RMSE {expected.rmse:.4g}" in layer.name
    assert "RMSE" in notices[-1][1]


def test_a_source_that_is_gone_is_told(upscaled, notices):  # noqa: F811
    viewer, source, result = upscaled
    viewer.layers.remove(source)
    start_consistency(LayerTask(viewer), viewer, result)
    assert "'cells' is not in the viewer" in notices[-1][1]


@pytest.fixture
def live(make_request, monkeypatch):
    """A live source of a stack, with small chunks."""
    monkeypatch.setattr(live_module, "CHUNK", 16)
    data = RNG.integers(100, 4000, (2, 40, 50), np.uint16)
    request = make_request(data, axes=STACK)
    network = load_model(request.model, lambda _: None, lambda: False)
    ranges = channel_ranges(request, lambda: False)
    return data, live_module.LiveSource(
        data, STACK, make_upscaler(request, network, [].append, lambda: False), ranges
    )


def test_chunks_fit_together_to_the_whole(live, model_file):
    data, source = live
    array = source.array()
    assert array.shape == (2, 160, 200)
    assert source.computed == 0
    expected = esr.upscale(data, model_file, channel_axis=False, data_range="auto", device="cpu")
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
    source = live_module.LiveSource(
        image, axes, make_upscaler(request, network, [].append, lambda: False), [None]
    )
    expected = esr.upscale(image.swapaxes(0, 1), model_file, device="cpu").swapaxes(0, 1)
    np.testing.assert_array_equal(np.asarray(source.array()), expected)


def test_a_live_layer_lies_on_its_source_and_says_what_is_off(qtbot, make_request, notices):  # noqa: F811
    viewer = ViewerModel()
    data = RNG.integers(100, 4000, (40, 50), np.uint16)
    source = viewer.add_image(data, name="cells", scale=(0.5, 0.5))
    task = LayerTask(viewer)
    live_module.start_live(task, source, make_request(data), "tiny")
    qtbot.waitUntil(lambda: not task.running, timeout=30_000)
    layer = viewer.layers[-1]
    assert layer.multiscale
    assert [tuple(shape) for shape in layer.level_shapes] == [(160, 200), (40, 50)]
    np.testing.assert_allclose(
        layer.data_to_world((-0.5, 199.5)), source.data_to_world((-0.5, 49.5))
    )
    assert "asynchronous slicing is off" in notices[0][1]
    assert layer.dtype == np.uint16


def test_errors_in_a_chunk_leave_the_layer_usable(live, monkeypatch, notices):  # noqa: F811
    data, source = live

    def fail(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(esr.Upscaler, "__call__", fail)
    array = np.asarray(source.array()[0, :64, :64])
    np.testing.assert_array_equal(array[::4, ::4], data[0, :16, :16])
    assert "not enough memory" in notices[0][1]
