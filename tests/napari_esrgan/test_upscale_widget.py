"""The Upscale widget on a viewer without a window: form, run, cancel, errors."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor

import esrgan_ext as esr
from esrgan_ext.errors import DownloadError, OutOfMemory
from esrgan_ext.weights.catalogue import CATALOGUE, FAITHFUL
from napari_esrgan._upscale_widget import UpscaleWidget
from napari_esrgan._window import run as controller_module
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work import upscale
from napari_esrgan._work.advice import GROUPS
from napari_esrgan._work.axes import ROLES, Axes
from napari_esrgan._work.messages import Appear, Progress, stop_if
from tests.napari_esrgan.conftest import held_bytes, run, run_and_forget

RNG = np.random.default_rng(0)


class Gate:
    """Stands in for the job: reports, then waits until it is let go or cancelled."""

    def __init__(self, appear=False, error=None):
        self.go, self.started, self.appear, self.error = (
            threading.Event(),
            threading.Event(),
            appear,
            error,
        )

    def __call__(self, request, report, cancelled):
        from napari_esrgan._work.result import MemoryResult

        if self.appear:
            shape = tuple(4 * n for n in request.data.shape)
            result = MemoryResult(shape, np.dtype(request.data.dtype), 0, 1)
            result.array[:] = 1
            report(Appear(result))
        report(Progress(1, 10, 0, 4, 3.0, 1))
        self.started.set()
        if self.error is not None:
            raise self.error
        while not cancelled() and not self.go.wait(0.01):
            pass
        stop_if(cancelled)
        return upscale.run_upscale(request, report, cancelled)


def gated(monkeypatch, **options) -> Gate:
    gate = Gate(**options)
    real = controller_module.UpscaleController.start
    monkeypatch.setattr(
        controller_module.UpscaleController,
        "start",
        lambda self, layer, request, name, *_: real(self, layer, request, name, gate),
    )
    return gate


def test_the_form_describes_the_layer(make_widget, viewer):
    widget = make_widget()
    assert not widget.run_button.isEnabled()
    viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8), name="bytes")
    assert widget.source.layer_combo.currentText() == "bytes"
    assert widget.source.range_editor.kind == "type"
    words = RNG.integers(0, 4000, (3, 20, 30), np.uint16)
    viewer.add_image(words, name="words", axis_labels=("c", "y", "x"))
    assert widget.source.layer_combo.currentText() == "words"
    assert widget.source.range_editor.kind == "data"
    assert widget.source.axes_editor.axes.roles == ("channel", "y", "x")
    assert widget.run_button.isEnabled()
    viewer.layers["words"].name = "renamed"
    assert "renamed" in [
        widget.source.layer_combo.itemText(k) for k in range(widget.source.layer_combo.count())
    ]


IMAGES = {
    "16 bit": np.zeros((20, 30), np.uint16),
    "RGB": np.zeros((20, 30, 3), np.uint8),
    "stack of floats": np.zeros((5, 20, 30), np.float32),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_every_layer_starts_with_the_model_that_is_true_to_the_data(qtbot, viewer, kind):
    widget = UpscaleWidget(viewer)
    qtbot.addWidget(widget)
    viewer.add_image(IMAGES[kind], rgb=kind == "RGB", contrast_limits=(0, 1))
    before = widget.request().model
    qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)
    assert before == widget.request().model == FAITHFUL
    assert CATALOGUE[FAITHFUL].role == "faithful"
    assert "true to the data" in widget.advice_label.text()
    assert not widget.advice_label.styleSheet()


def test_the_warning_is_there_where_it_applies_and_looks_like_one(make_widget):
    widget = make_widget()  # a file of the user's is chosen
    assert "Consistency" in widget.advice_label.text()
    for model, warns in (("realesrgan-x4plus", True), ("lite-psnr-x4", False)):
        widget.model_combo.choose(model)
        assert ("never measured" in widget.advice_label.text()) == warns
        assert ("color" in widget.advice_label.styleSheet()) == warns


@pytest.mark.parametrize("theme", ["dark", "light", "system"])
def test_the_warning_can_be_read_in_every_theme(monkeypatch, theme):
    from napari.settings import get_settings
    from napari.utils.theme import get_theme

    from napari_esrgan._viewer.notices import warning_colour

    monkeypatch.setattr(get_settings().appearance, "theme", theme)

    def luminance(rgb) -> float:  # WCAG 2
        linear = [
            c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
            for c in rgb
        ]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    text = luminance(QColor(warning_colour()).getRgb()[:3])
    back = luminance(get_theme(theme).background.as_rgb_tuple()[:3])
    assert (max(text, back) + 0.05) / (min(text, back) + 0.05) >= 4.5


def test_models_are_grouped_by_what_they_are_for(make_widget):
    widget = make_widget()
    combo = widget.model_combo.combo
    groups: dict = {}
    for row in range(combo.count()):
        if combo.itemData(row) is None:
            title = combo.itemText(row)
            assert not combo.model().item(row).flags()
        else:
            groups.setdefault(title, []).append(combo.itemData(row))
    assert list(groups) == [title for _, title in GROUPS]
    assert FAITHFUL in groups["True to the data"]
    assert "realesrgan-x4plus" in groups["Photos: draws detail"]
    assert len(groups["Your files"]) == 1


def test_a_preferred_file_that_is_gone_is_told_and_the_next_is_read(
    qtbot, viewer, monkeypatch, notices, model_file, tmp_path
):
    from napari_esrgan._viewer.preferences import Preferences
    from napari_esrgan._window import run_widget

    gone = str(tmp_path / "gone.pth")
    monkeypatch.setattr(run_widget, "preferences", lambda: Preferences(model=gone))
    widget = UpscaleWidget(viewer)
    qtbot.addWidget(widget)
    qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)
    assert widget.model_combo.key == FAITHFUL
    widget.model_combo.use_file(model_file)  # while the other is looked for
    qtbot.waitUntil(lambda: widget.model_combo.key == model_file, timeout=30_000)
    assert "gone.pth" in notices[0][1]


def test_an_uncertainty_layer_lies_on_its_source(make_widget, viewer, qtbot):
    widget = make_widget()
    data = RNG.integers(0, 4000, (3, 12, 14), np.uint16)
    source = viewer.add_image(data, name="cells", scale=(2, 0.5, 0.5))
    widget.source.axes_editor.set_axes(Axes(("plane", "y", "x")), data.shape, ("z", "y", "x"))
    viewer.dims.set_point(0, 4)
    with qtbot.waitSignal(widget.controller.ended, timeout=60_000) as ended:
        widget.add_uncertainty()
    assert ended.args == ["finished"]
    layer = viewer.layers[-1]
    assert "uncertainty" in layer.name
    assert layer.data.shape == (1, 48, 56)
    assert layer.data.dtype == np.float32
    assert float(layer.data.max()) > 0
    np.testing.assert_allclose(
        layer.data_to_world((0, -0.5, 55.5)), source.data_to_world((2, -0.5, 13.5))
    )


def test_lazy_layers_take_their_contrast_limits(make_widget, viewer):
    import dask.array as da

    widget = make_widget()
    data = da.from_array(RNG.integers(0, 4000, (5, 20, 30), np.uint16), chunks=(1, 20, 30))
    viewer.add_image(data, contrast_limits=(100, 900))
    choice = widget.request().value_range
    assert (choice.kind, choice.values) == ("limits", (100.0, 900.0))


def test_changing_an_axis_keeps_one_y_and_one_x(make_widget, viewer):
    widget = make_widget()
    viewer.add_image(np.zeros((3, 20, 30), np.uint8))
    editor = widget.source.axes_editor
    editor._combos[0].setCurrentIndex(1)  # the first axis becomes x
    assert editor.axes.roles == ("x", "y", "plane")
    editor._combos[0].setCurrentIndex(3)
    assert editor.axes is None
    with pytest.raises(ValueError, match="one X"):
        widget.request()


def test_models_come_with_scale_size_and_license(make_widget):
    widget = make_widget()
    keys = [info.name for info in widget.model_combo.infos]
    assert "realesrgan-x4plus" in keys
    row = widget.model_combo.combo.findData("realesrgan-x4plus")
    from qtpy.QtCore import Qt

    tip = widget.model_combo.combo.itemData(row, Qt.ItemDataRole.ToolTipRole)
    assert all(word in tip for word in ("x4", "MB", "BSD-3-Clause"))
    assert "tiny.safetensors" in widget.model_combo.combo.currentText()


def test_a_dropped_model_is_chosen(make_widget, qtbot, other_model_file):
    from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    widget = make_widget()
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(other_model_file)])
    event = QDropEvent(
        QPointF(1, 1),
        Qt.DropAction.CopyAction,
        mime,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    widget.model_combo.dropEvent(event)
    qtbot.waitUntil(lambda: widget.model_combo.key == other_model_file, timeout=30_000)


def test_estimate_names_size_time_and_device(make_widget, viewer, qtbot):
    widget = make_widget()
    viewer.add_image(np.zeros((20, 30), np.uint8))
    qtbot.waitUntil(lambda: "80 × 120" in widget.estimate_label.text(), timeout=30_000)
    text = widget.estimate_label.text()
    assert "CPU" in text
    assert "About 1 s" in text
    widget.scale_field.scale_spin.setValue(2)
    qtbot.waitUntil(lambda: "40 × 60" in widget.estimate_label.text(), timeout=30_000)


def test_only_present_devices_are_offered(make_widget):
    import torch

    from esrgan_ext.inference.devices import available_devices

    widget = make_widget()
    keys = [
        widget.source.device_combo.itemData(k) for k in range(widget.source.device_combo.count())
    ]
    assert keys == ["auto", *(str(d) for d in available_devices())]
    if not torch.cuda.is_available():
        assert not any("cuda" in key for key in keys)
    assert "CPU" in widget.source.device_combo.itemText(keys.index("cpu"))


@pytest.mark.parametrize("fill_in", [False, True])
def test_a_run_adds_a_layer_like_its_source(make_widget, viewer, qtbot, fill_in):
    widget = make_widget()
    source = viewer.add_image(
        RNG.integers(100, 400, (20, 30), np.uint16),
        name="cells",
        colormap="green",
        gamma=0.7,
        blending="additive",
        contrast_limits=(120, 380),
        scale=(0.5, 0.5),
        units=("um", "um"),
    )
    if fill_in:
        from dataclasses import replace

        widget.source.wanted = replace(widget.source.wanted, fill_in_seconds=0)
    assert run(qtbot, widget) == "finished"
    result = viewer.layers[-1]
    assert len(viewer.layers) == 2
    assert result.name == "cells x4 [tiny]"
    assert result.data.shape == (80, 120)
    assert result.data.dtype == np.uint16
    assert result.colormap == source.colormap
    assert (result.gamma, result.blending) == (0.7, "additive")
    assert list(result.contrast_limits) == [120, 380]
    np.testing.assert_allclose(
        result.data_to_world((-0.5, 119.5)), source.data_to_world((-0.5, 29.5))
    )
    about = result.metadata["esrgan"]
    assert about["model"]["sha256"]
    assert about["source"] == "cells"
    assert about["versions"]["torch"]
    assert widget.run_button.isEnabled()
    assert not widget.panel.cancel_button.isEnabled()
    assert widget.panel.bar.value() == 1000
    viewer.layers.remove(result)  # undone
    assert list(viewer.layers) == [source]


def snapshot(viewer) -> tuple:
    return (
        [(id(layer), layer.name, layer.visible) for layer in viewer.layers],
        {id(layer) for layer in viewer.layers.selection},
        viewer.layers.selection.active,
        tuple(viewer.dims.point),
        viewer.dims.range,
        viewer.dims.ndim,
        tuple(viewer.scene.camera.center),
        viewer.scene.camera.zoom,
    )


@pytest.mark.parametrize("appear", [False, True])
def test_cancel_leaves_the_viewer_as_it_was(make_widget, viewer, qtbot, monkeypatch, appear):
    widget = make_widget()
    viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8), name="other")
    viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8), name="source")
    before = snapshot(viewer)
    gate = gated(monkeypatch, appear=appear)
    widget.run()
    assert not widget.run_button.isEnabled()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2 + appear and widget.panel.bar.value() == 100)
    assert "tile 1 of 4" in widget.panel.status_label.text()
    assert "3 s left" in widget.panel.status_label.text()
    with qtbot.waitSignal(widget.controller.ended, timeout=10_000) as ended:
        widget.cancel()
    assert ended.args == ["cancelled"]
    assert snapshot(viewer) == before
    assert gate.started.is_set()
    assert widget.run_button.isEnabled()


def test_a_new_selection_survives_the_cancel(make_widget, viewer, qtbot, monkeypatch):
    widget = make_widget()
    other = viewer.add_image(np.zeros((20, 30), np.uint8), name="other")
    viewer.add_image(np.zeros((20, 30), np.uint8), name="source")
    gated(monkeypatch, appear=True)
    widget.run()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3)
    viewer.layers.selection.active = other
    with qtbot.waitSignal(widget.controller.ended):
        widget.cancel()
    assert viewer.layers.selection.active is other


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OutOfMemory("not enough memory on CPU even for a tile of 16 pixels"), "16 pixels"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA error: out of memory"), "not enough memory"),
        (RuntimeError("mat1 and mat2 do not match"), "mat1 and mat2"),
        (DownloadError("cannot reach github.com"), "work offline"),
        (PermissionError(13, "Permission denied", "/x"), "Permission denied"),
    ],
)
def test_errors_are_told_and_the_widget_goes_on(
    make_widget, viewer, qtbot, monkeypatch, notices, error, words
):
    widget = make_widget()
    viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8))
    with monkeypatch.context() as patch:
        gated(patch, appear=True, error=error)
        assert run(qtbot, widget) == "failed"
    assert len(viewer.layers) == 1
    (severity, text), *_ = notices
    assert severity == "error"
    assert words in text
    assert run(qtbot, widget) == "finished"


def test_infinities_are_told(make_widget, viewer, qtbot, notices):
    widget = make_widget()
    data = RNG.random((20, 30)).astype(np.float32)
    data[3, 4] = np.inf
    layer = viewer.add_image(data, contrast_limits=(0, 1))
    assert run(qtbot, widget) == "failed"
    assert "infinite" in notices[0][1]
    layer.data = np.nan_to_num(data, posinf=1)
    assert run(qtbot, widget) == "finished"


def test_a_damaged_model_file_is_told(make_widget, qtbot, tmp_path, notices):
    widget = make_widget()
    path = tmp_path / "broken.pth"
    path.write_bytes(b"no model")
    widget.model_combo.use_file(str(path))
    qtbot.waitUntil(lambda: bool(notices), timeout=30_000)
    assert "broken.pth" in notices[0][1]
    assert widget.run_button is not None
    assert widget.model_combo.key != str(path)


def test_a_model_that_vanishes_is_told(make_widget, viewer, qtbot, tmp_path, model_file, notices):
    import shutil

    path = tmp_path / "gone.safetensors"
    shutil.copy(model_file, path)
    widget = make_widget()
    viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8))
    widget.model_combo.use_file(str(path))
    qtbot.waitUntil(lambda: widget.model_combo.key == str(path), timeout=30_000)
    path.unlink()
    assert run(qtbot, widget) == "failed"
    assert "gone.safetensors" in notices[0][1]
    widget.model_combo.choose(model_file)
    assert run(qtbot, widget) == "finished"


@pytest.mark.parametrize("what", ["removed", "changed", "result removed"])
def test_layers_that_go_stop_the_run(make_widget, viewer, qtbot, monkeypatch, notices, what):
    widget = make_widget()
    keep = viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8), name="keep")
    layer = viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8), name="source")
    with monkeypatch.context() as patch:
        gated(patch, appear=True)
        widget.run()
        qtbot.waitUntil(lambda: len(viewer.layers) == 3)
        with qtbot.waitSignal(widget.controller.ended) as ended:
            if what == "removed":
                viewer.layers.remove(layer)
            elif what == "changed":
                layer.data = np.ones((20, 30), np.uint8)
            else:
                viewer.layers.remove(viewer.layers[-1])
    assert ended.args == ["cancelled"]
    assert [x.name for x in viewer.layers] == (
        ["keep"] if what == "removed" else ["keep", "source"]
    )
    assert notices[0][0] == "warning"
    assert "stopped" in notices[0][1]
    assert keep in viewer.layers
    assert run(qtbot, widget) == "finished"


def test_the_script_button_fills_the_clipboard(make_widget, viewer):
    from qtpy.QtWidgets import QApplication

    widget = make_widget()
    viewer.add_image(np.zeros((20, 30), np.uint8))
    text = widget.copy_script()
    assert "esr.Upscaler" in text
    assert QApplication.clipboard().text() == text


@pytest.mark.alone
def test_memory_is_flat_over_ten_runs_and_ten_cancels(make_widget, viewer, qtbot):
    """Without a window, so that only the plugin can keep anything: 9 MB a run if it did."""
    widget = make_widget()
    dead, resident = [], []

    def cycle(cancel: bool) -> None:
        layer = viewer.add_image(RNG.random((256, 256)).astype(np.float32), contrast_limits=(0, 1))
        dead.extend(run_and_forget(qtbot, viewer, widget, layer, cancel=cancel))

    warm_up = 3  # allocators, and the buffers that the compiled core keeps for its next call
    # Single figures differ by 30 MB: what malloc cannot give back in the middle of other things.
    early, late = range(warm_up, warm_up + 3), range(warm_up + 17, warm_up + 20)
    for number in range(warm_up + 20):
        cycle(cancel=number >= warm_up + 10)
        if number in early or number in late:
            resident.append(held_bytes())
    print(f"resident: {[round(held / 1e6) for held in resident]} MB")
    # napari itself keeps the last layer that was removed.
    viewer.add_image(np.zeros((2, 2)), contrast_limits=(0, 1))
    viewer.layers.clear()
    qtbot.waitUntil(lambda: gc.collect() >= 0 and all(ref() is None for ref in dead))
    first, last = min(resident[:3]), min(resident[3:])
    assert last - first < 45e6  # 17 runs and cancels apart: 150 MB if anything was kept


def test_a_drawn_rectangle_is_the_region(make_widget, viewer, qtbot):
    widget = make_widget()
    stack = RNG.integers(0, 255, (3, 30, 40), np.uint8)
    source = viewer.add_image(stack, name="cells", axis_labels=("z", "y", "x"))
    viewer.add_shapes([np.array([[5, 10], [5, 19], [12, 19], [12, 10]])], name="roi")
    viewer.layers.selection.active = source
    widget.source.region_combo.setCurrentIndex(
        widget.source.region_combo.findText("Rectangle in roi")
    )
    assert run(qtbot, widget) == "finished"
    result = viewer.layers[-1]
    assert result.data.shape == (3, 32, 40)
    np.testing.assert_allclose(
        result.data_to_world((1, -0.5, 39.5)), source.data_to_world((1, 4.5, 19.5))
    )
    viewer.layers.remove("roi")
    assert widget.source.region_combo.currentText() == "Whole layer"


@pytest.mark.parametrize("on_disk", [False, True])
def test_large_results_are_multiscale_from_the_start(
    make_widget, viewer, qtbot, monkeypatch, tmp_path, notices, on_disk
):
    from dataclasses import replace

    from napari_esrgan._work import result as result_module

    monkeypatch.setattr(result_module, "MULTISCALE_SIDE", 100)
    monkeypatch.setattr(result_module, "_COARSEST_SIDE", 50)
    widget = make_widget()
    widget.source.wanted = replace(
        widget.source.wanted,
        memory_budget=0 if on_disk else 1,
        store_folder=str(tmp_path / "stores"),
        fill_in_seconds=0,
    )
    data = RNG.integers(0, 255, (2, 30, 40), np.uint8)
    source = viewer.add_image(data, name="stack", axis_labels=("z", "y", "x"))
    shown = []
    viewer.layers.events.inserted.connect(lambda event: shown.append(event.value.multiscale))
    assert run(qtbot, widget) == "finished"
    result = viewer.layers[-1]
    assert shown == [True]
    assert [tuple(s) for s in result.level_shapes] == [(2, 120, 160), (2, 60, 80), (2, 30, 40)]
    np.testing.assert_allclose(
        result.data_to_world((0, 119.5, -0.5)), source.data_to_world((0, 29.5, -0.5))
    )
    expected = esr.upscale(data, widget.model_combo.key, channel_axis=False, device="cpu")
    found = np.asarray(result.data[0])
    assert np.abs(found.astype(int) - expected).max() <= 1  # how it is tiled depends on the speed
    np.testing.assert_array_equal(np.asarray(result.data[1]), found[:, ::2, ::2])
    if on_disk:
        store = result.metadata["esrgan"]["store"]
        assert store.startswith(str(tmp_path / "stores"))
        assert store in notices[-1][1]


def test_closing_ends_the_work(make_widget, viewer, qtbot, monkeypatch):
    widget = make_widget()
    viewer.add_image(np.zeros((20, 30), np.uint8))
    gate = gated(monkeypatch)
    widget.run()
    qtbot.waitUntil(gate.started.is_set)
    widget.close()
    qtbot.waitUntil(lambda: not any(t.name == "esrgan-upscale" for t in threading.enumerate()))
    viewer.add_image(np.zeros((5, 5)))  # nothing listens any more
    viewer.scene.camera.zoom = 3


def run_several(qtbot, widget) -> None:
    with qtbot.waitSignal(widget._queue.ended, timeout=60_000):
        widget.run()


def test_the_selected_layers_run_one_after_the_other(make_widget, viewer, qtbot, model_file):
    """Each with its own range and pixel size, as if it had been chosen."""
    widget = make_widget()
    photo = viewer.add_image(RNG.integers(0, 255, (12, 14, 3), np.uint8), rgb=True, name="photo")
    cells = viewer.add_image(RNG.integers(100, 900, (16, 18), np.uint16), name="cells")
    viewer.add_labels(np.zeros((9, 9), int))
    viewer.add_image(RNG.integers(0, 255, (9, 9), np.uint8), name="left out")
    assert widget.run_button.text() == "Run"
    viewer.layers.selection = {photo, cells, viewer.layers[2]}
    widget.source.layer_combo.choose(photo)
    assert widget.run_button.text() == "Run on 2 layers"
    said = []
    widget.controller.reported.connect(lambda _: said.append(widget.panel.status_label.text()))
    run_several(qtbot, widget)
    assert widget.panel.status_label.text() == "2 of 2 layers done."
    assert any(text.startswith("Layer 1 of 2: ") for text in said)
    made = {layer.name: layer for layer in viewer.layers if "esrgan" in layer.metadata}
    assert set(made) == {"photo x4 [tiny]", "cells x4 [tiny]"}
    for source, name in ((photo, "photo x4 [tiny]"), (cells, "cells x4 [tiny]")):
        parameters = made[name].metadata["esrgan"]["parameters"]
        (values,) = parameters["ranges"]
        values = "type" if values == "type" else tuple(values)
        expected = esr.upscale(source.data, model_file, data_range=values, device="cpu")
        assert np.abs(made[name].data.astype(int) - expected).max() <= 1
        assert (parameters["range"], source.rgb) in (("type", True), ("data", False))


def test_of_several_layers_one_fails_and_the_others_are_done(make_widget, viewer, qtbot, notices):
    widget = make_widget()
    good = [viewer.add_image(RNG.random((9, 9)).astype(np.float32)) for _ in range(2)]
    bad = viewer.add_image(np.full((9, 9), np.inf, np.float32), contrast_limits=(0, 1))
    viewer.layers.selection = {*good, bad}
    widget.source.layer_combo.choose(good[0])
    run_several(qtbot, widget)
    assert widget.panel.status_label.text() == "2 of 3 layers done, 1 failed."
    assert sum("esrgan" in layer.metadata for layer in viewer.layers) == 2
    assert "error" in {level for level, _ in notices}


def test_cancelling_several_layers_stops_them_all(make_widget, viewer, qtbot, monkeypatch):
    widget = make_widget()
    chosen = [viewer.add_image(RNG.integers(0, 255, (9, 9), np.uint8)) for _ in range(3)]
    viewer.layers.selection = set(chosen)
    from napari_esrgan import _upscale_widget

    gate = Gate()
    monkeypatch.setattr(_upscale_widget, "run_upscale", gate)
    widget.run()
    qtbot.waitUntil(gate.started.is_set)
    with qtbot.waitSignal(widget._queue.ended, timeout=30_000):
        widget.cancel()
    assert widget.panel.status_label.text() == "Cancelled; 0 of 3 layers done."
    assert len(viewer.layers) == 3
    assert not widget.controller.running


def test_a_channel_axis_within_a_layer_is_asked_about(make_widget, viewer, qtbot, notices):
    widget = make_widget()
    stack = viewer.add_image(RNG.integers(0, 900, (3, 20, 24), np.uint16), name="stack")
    combo = widget.source.axes_editor._combos[0]
    assert (combo.currentIndex(), combo.placeholderText()) == (-1, "channels or planes?")
    question = "say under Axes whether axis 0 (3) is channels or planes"
    qtbot.waitUntil(lambda: question[1:] in widget.estimate_label.text(), timeout=30_000)
    widget.run()
    assert not widget.controller.running
    assert question in notices[-1][1]

    combo.setFocus()
    qtbot.keyClicks(combo, "p")  # by keyboard: planes
    assert widget.request().axes == Axes(("plane", "y", "x"))
    viewer.add_image(np.zeros((20, 24), np.uint8))
    assert widget.request().axes == Axes(("y", "x"))
    widget.source.layer_combo.choose(stack)
    assert widget.request().axes == Axes(("plane", "y", "x")), "asked once a layer"
    widget.source.axes_editor._combos[0].setCurrentIndex(ROLES.index("channel"))
    assert run(qtbot, widget) == "finished"
    assert len(viewer.layers[-1].metadata["esrgan"]["parameters"]["ranges"]) == 3


def test_every_part_of_the_form_is_reached_by_tab(make_widget, viewer):
    widget = make_widget()
    viewer.add_image(np.zeros((9, 9), np.uint8))
    reached, here = set(), widget.source.layer_combo
    for _ in range(200):
        if here.focusPolicy() & Qt.FocusPolicy.TabFocus:
            reached.add(here)
        here = here.nextInFocusChain()
    buttons = [part for name, part in vars(widget).items() if name.endswith("_button")]
    assert len(buttons) == 8
    for part in (
        *buttons,
        widget.scale_field.size_line,
        widget.consistent_check,
        widget.panel.cancel_button,
    ):
        assert part in reached


def test_a_form_that_is_closed_at_once_leaves_nothing_running(qtbot, viewer, monkeypatch):
    """Its work waits for the first drawing, and the form may be gone by then, or go just then."""
    launch = ThreadRunner._launch
    monkeypatch.setattr(ThreadRunner, "_launch", lambda *args: (gc.collect(), launch(*args)))
    refs = []
    for _ in range(6):
        widget = UpscaleWidget(viewer)
        refs.append(weakref.ref(widget))
        widget.close()
        del widget
        qtbot.wait(150)
    gc.collect()
    qtbot.wait(200)
    qtbot.waitUntil(lambda: not any("inventory" in t.name for t in threading.enumerate()))
    assert all(ref() is None for ref in refs)
