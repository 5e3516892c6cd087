"""The Upscale widget: a form, an estimate, Run and Cancel, a bar.

Collects a request and hands it to the controller; computes nothing itself. What takes longer
than a glance (lists, estimates, the run) happens in worker threads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QPushButton

from napari_esrgan._viewer import layers, notices
from napari_esrgan._viewer.preferences import AUTO, remember_model
from napari_esrgan._window.clipboard import copy_text
from napari_esrgan._window.denoise_field import DenoiseField
from napari_esrgan._window.dock import form_layout
from napari_esrgan._window.extra_layers import (
    result_to_check,
    start_consistency,
    start_labels,
    start_live,
)
from napari_esrgan._window.folder_dialog import FolderDialog
from napari_esrgan._window.layer_queue import LayerQueue, selected_images
from napari_esrgan._window.layer_task import LayerTask
from napari_esrgan._window.model_combo import ModelCombo
from napari_esrgan._window.plain import show_advice, wrapped
from napari_esrgan._window.run_widget import RunWidget
from napari_esrgan._window.scale_field import ScaleField
from napari_esrgan._window.swipe import Swipe
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work import models
from napari_esrgan._work.advice import advice
from napari_esrgan._work.estimate import Estimate, estimate
from napari_esrgan._work.folder import run_folder
from napari_esrgan._work.messages import Status
from napari_esrgan._work.request import Mix, UpscaleRequest, denoising
from napari_esrgan._work.uncertainty import run_uncertainty
from napari_esrgan._work.upscale import run_upscale
from napari_esrgan._work.wording import describe_estimate

# While someone types or pans, an estimate waits for them to pause.
ESTIMATE_DELAY_MILLISECONDS = 300


class UpscaleWidget(RunWidget):
    """Upscales an image layer with a super-resolution network.

    Parameters
    ----------
    napari_viewer : napari viewer or ViewerModel
        The name is what napari looks for.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._estimate_runner = ThreadRunner(self)
        self._consistency = LayerTask(napari_viewer, self)
        self._live = LayerTask(napari_viewer, self)
        self._labels = LayerTask(napari_viewer, self)
        self._estimate_wanted = False
        self._estimated_model = ""
        self.model_combo = ModelCombo(self.source.wanted.first_model)
        self.advice_label = wrapped()
        self._own_choice = self.source.wanted.model != AUTO
        self.scale_field = ScaleField(self.source, self.model_combo)
        self.denoise = DenoiseField(self.model_combo, self)
        self.consistent_check = QCheckBox("Consistent with the source")
        self.consistent_check.setToolTip(
            "Averaging the result down gives the measured values back, noise included;\n"
            "needs a whole number as scale, and excludes denoising"
        )
        self.estimate_label = wrapped("Choose an image layer.")
        self.run_button = QPushButton("Run")
        self.script_button = QPushButton("Copy as Python")
        self.script_button.setToolTip("A script that computes the same array, on the clipboard")
        self.consistency_button = QPushButton("Consistency")
        self.consistency_button.setToolTip(
            "A layer with the difference between the result, reduced again, and the source"
        )
        self.uncertainty_button = QPushButton("Uncertainty")
        self.uncertainty_button.setToolTip(
            "A layer with the spread of the results over flips and rotations, of the plane on show"
        )
        self.live_button = QPushButton("Live layer")
        self.live_button.setToolTip("A layer that is upscaled where you look, when you look")
        self.folder_button = QPushButton("Folder…")
        self.folder_button.setToolTip(
            "Upscale the image files of a folder with the form's settings"
        )
        self.folder_dialog = FolderDialog(run_folder, self._folder_settings, self)
        self.labels_button = QPushButton("Labels")
        self.labels_button.setToolTip(
            "Enlarge the Labels layers that lie on the source to the result's pixels (nearest)"
        )
        self.swipe_button = QPushButton("Swipe")
        self.swipe_button.setCheckable(True)
        self.swipe_button.setToolTip(
            "Split the canvas: source on the left, result on the right of a line to drag"
        )
        self.swipe = Swipe(napari_viewer, self)
        self._lay_out()
        self._connect()
        self._on_model()
        self.begin()

    def _lay_out(self) -> None:
        form = form_layout()
        self.source.add_to(
            form,
            [
                ("Model", self.model_combo),
                ("", self.advice_label),
                (self.denoise.label, self.denoise.slider),
                ("Scale", self.scale_field),
                ("", self.consistent_check),
            ],
        )
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.panel.cancel_button, 1)
        extras = QGridLayout()
        extras.addWidget(self.swipe_button, 0, 0)
        extras.addWidget(self.consistency_button, 0, 1)
        extras.addWidget(self.uncertainty_button, 0, 2)
        extras.addWidget(self.labels_button, 0, 3)
        extras.addWidget(self.live_button, 1, 0)
        extras.addWidget(self.folder_button, 1, 1)
        extras.addWidget(self.script_button, 1, 2, 1, 2)
        column = self.add_column()
        column.addLayout(form)
        column.addWidget(self.source.advanced())
        column.addWidget(self.estimate_label)
        column.addLayout(buttons)
        column.addWidget(self.panel)
        column.addLayout(extras)
        column.addStretch(1)

    def _connect(self) -> None:
        self._estimate_timer = QTimer(self)
        self._estimate_timer.setSingleShot(True)
        self._estimate_timer.setInterval(ESTIMATE_DELAY_MILLISECONDS)
        self._estimate_timer.timeout.connect(self._estimate)
        self._estimate_runner.reported.connect(self._on_estimate_status)
        self._estimate_runner.finished.connect(self._on_estimate)
        self._estimate_runner.failed.connect(self._on_estimate_error)
        self.source.layer_changed.connect(self._set_enabled)
        self.source.changed.connect(self._on_source)
        self.model_combo.model_changed.connect(self._on_model)
        self.model_combo.picked.connect(self._on_picked)
        self.scale_field.changed.connect(self._want_estimate)
        self.denoise.moved.connect(self._on_denoise)
        self.consistent_check.toggled.connect(self._want_estimate)
        self.uncertainty_button.clicked.connect(self.add_uncertainty)
        self.run_button.clicked.connect(self.run)
        self.script_button.clicked.connect(self.copy_script)
        self.consistency_button.clicked.connect(self.add_consistency)
        self.live_button.clicked.connect(self.add_live)
        self.folder_button.clicked.connect(self.show_folder)
        self.swipe_button.clicked.connect(self.toggle_swipe)
        self.labels_button.clicked.connect(self.add_labels)
        self.swipe.active_changed.connect(self.swipe_button.setChecked)
        self.controller.ended.connect(self._on_ended)
        self._viewer.layers.selection.events.changed.connect(self._on_selection)
        self._queue = LayerQueue(self._viewer, self.controller, self._begin, self)
        self._queue.changed.connect(self.panel.set_prefix)
        self._queue.ended.connect(self._on_queue_ended)

    # The form

    def request(self) -> UpscaleRequest:
        """The form's request; see `RunWidget.request`."""
        request = self.source.request(self.model, self.scale_field.asked())
        return replace(
            request,
            consistent=self.consistent_check.isChecked(),
            denoise_auto=self.denoise.strength is None,
            strengths=() if self.consistent_check.isChecked() else self.denoise.by_channel,
        )

    def _request_for(self, layer: Any) -> UpscaleRequest:
        """The same for another layer, denoised as its own noise asks for unless the user says."""
        scale = self.scale_field.asked_of(layer, self.source.axes_of(layer))
        model = self.model if self.denoise.own else self.model_combo.key
        request = self.source.request_for(layer, model, scale)
        return replace(
            request,
            consistent=self.consistent_check.isChecked(),
            denoise_auto=not self.denoise.own,
        )

    @property
    def model(self) -> str | Mix:
        """The chosen model, mixed with its partner as far as the denoising says."""
        alpha, by_channel = self.denoise.strength, self.denoise.by_channel
        if self._plain or alpha is None or by_channel:
            return self.model_combo.key
        return denoising(self.model_combo.key, alpha)

    @property
    def _plain(self) -> bool:
        """Whether the model runs as it stands, without denoising."""
        return self.denoise.pair is None or self.consistent_check.isChecked()

    @property
    def label(self) -> str:
        """The model in a layer's name."""
        strength, by_channel = self.denoise.strength, self.denoise.by_channel
        if self._plain or strength is None:
            return self.model_combo.label
        told = f"{strength:.2f}"
        if by_channel:
            told = f"{min(by_channel):.2f} to {told}"
        return f"{self.model_combo.label}, denoise {told}"

    def _on_model(self) -> None:
        self.scale_field.refresh()
        self.denoise.refresh()
        self._exclude()
        show_advice(self.advice_label, advice((self.model_combo.key,), self._own_choice))
        self._want_estimate()

    def _on_denoise(self) -> None:
        self._exclude()
        self._want_estimate()

    def _exclude(self) -> None:
        """A consistent result has the noise of its source."""
        field = self.denoise
        denoises = field.pair is not None and field.own and bool(field.strength)
        if denoises:
            self.consistent_check.setChecked(False)
        self.consistent_check.setEnabled(not denoises)

    def _on_picked(self, model: str) -> None:
        self._own_choice = True
        show_advice(self.advice_label, advice((model,), own_choice=True))
        remember_model(model)

    def _on_source(self) -> None:
        self.denoise.forget()
        self.scale_field.refresh()
        self._want_estimate()

    def _on_inventory(self, inventory: models.Inventory) -> None:
        super()._on_inventory(inventory)
        self.model_combo.set_models(inventory.models)
        self._want_estimate()

    # The estimate

    def _want_estimate(self) -> None:
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
        self._estimated_model = self.model_combo.key
        self._estimate_runner.start(
            lambda report, cancelled: estimate(request, report, cancelled), "esrgan-estimate"
        )

    def _on_estimate_status(self, status: Status) -> None:
        self.estimate_label.setText(status.text)

    def _on_estimate(self, result: Estimate) -> None:
        asked = self._estimated_model == self.model_combo.key and self.denoise.strength is None
        if asked and not self._plain:
            self.denoise.take(result)
        self.estimate_label.setText(describe_estimate(result))
        self._estimate_again()

    def _on_estimate_error(self, error: BaseException) -> None:
        self.estimate_label.setText(notices.explain(error))
        self._estimate_again()

    def _estimate_again(self) -> None:
        if self._estimate_wanted:
            self._estimate_wanted = False
            self._want_estimate()

    # The run

    def run(self) -> None:
        """Start upscaling what the form says: of the chosen layer, or of all that are selected."""
        if self.controller.running or (request := self.checked_request()) is None:
            return
        if several := self._several:
            self._queue.start(several)
        else:
            self.start(request, self.label)

    @property
    def _several(self) -> list[Any]:
        """The selected layers where they are more than the chosen one."""
        chosen = selected_images(self._viewer)
        return chosen if len(chosen) > 1 and any(map(self._is_chosen, chosen)) else []

    def _is_chosen(self, layer: Any) -> bool:
        chosen = self.source.layer
        return chosen is not None and chosen.unique_id == layer.unique_id

    def _begin(self, layer: Any) -> None:
        """Run one of several layers."""
        is_chosen = self._is_chosen(layer)
        request = self.request() if is_chosen else self._request_for(layer)
        label = self.label if is_chosen or self.denoise.own else self.model_combo.label
        self.controller.start(layer, request, label, run_upscale)
        self.panel.started()
        self._set_enabled()

    def _on_ended(self, _how: str) -> None:
        self._set_enabled()
        self._want_estimate()

    def _on_selection(self, _event: Any = None) -> None:
        self._set_enabled()

    def _on_queue_ended(self, text: str) -> None:
        self._set_enabled()
        self.panel.say(text)

    def _set_enabled(self) -> None:
        has_layer = self.source.layer is not None
        several = len(self._several)
        self.run_button.setText(f"Run on {several} layers" if several else "Run")
        self.run_button.setEnabled(has_layer and not self.controller.running)
        for button in (self.script_button, self.live_button, self.consistency_button):
            button.setEnabled(has_layer)
        self.uncertainty_button.setEnabled(has_layer and not self.controller.running)

    # The extras

    def copy_script(self) -> str:
        """Put the script for the chosen result, or for what the form says, on the clipboard."""
        from napari_esrgan._work.script import request_script, script

        layer = self.source.layer
        try:
            if layer is not None and (made := layers.provenance(layer)) is not None:
                text = script(made)
            else:
                request = self.request()
                assert layer is not None
                text = request_script(request, layer.name)
        except ValueError as error:
            notices.show_error(str(error))
            return ""
        copy_text(text)
        self.panel.say("The script is on the clipboard.")
        return text

    def add_consistency(self) -> None:
        """Compare the last result, or the active layer where that is one, with its source."""
        result = result_to_check(self._viewer, self.controller.last_layer_id)
        if result is None:
            notices.show_error("run an upscaling first, or select a result in the layer list")
            return
        start_consistency(self._consistency, self._viewer, result)

    def add_uncertainty(self) -> None:
        """Add a layer with the spread over flips and rotations, of the plane on show."""
        if self.controller.running or (request := self.checked_request()) is None:
            return
        look = {"colormap": "magma", "rgb": False}
        name = f"{self.label} uncertainty"
        self.start(replace(request, only_shown=True), name, run_uncertainty, look=look)

    def add_live(self) -> None:
        """Add a layer that is upscaled where you look."""
        if (request := self.checked_request()) is not None:
            start_live(self._live, self.source.layer, request, self.label)

    def add_labels(self) -> None:
        """Enlarge the Labels layers on the source of the active result, or of the last one."""
        result = result_to_check(self._viewer, self.controller.last_layer_id)
        if result is None:
            notices.show_error("run an upscaling first, or select a result in the layer list")
            return
        start_labels(self._labels, self._viewer, result, self.source.wanted)

    def toggle_swipe(self) -> None:
        """Split the canvas between a result and its source, or end that."""
        if self.swipe.active:
            self.swipe.stop()
            return
        result = result_to_check(self._viewer, self.controller.last_layer_id)
        if result is None:
            notices.show_error("run an upscaling first, or select a result in the layer list")
        elif self.swipe.start(result):
            return
        self.swipe_button.setChecked(False)

    def show_folder(self) -> None:
        """Open the window for a folder of files."""
        self.folder_dialog.show()
        self.folder_dialog.raise_()
        self.folder_dialog.activateWindow()
        self.folder_dialog.source_line.setFocus()

    def _folder_settings(self) -> dict[str, Any]:
        options = self.source.options(self.model, self.scale_field.outscale)
        # Without a strength of the user's own, each file is denoised as its noise asks for.
        options |= {
            "consistent": self.consistent_check.isChecked(),
            "denoise_auto": not self.denoise.own,
        }
        if not self.denoise.own:
            options["model"] = self.model_combo.key
        return {
            "options": options,
            "value_range": self.source.range_of_files(),
            "pixel_size": self.scale_field.pixel_size,
        }

    def leave(self) -> None:
        """Closing the dock ends the work; the viewer goes on without us."""
        self._queue.leave()
        super().leave()
        self._viewer.layers.selection.events.changed.disconnect(self._on_selection)
        self.swipe.stop()
        self.folder_dialog.run.cancel()
        self.folder_dialog.close()
        for task in (self._consistency, self._live, self._labels):
            task.cancel()
        self._estimate_timer.stop()
        self._estimate_runner.cancel()
