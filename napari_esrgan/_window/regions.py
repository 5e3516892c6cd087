"""Choosing a part of a layer: all of it, the current view, or a rectangle that was drawn."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._viewer import layers
from napari_esrgan._window.plain import shrinkable
from napari_esrgan._work.axes import Axes

WHOLE, VIEW = "whole", "view"


class RegionCombo(QComboBox):
    """Whole layer, current view, or the rectangle of a Shapes layer."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        shrinkable(self)
        self._viewer = viewer
        events = viewer.layers.events
        for event in (events.inserted, events.removed):
            event.connect(self.refill)
        self.refill()

    def refill(self, event: Any = None) -> None:
        from napari.layers import Shapes

        chosen = self.currentData() or WHOLE
        self.blockSignals(True)
        self.clear()
        self.addItem("Whole layer", WHOLE)
        self.addItem("Current view", VIEW)
        for layer in self._viewer.layers:
            if isinstance(layer, Shapes):
                self.addItem(f"Rectangle in {layer.name}", str(layer.unique_id))
        self.setCurrentIndex(max(self.findData(chosen), 0))
        self.blockSignals(False)
        if (self.currentData() or WHOLE) != chosen:
            self.currentIndexChanged.emit(self.currentIndex())

    def region(self, layer: Any, axes: Axes) -> Rect:
        """The region chosen, on a layer.

        Raises
        ------
        RegionError
            If it has no pixels of the layer.
        """
        choice = self.currentData()
        if choice == WHOLE:
            return layers.whole_region(layer, axes)
        if choice == VIEW:
            return layers.view_region(self._viewer, layer, axes)
        return layers.rectangle_region(layers.find_layer(self._viewer, choice), layer, axes)

    def disconnect_viewer(self) -> None:
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed):
            event.disconnect(self.refill)
