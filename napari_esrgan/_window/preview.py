"""The live preview of a mix: a layer over a part of the view that follows slider and view.

Moves are answered one at a time, the latest wins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_esrgan._viewer import layers
from napari_esrgan._window.layer_adder import LayerAdder
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work import mixing
from napari_esrgan._work.request import Mix, UpscaleRequest
from napari_esrgan._work.wording import describe_progress

# The slider sends a value for every pixel it moves; a pan is over when nothing moves any more.
SLIDER_MILLISECONDS, VIEW_MILLISECONDS = 60, 300
PREVIEW_NAME = "ESRGAN preview"


class Preview(QObject):
    """Shows what the two models mix to, while it is on.

    Parameters
    ----------
    viewer : napari viewer or ViewerModel
    request : callable
        Returns the layer and what is wanted of it now; raises ValueError with the reason where
        nothing can be.
    parent : QObject

    Signals
    -------
    said(str)
        One line: the part that is shown, why nothing is, or what the preview waits for.
    failed(object)
        An exception; the preview is off.
    """

    said = Signal(str)
    failed = Signal(object)

    def __init__(
        self, viewer: Any, request: Callable[[], tuple[Any, UpscaleRequest]], parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._request = viewer, request
        self._mixer = mixing.Mixer()
        self.runner = ThreadRunner(self)
        self.runner.reported.connect(self._on_report)
        self.runner.finished.connect(self._on_finished)
        self.runner.failed.connect(self._on_failed)
        self.runner.cancelled.connect(self._again)
        self._adder = LayerAdder(viewer, self)
        self._adder.added.connect(self._on_added)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._start)
        self._source_id: str | None = None
        self.layer_id: str | None = None
        self._shown = ""
        self._on = self._wanted = False
        viewer.scene.camera.events.connect(self._on_view)
        viewer.dims.events.current_step.connect(self._on_view)

    def set_on(self, on: bool) -> None:
        """Begin to follow, or take the preview away."""
        self._on = on
        if on:
            self.want()
        else:
            self._wanted = False
            self._timer.stop()
            self.runner.cancel()
            self._remove()

    def want(self, milliseconds: int = SLIDER_MILLISECONDS) -> None:
        """Ask for a new preview; what is under way for an old one stops."""
        if not self._on:
            return
        if self.runner.running or self._adder.busy:
            self._wanted = True
            self.runner.cancel()
        else:
            self._timer.start(milliseconds)

    def leave(self) -> None:
        """Take the preview away and stop listening."""
        self.set_on(False)
        self._viewer.scene.camera.events.disconnect(self._on_view)
        self._viewer.dims.events.current_step.disconnect(self._on_view)

    def _on_view(self, _event: Any = None) -> None:
        if self._on:
            self.want(VIEW_MILLISECONDS)

    def _on_report(self, message: Any) -> None:
        self.said.emit(describe_progress(message))

    def _start(self) -> None:
        if self.runner.running or not self._on:
            return
        try:
            layer, request = self._request()
        except ValueError as error:
            self.said.emit(str(error))
            return
        self._source_id = str(layer.unique_id)
        mixer = self._mixer
        self.runner.start(
            lambda report, cancelled: mixing.preview(request, mixer, report, cancelled),
            "esrgan-preview",
        )

    def _on_finished(self, result: tuple[np.ndarray, UpscaleRequest]) -> None:
        array, request = result
        source = layers.find_layer(self._viewer, self._source_id)
        if source is None or not self._on:
            return
        region, mix = request.region, request.model
        assert isinstance(mix, Mix)
        self._shown = (
            f"Preview of {region.height} × {region.width} pixels at alpha {mix.alpha:.2f}."
        )
        place = layers.placement(source, request.axes, region, array.shape, request.shown)
        layer = layers.find_layer(self._viewer, self.layer_id)
        if layer is not None and layer.data.shape == array.shape and layer.ndim == source.ndim:
            layer.data = array
            layer.scale, layer.translate = place["scale"], place["translate"]
            self.said.emit(self._shown)
            self._again()
            return
        self._remove()
        arguments = {
            "name": PREVIEW_NAME,
            "metadata": {layers.METADATA_KEY: {}},
            **layers.appearance(source),
            **place,
        }
        self._adder.add(array, arguments, select=False)

    def _on_added(self, layer: Any) -> None:
        self.layer_id = str(layer.unique_id)
        self.said.emit(self._shown)
        self._again()

    def _on_failed(self, error: BaseException) -> None:
        self.set_on(False)
        self.failed.emit(error)

    def _again(self) -> None:
        if self._wanted:
            self._wanted = False
            self.want()

    def _remove(self) -> None:
        layer = self._adder.abort() or layers.find_layer(self._viewer, self.layer_id)
        self.layer_id = None
        if layer is not None:
            self._viewer.layers.remove(layer)
