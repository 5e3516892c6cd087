"""The Interpolate widget: two models, a slider between them, a live preview.

Applying and sweeping run through the same controller as upscaling; exporting and saving in a
thread of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QPushButton, QSpinBox
from superqt import QLabeledDoubleSlider

from napari_esrgan._viewer import layers, notices
from napari_esrgan._viewer.requests import contrast_limits
from napari_esrgan._window.dock import form_layout
from napari_esrgan._window.model_combo import ModelCombo
from napari_esrgan._window.plain import guard_wheel, show_advice, wrapped
from napari_esrgan._window.preview import Preview
from napari_esrgan._window.run_widget import RunWidget
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work import mixing, models
from napari_esrgan._work.advice import advice
from napari_esrgan._work.messages import LayerOutcome
from napari_esrgan._work.request import Mix, UpscaleRequest
from napari_esrgan._work.sweep import export_animation, frames, sweep

ANIMATIONS = "Animations (*.gif *.webp *.apng *.mp4)"


class InterpolateWidget(RunWidget):
    """Mixes two models of one architecture and shows what alpha does.

    Parameters
    ----------
    napari_viewer : napari viewer or ViewerModel
        The name is what napari looks for.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._sweep_mixer = mixing.Mixer()
        self.file_runner = ThreadRunner(self)
        self._mismatch: tuple[Mix, str] | None = None
        self.preview = Preview(napari_viewer, self._preview_request, self)
        self.model_a, self.model_b = (ModelCombo(name) for name in models.FIRST_PAIRS[-1])
        self.reason_label = wrapped()
        self.advice_label = wrapped()
        self.slider = QLabeledDoubleSlider()
        self.slider.setOrientation(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 1)
        self.slider.setDecimals(2)
        self.slider.setSingleStep(0.05)  # type: ignore[arg-type]  # a proxy that takes floats
        self.slider.setValue(0.5)
        self.slider.setToolTip("0 is model A, 1 is model B")
        self.preview_check = QCheckBox("Live preview")
        self.preview_check.setToolTip("A square in the current view, upscaled as you move alpha")
        self.steps_spin = QSpinBox()
        guard_wheel(self.steps_spin)
        self.steps_spin.setRange(2, 201)
        self.steps_spin.setValue(self.source.wanted.sweep_steps)
        self.steps_spin.setToolTip("How many alphas from 0 to 1 a sweep has")
        self.apply_button = QPushButton("Apply to layer")
        self.apply_button.setToolTip("Upscale with the mixed model, as the Upscale widget does")
        self.sweep_button = QPushButton("Sweep")
        self.sweep_button.setToolTip("The plane on show at every alpha, to scroll with the slider")
        self.export_button = QPushButton("Export animation…")
        self.export_button.setToolTip("The selected sweep as GIF, WebP, APNG or MP4")
        self.save_button = QPushButton("Save mixed model…")
        self.save_button.setToolTip("As .safetensors or .pth, to be used like any other model")
        self._lay_out()
        self._connect()
        self.begin()

    def _lay_out(self) -> None:
        form = form_layout()
        self.source.add_to(
            form,
            [
                ("Model A", self.model_a),
                ("Model B", self.model_b),
                ("", self.reason_label),
                ("", self.advice_label),
                ("Alpha", self.slider),
                ("", self.preview_check),
            ],
        )
        form.addRow("Steps", self.steps_spin)
        buttons = QGridLayout()
        buttons.addWidget(self.apply_button, 0, 0)
        buttons.addWidget(self.sweep_button, 0, 1)
        buttons.addWidget(self.panel.cancel_button, 1, 0, 1, 2)
        files = QGridLayout()
        files.addWidget(self.export_button, 0, 0)
        files.addWidget(self.save_button, 0, 1)
        column = self.add_column()
        column.addLayout(form)
        column.addWidget(self.source.advanced())
        column.addLayout(buttons)
        column.addWidget(self.panel)
        column.addLayout(files)
        column.addStretch(1)

    def _connect(self) -> None:
        self.file_runner.finished.connect(notices.show_info)
        self.file_runner.failed.connect(notices.tell)
        self.preview.said.connect(self.panel.say)
        self.preview.failed.connect(self._on_preview_failed)
        self.slider.valueChanged.connect(self._on_alpha)
        self.preview_check.toggled.connect(self.preview.set_on)
        self.source.changed.connect(self._on_source)
        for combo in (self.model_a, self.model_b):
            combo.model_changed.connect(self._on_models)
        self.apply_button.clicked.connect(self.apply)
        self.sweep_button.clicked.connect(self.sweep)
        self.export_button.clicked.connect(self._ask_export)
        self.save_button.clicked.connect(self._ask_save)
        self.controller.ended.connect(lambda _: self._set_enabled())

    # The form

    @property
    def mix(self) -> Mix:
        return Mix(self.model_a.key, self.model_b.key, round(float(self.slider.value()), 4))

    def request(self) -> UpscaleRequest:
        """The form's request; see `RunWidget.request`."""
        if reason := self.unfit():
            raise ValueError(reason)
        return self.source.request(self.mix, None)

    def unfit(self) -> str | None:
        """Why the two models cannot be mixed; None if they can, as far as is known."""
        a, b = self.model_a.info, self.model_b.info
        if a is not None and b is not None and (reason := mixing.unfit(a, b)):
            return reason
        if self._mismatch is not None and replace(self._mismatch[0], alpha=self.mix.alpha) == (
            self.mix
        ):
            return self._mismatch[1]
        return None

    def _preview_request(self) -> tuple[Any, UpscaleRequest]:
        request = self.request()
        return self.source.layer, request

    def _on_inventory(self, inventory: models.Inventory) -> None:
        super()._on_inventory(inventory)
        untouched = (self.model_a.key, self.model_b.key) == models.FIRST_PAIRS[-1]
        for combo in (self.model_a, self.model_b):
            combo.set_models(inventory.models)
        if untouched:
            first = models.first_pair(inventory.models)
            for combo, name in zip((self.model_a, self.model_b), first, strict=True):
                combo.choose(name)
        self._on_models()

    def _on_models(self) -> None:
        a = self.model_a.info
        if a is not None:
            reasons = {info.name: mixing.unfit(a, info) for info in self.model_b.infos}
            self.model_b.set_unfit({name: why for name, why in reasons.items() if why})
        self._on_source()

    def _on_alpha(self, _alpha: float) -> None:
        self._set_enabled()
        self.preview.want()

    def _on_source(self) -> None:
        self._set_enabled()
        self.preview.want()

    def _on_preview_failed(self, error: BaseException) -> None:
        from esrgan_ext.errors import ArchitectureMismatch

        if isinstance(error, ArchitectureMismatch):
            self._mismatch = (self.mix, str(error))
            self._set_enabled()
        else:
            notices.tell(error)
        self.preview_check.setChecked(False)

    # Apply, sweep, export, save

    def apply(self) -> None:
        """Upscale the layer with the mixed model, as the Upscale widget does with one."""
        if not self.controller.running and (request := self.checked_request()) is not None:
            label = f"{self.model_a.label}+{self.model_b.label}@{self.mix.alpha:.2f}"
            self.start(request, label)

    def sweep(self) -> None:
        """One layer with a leading alpha axis, of the plane on show."""
        if self.controller.running or (request := self.checked_request()) is None:
            return
        steps, mixer = self.steps_spin.value(), self._sweep_mixer

        def work(request: UpscaleRequest, report: Any, cancelled: Any) -> LayerOutcome:
            try:
                return sweep(request, steps, mixer, report, cancelled)
            finally:
                mixer.forget()

        self.start(replace(request, only_shown=True), "sweep", work=work, steps=steps)

    def export(self, path: str) -> None:
        """Write the selected sweep, else the last one, as an animation."""
        layer = self._sweep_layer()
        if layer is None:
            notices.show_error("make a sweep first, or select one in the layer list")
            return
        if self.file_runner.running:
            return
        data, rgb = layers.finest(layer), bool(layer.rgb)
        if rgb:
            limits = (0.0, float(np.iinfo(data.dtype).max) if data.dtype.kind == "u" else 1.0)
        else:
            limits = contrast_limits(layer)

        def work(*_: Any) -> str:
            stack = np.asarray(data)
            stack = stack.reshape(len(stack), *stack.shape[-3 if rgb else -2 :])
            export_animation(Path(path), frames(stack, limits, rgb))
            return f"wrote {path}"

        self.file_runner.start(work, "esrgan-export")

    def save(self, path: str) -> None:
        """Write the mixed model to a file."""
        if self.file_runner.running:
            return
        if reason := self.unfit():
            notices.show_error(reason)
            return
        mix = self.mix

        def work(report: Any, cancelled: Callable[[], bool]) -> str:
            return f"wrote {mixing.save_mix(mix, Path(path), report, cancelled)}"

        self.file_runner.start(work, "esrgan-save")

    def _sweep_layer(self) -> Any | None:
        def is_sweep(layer: Any) -> bool:
            return "sweep" in layer.metadata.get(layers.METADATA_KEY, {})

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

    def _set_enabled(self) -> None:
        reason = self.unfit()
        self.reason_label.setText(reason or "")
        self.reason_label.setVisible(reason is not None)
        alpha = self.mix.alpha
        used = (
            [self.mix.a] if alpha == 0 else [self.mix.b] if alpha == 1 else [self.mix.a, self.mix.b]
        )
        show_advice(self.advice_label, advice(tuple(used), own_choice=True))
        ready = reason is None and self.source.layer is not None
        for button in (self.apply_button, self.sweep_button):
            button.setEnabled(ready and not self.controller.running)
        self.preview_check.setEnabled(ready)
        self.save_button.setEnabled(reason is None)

    def leave(self) -> None:
        """Closing the dock ends the work and takes the preview away."""
        super().leave()
        self.preview.leave()
