"""The Upscale widget: a form, an estimate, Run and Cancel, a bar.

Collects a request and hands it to the controller; computes nothing itself. What takes longer
than a glance (lists, estimates, the run) happens in worker threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_esrgan import _layers, _models, _notices
from napari_esrgan._clipboard import copy_text
from napari_esrgan._controller import UpscaleController, current_request
from napari_esrgan._docked import DockedWidget
from napari_esrgan._estimate import Estimate, estimate
from napari_esrgan._form import (
    MINIMUM_WIDTH,
    AxesEditor,
    LayerCombo,
    ModelCombo,
    RangeEditor,
    shrinkable,
)
from napari_esrgan._job import Mix, UpscaleRequest
from napari_esrgan._messages import Progress
from napari_esrgan._preferences import preferences
from napari_esrgan._ranges import default_kind, is_lazy
from napari_esrgan._regions import VIEW, RegionCombo
from napari_esrgan._runner import Runner
from napari_esrgan._wording import ENDINGS, describe_estimate, describe_progress

# While someone types or pans, an estimate waits for them to pause.
ESTIMATE_DELAY_MILLISECONDS = 300


class UpscaleWidget(DockedWidget):
    """Upscales an image layer with a super-resolution network.

    Parameters
    ----------
    napari_viewer : napari viewer or ViewerModel
        The name is what napari looks for.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer = napari_viewer
        self._preferences = preferences()
        self.controller = UpscaleController(viewer, self)
        self._inventory_runner = Runner(self)
        self._estimate_runner = Runner(self)
        self._file_runner = Runner(self)
        self._estimate_wanted = False
        self._scale_is_models = True

        self.layer_combo = LayerCombo(viewer, _layers.is_image)
        self.model_combo = ModelCombo(self._preferences.model)
        self.scale_spin = QDoubleSpinBox()
        self.scale_spin.setRange(0.1, 16)
        self.scale_spin.setSingleStep(0.5)
        self.scale_spin.setValue(4)
        self.scale_spin.setPrefix("x ")
        self.scale_spin.setToolTip("Output pixels per input pixel, along each side")
        self.region_combo = RegionCombo(viewer)
        self.axes_editor = AxesEditor()
        self.range_editor = RangeEditor()
        self.device_combo = shrinkable(QComboBox())
        self.device_combo.addItem("Automatic", "auto")
        self.tile_spin = QSpinBox()
        self.tile_spin.setRange(0, 16384)
        self.tile_spin.setSingleStep(64)
        self.tile_spin.setSpecialValueText("automatic")
        self.tile_spin.setToolTip("Side of a tile in input pixels; less memory, more work")
        self.precision_combo = shrinkable(QComboBox())
        for precision in ("auto", "fp32", "fp16", "bf16"):
            self.precision_combo.addItem(
                "automatic" if precision == "auto" else precision, precision
            )
        self.estimate_label = _wrapped("Choose an image layer.")
        self.run_button, self.cancel_button = QPushButton("Run"), QPushButton("Cancel")
        self.cancel_button.setEnabled(False)
        self.bar = QProgressBar()
        # A determinate bar from the start: an indeterminate one costs half a core.
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.status_label = _wrapped("")
        self.script_button = QPushButton("Copy as Python")
        self.script_button.setToolTip("A script that computes the same array, on the clipboard")
        self.consistency_button = QPushButton("Consistency")
        self.consistency_button.setToolTip(
            "A layer with the difference between the result, reduced again, and the source"
        )
        self.live_button = QPushButton("Live layer")
        self.live_button.setToolTip("A layer that is upscaled where you look, when you look")
        self._lay_out()
        self._connect()
        self._on_layer()
        self._inventory_runner.start(lambda *_: _models.take_inventory(), "esrgan-inventory")

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field in (
            ("Layer", self.layer_combo),
            ("Model", self.model_combo),
            ("Scale", self.scale_spin),
            ("Region", self.region_combo),
            ("Axes", self.axes_editor),
            ("Values", self.range_editor),
            ("Device", self.device_combo),
        ):
            form.addRow(label, field)
        advanced = QCollapsible("Advanced")
        inner = QWidget()
        inner_form = QFormLayout(inner)
        inner_form.setContentsMargins(0, 0, 0, 0)
        inner_form.addRow("Tile", self.tile_spin)
        inner_form.addRow("Precision", self.precision_combo)
        advanced.addWidget(inner)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.cancel_button, 1)
        extras = QGridLayout()
        extras.addWidget(self.consistency_button, 0, 0)
        extras.addWidget(self.live_button, 0, 1)
        extras.addWidget(self.script_button, 1, 0, 1, 2)
        note = _wrapped(_notices.HALLUCINATION_NOTE)
        self.setToolTip(_notices.HALLUCINATION_NOTE)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(form)
        column.addWidget(advanced)
        column.addWidget(self.estimate_label)
        column.addLayout(buttons)
        column.addWidget(self.bar)
        column.addWidget(self.status_label)
        column.addLayout(extras)
        column.addWidget(note)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(MINIMUM_WIDTH)

    def _connect(self) -> None:
        self._estimate_timer = QTimer(self)
        self._estimate_timer.setSingleShot(True)
        self._estimate_timer.setInterval(ESTIMATE_DELAY_MILLISECONDS)
        self._estimate_timer.timeout.connect(self._estimate)
        self._inventory_runner.finished.connect(self._on_inventory)
        self._inventory_runner.failed.connect(self._on_background_error)
        self._estimate_runner.finished.connect(self._on_estimate)
        self._estimate_runner.failed.connect(self._on_estimate_error)
        self._file_runner.finished.connect(self.model_combo.add_file)
        self._file_runner.failed.connect(self._on_background_error)
        self.layer_combo.layer_changed.connect(self._on_layer)
        self.model_combo.model_changed.connect(self._on_model)
        self.model_combo.file_chosen.connect(self.use_model_file)
        self.scale_spin.valueChanged.connect(self._on_scale)
        self.axes_editor.axes_changed.connect(self._want_estimate)
        self.range_editor.range_changed.connect(self._want_estimate)
        for combo in (self.region_combo, self.device_combo, self.precision_combo):
            combo.currentIndexChanged.connect(self._want_estimate)
        self.tile_spin.valueChanged.connect(self._want_estimate)
        self._viewer.camera.events.connect(self._on_camera)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.script_button.clicked.connect(self.copy_script)
        self.consistency_button.clicked.connect(self.add_consistency)
        self.live_button.clicked.connect(self.add_live)
        self.controller.reported.connect(self._on_report)
        self.controller.ended.connect(self._on_ended)

    # The form

    def request(self) -> UpscaleRequest:
        """What the form says now.

        Raises
        ------
        ValueError
            With the reason, where it says nothing that can be run.
        """
        layer, axes = self.layer_combo.layer, self.axes_editor.axes
        if layer is None:
            raise ValueError("choose an image layer first (Open, or drag an image here)")
        if axes is None:
            raise ValueError("one axis must be Y, one X and at most one channels")
        limits = layer.contrast_limits
        request = UpscaleRequest(
            data=_layers.finest(layer),
            axes=axes,
            region=self.region_combo.region(layer, axes),
            model=self.model_combo.key,
            outscale=None if self._scale_is_models else self.scale_spin.value(),
            value_range=self.range_editor.choice((float(limits[0]), float(limits[1]))),
            device=self.device_combo.currentData(),
            precision=self.precision_combo.currentData(),
            tile=self.tile_spin.value() or "auto",
            budget_bytes=self._preferences.budget_bytes,
            folder=self._preferences.folder,
            fill_in_seconds=self._preferences.fill_in_seconds,
        )
        return current_request(self._viewer, layer, request)

    def use_model_file(self, path: str) -> None:
        """Read what a model file is, add it to the list and choose it."""
        if self._file_runner.running:
            return

        def look(*_: Callable) -> Any:
            from esrgan_ext.weights import find_model

            return replace(find_model(path), name=path)

        self._file_runner.start(look, "esrgan-model-file")

    def _on_layer(self) -> None:
        layer = self.layer_combo.layer
        if layer is not None:
            data = _layers.finest(layer)
            self.axes_editor.set_axes(
                _layers.guessed_axes(layer), _layers.spatial_shape(layer), layer.axis_labels
            )
            self.range_editor.set_kind(default_kind(np.dtype(data.dtype), is_lazy(data)))
        self._set_enabled()
        self._want_estimate()

    def _on_model(self) -> None:
        info = self.model_combo.info
        if info is not None and self._scale_is_models:
            self.scale_spin.blockSignals(True)
            self.scale_spin.setValue(info.scale)
            self.scale_spin.blockSignals(False)
        self._want_estimate()

    def _on_scale(self, value: float) -> None:
        info = self.model_combo.info
        self._scale_is_models = value == (4 if info is None else info.scale)
        self._want_estimate()

    def _on_camera(self, event: Any = None) -> None:
        if self.region_combo.currentData() == VIEW:
            self._want_estimate()

    def _on_inventory(self, inventory: _models.Inventory) -> None:
        self.model_combo.set_models(inventory.models)
        self.device_combo.clear()
        for device in inventory.devices:
            self.device_combo.addItem(device.label, device.key)
        self.device_combo.setCurrentIndex(
            max(self.device_combo.findData(self._preferences.device), 0)
        )
        self._want_estimate()

    def _on_background_error(self, error: BaseException) -> None:
        _notices.show_error(_notices.explain(error))

    # The estimate

    def _want_estimate(self, *_: Any) -> None:
        self._estimate_timer.start()

    def _estimate(self) -> None:
        if self.controller.running:
            return
        if self._estimate_runner.running:
            self._estimate_wanted = True
            return
        try:
            request = self.request()
        except ValueError as error:
            self.estimate_label.setText(str(error)[:1].upper() + str(error)[1:] + ".")
            return
        self._estimate_runner.start(lambda *_: estimate(request), "esrgan-estimate")

    def _on_estimate(self, result: Estimate) -> None:
        self.estimate_label.setText(describe_estimate(result))
        self._estimate_again()

    def _on_estimate_error(self, error: BaseException) -> None:
        self.estimate_label.setText(_notices.explain(error))
        self._estimate_again()

    def _estimate_again(self) -> None:
        if self._estimate_wanted:
            self._estimate_wanted = False
            self._want_estimate()

    # The run

    def run(self) -> None:
        """Start upscaling what the form says."""
        if self.controller.running:
            return
        try:
            request = self.request()
        except ValueError as error:
            _notices.show_error(str(error))
            return
        name = _model_label(request.model)
        self.controller.start(self.layer_combo.layer, request, name)
        self.bar.setValue(0)
        self.status_label.setText("Starting…")
        self._set_enabled()

    def cancel(self) -> None:
        """Stop; the viewer is then as it was before."""
        self.controller.cancel()
        self.status_label.setText("Stopping…")
        self._set_enabled()

    def _on_report(self, message: Any) -> None:
        if self.controller.cancelling:
            return
        if isinstance(message, Progress):
            self.bar.setValue(1000 * message.done // max(message.total, 1))
            self.status_label.setText(describe_progress(message))
        else:
            self.status_label.setText(message.text)

    def _on_ended(self, how: str) -> None:
        self.bar.setValue(1000 if how == "finished" else 0)
        self.status_label.setText(ENDINGS[how])
        self._set_enabled()
        self._want_estimate()

    def _set_enabled(self) -> None:
        running = self.controller.running
        has_layer = self.layer_combo.layer is not None
        self.run_button.setEnabled(has_layer and not running)
        self.cancel_button.setEnabled(running and not self.controller.cancelling)
        for button in (self.script_button, self.live_button, self.consistency_button):
            button.setEnabled(has_layer)

    # The extras

    def copy_script(self) -> str:
        """Put the script for the chosen result, or for what the form says, on the clipboard."""
        from napari_esrgan._script import request_script, script

        layer = self.layer_combo.layer
        try:
            if layer is not None and (made := _layers.provenance(layer)) is not None:
                text = script(made)
            else:
                request = self.request()
                assert layer is not None
                text = request_script(request, layer.name)
        except ValueError as error:
            _notices.show_error(str(error))
            return ""
        copy_text(text)
        self.status_label.setText("The script is on the clipboard.")
        return text

    def add_consistency(self) -> None:
        """Compare the last result, or the active layer where that is one, with its source."""
        from napari_esrgan._consistency import ConsistencyController, result_to_check

        result = result_to_check(self._viewer, self.controller.last_layer_id)
        if result is None:
            _notices.show_error("run an upscaling first, or select a result in the layer list")
            return
        if not hasattr(self, "_consistency"):
            self._consistency = ConsistencyController(self._viewer, self)
        self._consistency.start(result)

    def add_live(self) -> None:
        """Add a layer that is upscaled where you look."""
        from napari_esrgan._live import LiveController

        try:
            request = self.request()
        except ValueError as error:
            _notices.show_error(str(error))
            return
        if not hasattr(self, "_live"):
            self._live = LiveController(self._viewer, self)
        self._live.start(self.layer_combo.layer, request)

    def leave(self) -> None:
        """Closing the dock ends the work; the viewer goes on without us."""
        self.controller.cancel()
        for part in (self.layer_combo, self.region_combo):
            part.disconnect_viewer()
        self._viewer.camera.events.disconnect(self._on_camera)
        self._estimate_timer.stop()


def _model_label(model: str | Mix) -> str:
    if isinstance(model, Mix):
        return f"{_model_label(model.a)}+{_model_label(model.b)}@{model.alpha:.2f}"
    return Path(model).stem if Path(model).suffix else model


def _wrapped(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label
