"""The plugin in a real napari window: docking, menus, filling in, cancel, closing."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import esrgan_ext as esr
from esrgan_ext.weights.catalogue import FAITHFUL
from napari_esrgan import _commands
from napari_esrgan._viewer.preferences import preferences
from napari_esrgan._work import upscale
from tests.napari_esrgan.conftest import SLOW_MODEL, finish
from tests.napari_esrgan.test_upscale_widget import snapshot

RNG = np.random.default_rng(0)

pytestmark = pytest.mark.usefixtures("plugin")


def test_docking_and_a_run(docked, qtbot):
    viewer, widget = docked
    source = viewer.add_image(RNG.integers(0, 4000, (20, 30), np.uint16), name="cells")
    finish(qtbot, widget)
    result = viewer.layers[-1]
    assert result.data.shape == (80, 120)
    np.testing.assert_allclose(
        result.data_to_world((79.5, -0.5)), source.data_to_world((19.5, -0.5)), atol=1e-9
    )
    assert widget.source.layer_combo.layer.name == "cells"
    widget.add_consistency()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=30_000)
    assert viewer.layers[-1].data.shape == (20, 30)
    assert "RMSE" in viewer.layers[-1].name


def test_all_selected_layers(docked, qtbot):
    viewer, widget = docked
    for name in ("a", "b", "c"):
        viewer.add_image(RNG.integers(0, 255, (10, 12), np.uint8), name=name)
    viewer.layers.selection = {viewer.layers["a"], viewer.layers["c"]}
    widget.source.layer_combo.choose(viewer.layers["a"])
    assert widget.run_button.text() == "Run on 2 layers"
    with qtbot.waitSignal(widget._queue.ended, timeout=120_000):
        widget.run_button.click()
    assert [layer.name for layer in viewer.layers[3:]] == ["a x4 [tiny]", "c x4 [tiny]"]


def test_the_view_region_is_what_is_on_screen(docked, qtbot):
    viewer, widget = docked
    layer = viewer.add_image(RNG.integers(0, 255, (200, 300), np.uint8))
    viewer.scene.camera.center = (60, 250)
    viewer.scene.camera.zoom = 40
    qtbot.waitUntil(lambda: layer.corner_pixels[0][0] > 0)
    widget.source.region_combo.setCurrentIndex(1)
    region = widget.request().region
    assert region.y0 < 60 < region.y1 < 200
    assert 0 < region.x0 < 250 < region.x1
    finish(qtbot, widget)
    result = viewer.layers[-1]
    assert result.data.shape == (4 * region.height, 4 * region.width)
    np.testing.assert_allclose(
        result.data_to_world((-0.5, -0.5)), (region.y0 - 0.5, region.x0 - 0.5), atol=1e-9
    )


def test_filling_in_starts_at_the_centre_of_the_view(docked, qtbot, monkeypatch):
    viewer, widget = docked
    data = RNG.integers(0, 255, (96, 96), np.uint8)
    viewer.add_image(data)
    viewer.scene.camera.center = (80, 16)
    widget.source.wanted = replace(widget.source.wanted, fill_in_seconds=0)
    widget.source.tile_spin.setValue(32)
    order = []
    from napari_esrgan._work.result import MemoryResult

    view = MemoryResult.view

    class Spy(np.ndarray):
        def __setitem__(self, index, value):
            if isinstance(index, tuple) and isinstance(index[0], slice):
                order.append((index[0].start, index[1].start))
            super().__setitem__(index, value)

    monkeypatch.setattr(MemoryResult, "view", lambda self, index: view(self, index).view(Spy))
    appeared = []
    shown = threading.Event()

    def on_inserted(event) -> None:
        appeared.append((event.value.data.copy(), widget.controller.running))
        shown.set()

    viewer.layers.events.inserted.connect(on_inserted)
    work = upscale._Work.run
    monkeypatch.setattr(upscale._Work, "run", lambda self: (shown.wait(60), work(self)))
    finish(qtbot, widget)
    (first, running), *_ = appeared
    assert running, "the layer should be there before the end"
    np.testing.assert_array_equal(first[::4, ::4], data)  # the cheap upscale
    assert np.abs(viewer.layers[-1].data.astype(int) - first).max() > 0
    assert order[0] == (256, 0)
    assert order[-1] == (0, 256)


def test_cancel_in_the_middle_of_real_work(docked, qtbot):
    viewer, widget = docked
    viewer.add_image(RNG.integers(0, 255, (256, 256), np.uint8), name="source")
    widget.model_combo.choose(SLOW_MODEL)
    widget.source.wanted = replace(widget.source.wanted, fill_in_seconds=0)
    before = snapshot(viewer)
    widget.run()
    qtbot.waitUntil(
        lambda: len(viewer.layers) == 2 and widget.panel.bar.value() > 0, timeout=60_000
    )
    with qtbot.waitSignal(widget.controller.ended, timeout=60_000) as ended:
        widget.panel.cancel_button.click()
    assert ended.args == ["cancelled"]
    assert snapshot(viewer) == before


@pytest.mark.parametrize("how", ["dock", "window"])
def test_closing_while_running(docked, qtbot, how):
    viewer, widget = docked
    viewer.add_image(RNG.integers(0, 255, (256, 256), np.uint8))
    widget.model_combo.choose(SLOW_MODEL)
    widget.run()
    bar = widget.panel.bar
    qtbot.waitUntil(lambda: bar.value() > 0, timeout=60_000)
    if how == "dock":
        viewer.window.remove_dock_widget("all")
    else:
        viewer.close()
    qtbot.waitUntil(
        lambda: not any(t.name == "esrgan-upscale" for t in threading.enumerate()), timeout=60_000
    )
    if how == "dock":
        assert widget.controller.last_layer_id is None
        qtbot.waitUntil(lambda: not widget.controller.running)
        assert len(viewer.layers) == 1


def test_menu_command(make_napari_viewer, qtbot, model_file, monkeypatch):
    from napari._app_model import get_app_model

    from napari_esrgan._viewer import preferences as preferences_module

    viewer = make_napari_viewer()
    viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8), name="cells")
    monkeypatch.setattr(
        preferences_module, "preferences", lambda: preferences_module.Preferences(model=model_file)
    )
    get_app_model().commands.execute_command("esrgan-ext.upscale_active_layer")
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    assert viewer.layers[-1].data.shape == (80, 120)
    qtbot.waitUntil(lambda: not _commands._running)
    from qtpy.QtWidgets import QApplication

    get_app_model().commands.execute_command("esrgan-ext.copy_as_python")
    assert "esr.Upscaler" in QApplication.clipboard().text()


def test_menus_and_samples(make_napari_viewer, npe2pm):
    viewer = make_napari_viewer()
    for key, shape in (("astronaut", (128, 128, 3)), ("nuclei", (96, 96))):
        (layer,) = viewer.open_sample("esrgan-ext", key)
        assert layer.data.shape == shape
    (submenu,) = [
        item
        for item in npe2pm.iter_menu("napari/layers/filter")
        if getattr(item, "submenu", "") == "esrgan-ext.super_resolution"
    ]
    commands = {item.command for item in npe2pm.iter_menu(submenu.submenu)}
    assert "esrgan-ext.upscale_active_layer" in commands


def test_preferences_come_from_the_manifest():
    from napari.settings import get_plugin_settings

    from napari_esrgan._viewer.preferences import Preferences, preferences

    assert preferences() == Preferences()
    get_plugin_settings("esrgan-ext").upscaling.memory_budget = 0.5
    assert preferences().budget_bytes == 5e8


def test_importing_the_plugin_imports_neither_torch_nor_qt():
    code = (
        "import sys, napari_esrgan; from npe2 import PluginManifest; "
        "m = PluginManifest.from_distribution('esrgan-ext'); "
        "bad = {'torch', 'qtpy', 'PyQt6', 'PySide6', 'napari'} & set(sys.modules); "
        "assert not bad, bad; "
        "assert m.name == 'esrgan-ext' and m.display_name == 'ESRGAN'; "
        "c = m.contributions.commands; "
        "assert all(x.id.startswith('esrgan-ext.') for x in c); "
        "assert all(x.python_name.startswith('napari_esrgan._') for x in c)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_choice_of_a_model_is_remembered(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()

    def dock():
        _, widget = viewer.window.add_plugin_dock_widget("esrgan-ext", "Upscale")
        qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)
        return widget

    widget = dock()
    combo = widget.model_combo.combo
    assert widget.model_combo.key == FAITHFUL
    combo.setCurrentIndex(combo.findData("realsr-df2k"))
    combo.activated.emit(combo.currentIndex())  # as a click does
    assert preferences().model == "realsr-df2k"
    viewer.window.remove_dock_widget(widget)
    widget = dock()
    assert widget.model_combo.key == "realsr-df2k"
    combo = widget.model_combo.combo
    combo.setCurrentIndex(combo.findData(FAITHFUL))
    combo.activated.emit(combo.currentIndex())
    assert preferences().model == "auto"


@pytest.mark.parametrize("name", ["Upscale", "Interpolate"])
def test_the_whole_form_fits_a_small_screen(make_napari_viewer, qtbot, name):
    """1366 x 768, with as many axes as OME has and the longest advice."""
    from qtpy.QtWidgets import QScrollArea

    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1366, 768)
    _, widget = viewer.window.add_plugin_dock_widget("esrgan-ext", name)
    qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)
    viewer.add_image(np.zeros((2, 3, 20, 30), np.uint16), axis_labels=("t", "z", "y", "x"))
    if name == "Upscale":
        widget.model_combo.choose("realesr-general-x4v3")  # draws detail, with denoising
        qtbot.waitUntil(lambda: "Result" in widget.estimate_label.text(), timeout=60_000)
    qtbot.wait(300)
    scroll = widget.findChild(QScrollArea)
    assert scroll.verticalScrollBar().maximum() == 0
    assert scroll.horizontalScrollBar().maximum() == 0


def test_the_manifest_is_valid():
    subprocess.run([sys.executable, "-m", "npe2", "validate", "esrgan-ext"], check=True)


def test_a_live_layer_with_asynchronous_slicing(docked, qtbot, monkeypatch, model_file):
    """The window stays alive while chunks are computed where one looks, and only there."""
    from napari.settings import get_settings

    from esrgan_ext.inference.model_cache import inference
    from napari_esrgan._work import live

    monkeypatch.setattr(live, "CHUNK", 32)
    made = []
    array = live.LiveSource.array
    monkeypatch.setattr(live.LiveSource, "array", lambda self: made.append(self) or array(self))
    computing = threading.Event()
    chunk = live.LiveSource.chunk

    def slow(self, block_info=None):
        computing.set()
        return chunk(self, block_info=block_info)

    monkeypatch.setattr(live.LiveSource, "chunk", slow)
    viewer, widget = docked
    monkeypatch.setattr(get_settings().experimental, "async_", True)
    data = RNG.integers(0, 255, (512, 512), np.uint8)
    viewer.add_image(data, name="source")
    widget.add_live()
    qtbot.waitUntil(lambda: not widget._live.running and len(viewer.layers) == 2, timeout=60_000)
    layer = viewer.layers[-1]
    viewer.scene.camera.center = (40, 40)
    viewer.scene.camera.zoom = 12  # finer than the source: the fine level is wanted
    qtbot.waitUntil(lambda: layer.data_level == 0, timeout=30_000)
    with inference(torch.device("cpu")):
        qtbot.waitUntil(computing.is_set, timeout=30_000)
        ticks = []
        qtbot.waitUntil(lambda: ticks.append(0) or len(ticks) > 5)  # while it cannot go on
    qtbot.waitUntil(lambda: layer.loaded, timeout=60_000)
    assert 0 < made[0].computed < 128  # of 256
    expected = esr.upscale(data, model_file, device="cpu")
    shown = np.asarray(layer.data[0][128:192, 128:192])
    assert np.abs(shown.astype(int) - expected[128:192, 128:192]).max() <= 1
