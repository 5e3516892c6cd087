"""The Interpolate widget: two models, a slider between them, a live preview.

Moves of the slider are answered one at a time, the latest wins. Applying, sweeping, exporting
and saving run through the same controller and threads as upscaling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
)
from superqt import QLabeledDoubleSlider

from napari_esrgan import _layers, _mixing, _models, _notices
from napari_esrgan._controller import UpscaleController, current_request
from napari_esrgan._docked import DockedWidget
from napari_esrgan._form import MINIMUM_WIDTH, LayerCombo, ModelCombo
from napari_esrgan._job import Mix, UpscaleRequest
from napari_esrgan._messages import Outcome, Progress
from napari_esrgan._preferences import preferences
from napari_esrgan._ranges import RangeChoice, default_kind, is_lazy
from napari_esrgan._regions import RegionCombo
from napari_esrgan._runner import Runner
from napari_esrgan._wording import ENDINGS, describe_progress

# A pair that fits and is packaged, so that the widget works offline from the start.
FIRST_MODELS = ("realsr-df2k", "realesrgan-x4plus")
# The slider sends a value for every pixel it moves.
PREVIEW_DELAY_MILLISECONDS = 60
PREVIEW_NAME = "ESRGAN preview"
ANIMATIONS = "Animations (*.gif *.webp *.apng *.mp4)"


class InterpolateWidget(DockedWidget):
    """Mixes two models of one architecture and shows what alpha does.

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
        self._mixer, self._sweep_mixer = _mixing.Mixer(), _mixing.Mixer()
        self._inventory_runner = Runner(self)
        self.preview_runner = Runner(self)
        self.file_runner = Runner(self)
        self._preview_id: str | None = None
        self._previewed: str | None = None
        self._preview_wanted = False
        self._mismatch: tuple[str, str, str] | None = None

        self.layer_combo = LayerCombo(viewer, _layers.is_image)
        self.model_a, self.model_b = (ModelCombo(name) for name in FIRST_MODELS)
        self.reason_label = _wrapped("")
        self.slider = QLabeledDoubleSlider()
        self.slider.setOrientation(_horizontal())
        self.slider.setRange(0, 1)
        self.slider.setDecimals(2)
        self.slider.setSingleStep(0.05)  # type: ignore[arg-type]  # a proxy that takes floats
        self.slider.setValue(0.5)
        self.slider.setToolTip("0 is model A, 1 is model B")
        self.preview_check = QCheckBox("Live preview")
        self.preview_check.setToolTip("A square in the current view, upscaled as you move alpha")
        self.region_combo = RegionCombo(viewer)
        self.steps_spin = QSpinBox()
        self.steps_spin.setRange(2, 201)
        self.steps_spin.setValue(self._preferences.sweep_steps)
        self.apply_button = QPushButton("Apply to layer")
        self.sweep_button = QPushButton("Sweep")
        self.sweep_button.setToolTip("The plane on show at every alpha, to scroll with the slider")
        self.export_button = QPushButton("Export animation…")
        self.export_button.setToolTip("The selected sweep as GIF, WebP, APNG or MP4")
        self.save_button = QPushButton("Save mixed model…")
        self.cancel_button = QPushButton("Cancel")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.status_label = _wrapped("")
        self._lay_out()
        self._connect()
        self._set_enabled()
        self._inventory_runner.start(lambda *_: _models.take_inventory(), "esrgan-inventory")

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field in (
            ("Layer", self.layer_combo),
            ("Model A", self.model_a),
            ("Model B", self.model_b),
            ("Alpha", self.slider),
            ("", self.preview_check),
            ("Region", self.region_combo),
            ("Steps", self.steps_spin),
        ):
            form.addRow(label, field)
        buttons = QGridLayout()
        for place, button in enumerate(
            (
                self.apply_button,
                self.sweep_button,
                self.export_button,
                self.save_button,
            )
        ):
            buttons.addWidget(button, place // 2, place % 2)
        buttons.addWidget(self.cancel_button, 2, 0, 1, 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(form)
        column.addWidget(self.reason_label)
        column.addLayout(buttons)
        column.addWidget(self.bar)
        column.addWidget(self.status_label)
        column.addWidget(_wrapped(_notices.HALLUCINATION_NOTE))
        column.addStretch(1)
        self.setMinimumWidth(MINIMUM_WIDTH)

    def _connect(self) -> None:
        self._preview_timer = QTimer(self)
        self._preview_timer.setSingleShot(True)
        self._preview_timer.setInterval(PREVIEW_DELAY_MILLISECONDS)
        self._preview_timer.timeout.connect(self._preview)
        self._inventory_runner.finished.connect(self._on_inventory)
        self._inventory_runner.failed.connect(self._on_file_failed)
        self.preview_runner.finished.connect(self._on_preview)
        self.preview_runner.failed.connect(self._on_preview_failed)
        self.preview_runner.cancelled.connect(self._on_preview_cancelled)
        self.file_runner.finished.connect(self._on_file_done)
        self.file_runner.failed.connect(self._on_file_failed)
        self.slider.valueChanged.connect(self.want_preview)
        self.preview_check.toggled.connect(self._on_preview_toggled)
        self.layer_combo.layer_changed.connect(self._on_layer)
        for combo in (self.model_a, self.model_b):
            combo.model_changed.connect(self._on_models)
            combo.file_chosen.connect(lambda path, combo=combo: self._use_model_file(combo, path))
        self.apply_button.clicked.connect(self.apply)
        self.sweep_button.clicked.connect(self.sweep)
        self.export_button.clicked.connect(self._ask_export)
        self.save_button.clicked.connect(self._ask_save)
        self.cancel_button.clicked.connect(self.cancel)
        self.controller.reported.connect(self._on_report)
        self.controller.ended.connect(self._on_ended)

    # The form

    @property
    def mix(self) -> Mix:
        return Mix(self.model_a.key, self.model_b.key, round(float(self.slider.value()), 4))

    def request(self) -> UpscaleRequest:
        """What the form says now.

        Raises
        ------
        ValueError
            With the reason, where it says nothing that can be run.
        """
        layer = self.layer_combo.layer
        if layer is None:
            raise ValueError("choose an image layer first")
        if reason := self.unfit():
            raise ValueError(reason)
        data, axes = _layers.finest(layer), _layers.guessed_axes(layer)
        kind = default_kind(np.dtype(data.dtype), is_lazy(data))
        limits = (float(layer.contrast_limits[0]), float(layer.contrast_limits[1]))
        request = UpscaleRequest(
            data=data,
            axes=axes,
            region=self.region_combo.region(layer, axes),
            model=self.mix,
            outscale=None,
            value_range=RangeChoice(kind, limits if kind == "limits" else None),
            device=self._preferences.device,
            budget_bytes=self._preferences.budget_bytes,
            folder=self._preferences.folder,
            fill_in_seconds=self._preferences.fill_in_seconds,
        )
        return current_request(self._viewer, layer, request)

    def unfit(self) -> str | None:
        """Why the two models cannot be mixed; None if they can, as far as is known."""
        a, b = self.model_a.info, self.model_b.info
        if a is not None and b is not None and (reason := _mixing.unfit(a, b)):
            return reason
        if self._mismatch is not None and self._mismatch[:2] == (
            self.model_a.key,
            self.model_b.key,
        ):
            return self._mismatch[2]
        return None

    def _on_inventory(self, inventory: _models.Inventory) -> None:
        for combo in (self.model_a, self.model_b):
            combo.set_models(inventory.models)
        self._on_models()

    def _use_model_file(self, combo: ModelCombo, path: str) -> None:
        if self.file_runner.running:
            return

        def look(*_: Any) -> Callable[[], None]:
            from esrgan_ext.weights import find_model

            info = replace(find_model(path), name=path)
            return lambda: combo.add_file(info)

        self.file_runner.start(look, "esrgan-model-file")

    def _on_models(self) -> None:
        a = self.model_a.info
        if a is not None:
            reasons = {info.name: _mixing.unfit(a, info) for info in self.model_b.infos}
            self.model_b.set_unfit({name: why for name, why in reasons.items() if why})
        self._set_enabled()
        self.want_preview()

    def _on_layer(self) -> None:
        self._set_enabled()
        self.want_preview()

    # The preview

    def want_preview(self, *_: Any) -> None:
        """Ask for a new preview; what is under way for an old alpha stops."""
        if not self.preview_check.isChecked():
            return
        if self.preview_runner.running:
            self._preview_wanted = True
            self.preview_runner.cancel()
        else:
            self._preview_timer.start()

    def _on_preview_toggled(self, on: bool) -> None:
        if on:
            self.want_preview()
        else:
            self._preview_wanted = False
            self.preview_runner.cancel()
            self._remove_preview()

    def _preview(self) -> None:
        if self.preview_runner.running or not self.preview_check.isChecked():
            return
        layer = self.layer_combo.layer
        try:
            request = self.request()
        except ValueError as error:
            self.status_label.setText(str(error))
            return
        assert layer is not None  # else there were no request
        self._previewed = str(layer.unique_id)
        mixer = self._mixer
        self.preview_runner.start(
            lambda report, cancelled: _mixing.preview(request, mixer, report, cancelled),
            "esrgan-preview",
        )

    def _on_preview(self, result: tuple[np.ndarray, UpscaleRequest]) -> None:
        array, request = result
        source = _layers.find_layer(self._viewer, self._previewed)
        if source is None or not self.preview_check.isChecked():
            return
        place = _layers.placement(source, request.axes, request.region, array.shape, request.shown)
        layer = _layers.find_layer(self._viewer, self._preview_id)
        if layer is not None and layer.data.shape == array.shape:
            layer.data = array
            layer.scale, layer.translate = place["scale"], place["translate"]
        else:
            self._remove_preview()
            chosen = self._viewer.layers.selection.active
            look = _layers.appearance(source)
            layer = self._viewer.add_image(
                array, name=PREVIEW_NAME, metadata={_layers.METADATA_KEY: {}}, **look, **place
            )
            self._preview_id = str(layer.unique_id)
            if chosen is not None:
                self._viewer.layers.selection.active = chosen
        region, mix = request.region, request.model
        assert isinstance(mix, Mix)
        self.status_label.setText(
            f"Preview of {region.height} × {region.width} pixels at alpha {mix.alpha:.2f}."
        )
        self._preview_again()

    def _on_preview_failed(self, error: BaseException) -> None:
        from esrgan_ext.errors import ArchitectureMismatch

        if isinstance(error, ArchitectureMismatch):
            self._mismatch = (self.model_a.key, self.model_b.key, str(error))
            self._set_enabled()
        else:
            _notices.show_error(_notices.explain(error))
        self.preview_check.setChecked(False)

    def _on_preview_cancelled(self) -> None:
        self._preview_again()

    def _preview_again(self) -> None:
        if self._preview_wanted:
            self._preview_wanted = False
            self.want_preview()

    def _remove_preview(self) -> None:
        layer = _layers.find_layer(self._viewer, self._preview_id)
        if layer is not None:
            self._viewer.layers.remove(layer)
        self._preview_id = None

    # Apply, sweep, export, save

    def apply(self) -> None:
        """Upscale the layer with the mixed model, as the Upscale widget does with one."""
        if (request := self._checked_request()) is not None:
            a, b = (Path(key).stem if Path(key).suffix else key for key in self._keys())
            label = f"{a}+{b}@{self.mix.alpha:.2f}"
            self.controller.start(self.layer_combo.layer, request, label)
            self._on_start()

    def sweep(self) -> None:
        """One layer with a leading alpha axis, of the plane on show."""
        if (request := self._checked_request()) is None:
            return
        steps, mixer = self.steps_spin.value(), self._sweep_mixer

        def job(request: UpscaleRequest, report: Any, cancelled: Any) -> Outcome:
            try:
                return _mixing.sweep(request, steps, mixer, report, cancelled)
            finally:
                mixer.forget()

        self.controller.start(
            self.layer_combo.layer, replace(request, only_shown=True), "sweep", job, steps=steps
        )
        self._on_start()

    def export(self, path: str) -> None:
        """Write the selected sweep, else the last one, as an animation."""
        layer = self._sweep_layer()
        if layer is None:
            _notices.show_error("make a sweep first, or select one in the layer list")
            return
        if self.file_runner.running:
            return
        data, rgb = _layers.finest(layer), bool(layer.rgb)
        limits = (0.0, float(np.iinfo(data.dtype).max) if data.dtype.kind == "u" else 1.0)
        if not rgb:
            limits = (float(layer.contrast_limits[0]), float(layer.contrast_limits[1]))

        def work(*_: Any) -> Callable[[], None]:
            stack = np.asarray(data)
            stack = stack.reshape(len(stack), *stack.shape[-3 if rgb else -2 :])
            _mixing.export_animation(Path(path), _mixing.frames(stack, limits, rgb))
            return lambda: _notices.show_info(f"wrote {path}")

        self.file_runner.start(work, "esrgan-export")

    def save(self, path: str) -> None:
        """Write the mixed model to a file."""
        if self.file_runner.running:
            return
        if reason := self.unfit():
            _notices.show_error(reason)
            return
        mix = self.mix

        def work(report: Any, cancelled: Callable[[], bool]) -> Callable[[], None]:
            written = _mixing.save_mix(mix, Path(path), report, cancelled)
            return lambda: _notices.show_info(f"wrote {written}")

        self.file_runner.start(work, "esrgan-save")

    def cancel(self) -> None:
        self.controller.cancel()
        self.status_label.setText("Stopping…")
        self._set_enabled()

    def _keys(self) -> tuple[str, str]:
        return self.model_a.key, self.model_b.key

    def _checked_request(self) -> UpscaleRequest | None:
        if self.controller.running:
            return None
        try:
            return self.request()
        except ValueError as error:
            _notices.show_error(str(error))
            return None

    def _sweep_layer(self) -> Any | None:
        def is_sweep(layer: Any) -> bool:
            return "sweep" in layer.metadata.get(_layers.METADATA_KEY, {})

        active = self._viewer.layers.selection.active
        if active is not None and is_sweep(active):
            return active
        return next((x for x in reversed(list(self._viewer.layers)) if is_sweep(x)), None)

    def _ask_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export animation", "sweep.gif", ANIMATIONS)
        if path:
            self.export(path)

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save mixed model", "mix.safetensors", "Models (*.safetensors *.pth)"
        )
        if path:
            self.save(path)

    def _on_file_done(self, then: Callable[[], None]) -> None:
        then()

    def _on_file_failed(self, error: BaseException) -> None:
        _notices.show_error(_notices.explain(error))

    def _on_start(self) -> None:
        self.bar.setValue(0)
        self.status_label.setText("Starting…")
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

    def _set_enabled(self) -> None:
        reason = self.unfit()
        self.reason_label.setText(reason or "")
        self.reason_label.setVisible(reason is not None)
        ready = reason is None and self.layer_combo.layer is not None
        running = self.controller.running
        for button in (self.apply_button, self.sweep_button):
            button.setEnabled(ready and not running)
        self.preview_check.setEnabled(ready)
        self.save_button.setEnabled(reason is None)
        self.cancel_button.setEnabled(running and not self.controller.cancelling)

    def leave(self) -> None:
        """Closing the dock ends the work and takes the preview away."""
        self.controller.cancel()
        self.preview_runner.cancel()
        self._remove_preview()
        for part in (self.layer_combo, self.region_combo):
            part.disconnect_viewer()
        self._preview_timer.stop()


def _horizontal() -> Any:
    from qtpy.QtCore import Qt

    return Qt.Orientation.Horizontal


def _wrapped(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label
