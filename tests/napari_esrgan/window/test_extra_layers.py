"""Consistency layers and live layers."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._viewer.preferences import Preferences
from napari_esrgan._window.extra_layers import (
    result_to_check,
    start_consistency,
    start_labels,
    start_live,
)
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


def labels_made(viewer, result, qtbot, wanted=None) -> list:
    before = len(viewer.layers)
    task = LayerTask(viewer)
    start_labels(task, viewer, result, wanted or Preferences())
    qtbot.waitUntil(lambda: not task.running, timeout=30_000)
    return list(viewer.layers[before:])


def test_labels_follow_their_image(upscaled, qtbot):
    """Each pixel of the result has the label that lies where its centre is in the world."""
    viewer, source, result = upscaled
    stack = RNG.integers(0, 2**20, source.data.shape, np.int32)
    full = viewer.add_labels(stack, name="full", scale=(1, 0.5, 0.5))
    flat = viewer.add_labels(stack[0], name="flat", scale=(0.5, 0.5))
    viewer.add_labels(stack, name="elsewhere", scale=(1, 0.5, 0.5), translate=(0, 0, 0.5))
    viewer.add_labels(stack[:, :8], name="smaller", scale=(1, 0.5, 0.5))
    viewer.layers.selection.active = result
    made = labels_made(viewer, result, qtbot)
    assert [layer.name for layer in made] == ["full x4", "flat x4"]
    assert made[0].data.shape == result.data.shape
    assert made[0].data.dtype == np.int32
    for layer, of in zip(made, (full, flat), strict=True):
        points = np.array([RNG.integers(0, n, 200) for n in layer.data.shape]).T
        for point in points:
            there = np.round(of.world_to_data(layer.data_to_world(point))).astype(int)
            assert layer.data[tuple(point)] == of.data[tuple(there)]
        np.testing.assert_allclose(
            layer.data_to_world((0,) * layer.ndim),
            np.asarray(result.data_to_world((0, 0, 0)))[-layer.ndim :],
        )


def test_no_labels_on_a_source_is_told(upscaled, qtbot, notices):
    viewer, _, result = upscaled
    assert labels_made(viewer, result, qtbot) == []
    assert "no Labels layer lies on 'cells'" in notices[-1][1]


def test_labels_on_disk_are_not_taken_for_unused(upscaled, qtbot, tmp_path, notices):
    from napari_esrgan._commands import delete_stores
    from napari_esrgan._viewer import preferences

    viewer, source, result = upscaled
    viewer.add_labels(np.ones(source.data.shape, np.uint8), scale=(1, 0.5, 0.5))
    wanted = Preferences(memory_budget=0, store_folder=str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preferences, "preferences", lambda: wanted)
        (layer,) = labels_made(viewer, result, qtbot, wanted)
        assert len(list(tmp_path.iterdir())) == 1
        delete_stores(viewer)  # asks where it finds any
    assert "no large results on disk that no layer shows" in notices[-1][1]
    assert (np.asarray(layer.data) == 1).all()
