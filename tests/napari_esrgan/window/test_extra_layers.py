"""Consistency layers and live layers."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._window.extra_layers import result_to_check, start_consistency, start_live
from napari_esrgan._window.layer_task import LayerTask
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.consistency import compare
from napari_esrgan._work.upscale import run_upscale

RNG = np.random.default_rng(0)
STACK = Axes(("plane", "y", "x"))


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
        controller.start(source, request, "tiny", run_upscale)
    return viewer, source, viewer.layers[-1]


def test_a_consistency_layer_lies_on_its_source(upscaled, qtbot, notices):
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


def test_a_source_that_is_gone_is_told(upscaled, notices):
    viewer, source, result = upscaled
    viewer.layers.remove(source)
    start_consistency(LayerTask(viewer), viewer, result)
    assert "'cells' is not in the viewer" in notices[-1][1]


def test_a_live_layer_lies_on_its_source_and_says_what_is_off(qtbot, make_request, notices):
    viewer = ViewerModel()
    data = RNG.integers(100, 4000, (40, 50), np.uint16)
    source = viewer.add_image(data, name="cells", scale=(0.5, 0.5))
    task = LayerTask(viewer)
    start_live(task, source, make_request(data), "tiny")
    qtbot.waitUntil(lambda: not task.running, timeout=30_000)
    layer = viewer.layers[-1]
    assert layer.multiscale
    assert [tuple(shape) for shape in layer.level_shapes] == [(160, 200), (40, 50)]
    np.testing.assert_allclose(
        layer.data_to_world((-0.5, 199.5)), source.data_to_world((-0.5, 49.5))
    )
    assert "asynchronous slicing is off" in notices[0][1]
    assert layer.dtype == np.uint16
