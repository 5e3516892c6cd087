"""One run after the other, over the layers that are selected in the layer list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_esrgan._viewer import layers, notices
from napari_esrgan._window.run import UpscaleController

Begin = Callable[[Any], None]
"""Starts the controller on a layer. Raises ValueError with a reason where that cannot be done."""


class LayerQueue(QObject):
    """Starts a controller on layer after layer. Cancelled, it keeps the results that are there;
    what fails is told, and the others go on.

    Parameters
    ----------
    viewer : napari viewer or ViewerModel
    controller : UpscaleController
    begin : Begin
    parent : QObject or None

    Signals
    -------
    changed(str)
        Which of the layers is worked on ("Layer 2 of 3"); empty at the end.
    ended(str)
        Their outcome, in words.
    """

    changed = Signal(str)
    ended = Signal(str)

    def __init__(
        self,
        viewer: Any,
        controller: UpscaleController,
        begin: Begin,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._controller, self._begin = viewer, controller, begin
        self._waiting: list[str] = []
        self._total = self._done = self._failed = 0
        controller.ended.connect(self._on_ended)

    @property
    def running(self) -> bool:
        return self._total > 0

    def start(self, chosen: list[Any]) -> None:
        """Begin with the first of some layers; the controller must be idle."""
        self._waiting = [str(layer.unique_id) for layer in chosen]
        self._total, self._done, self._failed = len(chosen), 0, 0
        self._next()

    def leave(self) -> None:
        """Begin nothing any more."""
        self._waiting.clear()
        self._total = 0

    def _next(self) -> None:
        while self._waiting:
            layer = layers.find_layer(self._viewer, self._waiting.pop(0))
            if layer is None:  # removed meanwhile
                self._failed += 1
                continue
            try:
                self.changed.emit(f"Layer {self._total - len(self._waiting)} of {self._total}")
                self._begin(layer)
                return
            except ValueError as error:
                notices.show_error(f"{layer.name!r}: {error}")
                self._failed += 1
        self._end("")

    def _on_ended(self, how: str) -> None:
        if not self.running:
            return
        self._done += how == "finished"
        self._failed += how == "failed"
        if how == "cancelled":
            self._end("Cancelled; ")
        else:
            self._next()

    def _end(self, how: str) -> None:
        text = f"{how}{self._done} of {self._total} layers done"
        if self._failed:
            text += f", {self._failed} failed"
        self.leave()
        self.changed.emit("")
        self.ended.emit(f"{text}.")


def selected_images(viewer: Any) -> list[Any]:
    """The image layers that are selected in the layer list, in its order."""
    chosen = viewer.layers.selection
    return [layer for layer in viewer.layers if layer in chosen and layers.is_image(layer)]
