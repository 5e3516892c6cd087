"""The fields that every form has: which layer, which part of it, axes, values, device.

Says what is to be upscaled; which model does it is the widget's business.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QSpinBox, QWidget
from superqt import QCollapsible

from napari_esrgan._viewer import layers
from napari_esrgan._viewer.preferences import Preferences
from napari_esrgan._viewer.requests import contrast_limits, current_request
from napari_esrgan._window.fields import AxesEditor, LayerCombo, RangeEditor
from napari_esrgan._window.plain import guard_wheel, shrinkable
from napari_esrgan._window.regions import VIEW, RegionCombo
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.models import DeviceChoice
from napari_esrgan._work.ranges import RangeChoice, RangeKind, default_kind, is_lazy
from napari_esrgan._work.request import Mix, UpscaleRequest


class SourceForm(QObject):
    """A layer and how it is taken.

    Parameters
    ----------
    viewer : napari viewer or ViewerModel
    wanted : Preferences
    parent : QObject

    Signals
    -------
    layer_changed()
        Another layer was chosen, or there is none any more.
    changed()
        Anything was, the view included where that is the region.
    """

    layer_changed = Signal()
    changed = Signal()

    def __init__(self, viewer: Any, wanted: Preferences, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self.wanted = viewer, wanted
        # Of each layer whose axes the user has said, for when it is chosen again.
        self._axes_chosen: dict[str, Axes] = {}
        self.layer_combo = LayerCombo(viewer, layers.is_image)
        self.region_combo = RegionCombo(viewer)
        self.axes_editor = AxesEditor()
        self.range_editor = RangeEditor()
        self.device_combo = shrinkable(QComboBox())
        self.device_combo.addItem("Automatic", "auto")
        self.device_combo.setToolTip("Devices of this computer; automatic is the first GPU, if any")
        self.tile_spin = QSpinBox()
        guard_wheel(self.tile_spin)
        self.tile_spin.setRange(0, 16384)
        self.tile_spin.setSingleStep(64)
        self.tile_spin.setSpecialValueText("automatic")
        self.tile_spin.setToolTip("Side of a tile in input pixels; less memory, more work")
        self.precision_combo = shrinkable(QComboBox())
        self.precision_combo.setToolTip(
            "Precision of the network's arithmetic; automatic is fp32 on a CPU"
        )
        for precision in ("auto", "fp32", "fp16", "bf16"):
            self.precision_combo.addItem(
                "automatic" if precision == "auto" else precision, precision
            )
        self.layer_combo.layer_changed.connect(self._on_layer)
        self.axes_editor.axes_changed.connect(self._on_axes)
        self.range_editor.range_changed.connect(self.changed)
        for combo in (self.region_combo, self.device_combo, self.precision_combo):
            combo.currentIndexChanged.connect(self._on_field)
        self.tile_spin.valueChanged.connect(self._on_field)
        viewer.scene.camera.events.connect(self._on_view)
        self._on_layer()

    def add_to(self, form: QFormLayout, between: list[tuple[str | QWidget, QWidget]]) -> None:
        """Put the fields into a form, the widget's own after the layer."""
        for label, field in (
            ("Layer", self.layer_combo),
            *between,
            ("Region", self.region_combo),
            ("Axes", self.axes_editor),
            ("Values", self.range_editor),
            ("Device", self.device_combo),
        ):
            form.addRow(label, field)  # type: ignore[arg-type]

    def advanced(self) -> QCollapsible:
        """The fields that hardly anyone needs, folded away."""
        collapsible = QCollapsible("Advanced")
        inner = QWidget()
        form = QFormLayout(inner)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Tile", self.tile_spin)
        form.addRow("Precision", self.precision_combo)
        collapsible.addWidget(inner)
        return collapsible

    @property
    def layer(self) -> Any | None:
        return self.layer_combo.layer

    def request(self, model: str | Mix, outscale: float | None) -> UpscaleRequest:
        """The form's request.

        Raises
        ------
        ValueError
            With the reason, where it says nothing that can be run.
        """
        layer, axes = self.layer, self.axes_editor.axes
        if layer is None:
            raise ValueError("choose an image layer first (Open, or drag an image here)")
        if axes is None:
            open_question = self.axes_editor.question
            raise ValueError(open_question or "one axis must be Y, one X and at most one channels")
        return self._request(
            layer, axes, self.range_editor.choice(contrast_limits(layer)), model, outscale
        )

    def axes_of(self, layer: Any) -> Axes:
        """The axes of a layer: as they were chosen for it, or for one of the same shape and labels.

        Raises
        ------
        ValueError
            It has an axis that may be channels or planes.
        """
        if (known := self._axes_chosen.get(str(layer.unique_id))) is not None:
            return known
        axes, chosen = self.axes_editor.axes, self.layer
        if axes is not None and chosen is not None:
            alike = layers.spatial_shape(layer) == layers.spatial_shape(chosen)
            alike &= (layer.rgb, layer.axis_labels) == (chosen.rgb, chosen.axis_labels)
            if alike:
                return axes
        if layers.doubtful_axis(layer) is not None:
            raise ValueError("choose this layer alone, and say which of its axes is channels")
        return layers.guessed_axes(layer)

    def request_for(self, layer: Any, model: str | Mix, outscale: float | None) -> UpscaleRequest:
        """The form's request for another layer than the chosen one.

        Its axes are those of `axes_of`, and its range is what suits it unless another was chosen.

        Raises
        ------
        ValueError
            As `request`.
        """
        chosen, kind = self.layer, self.range_editor.kind
        data = layers.finest(layer)
        if chosen is None or kind == _first_range(chosen):
            kind = default_kind(np.dtype(data.dtype), is_lazy(data))
            limits = contrast_limits(layer) if kind == "limits" else None
            values = RangeChoice(kind, limits)
        else:
            values = self.range_editor.choice(contrast_limits(layer))
        return self._request(layer, self.axes_of(layer), values, model, outscale)

    def _request(
        self,
        layer: Any,
        axes: Axes,
        values: RangeChoice,
        model: str | Mix,
        outscale: float | None,
    ) -> UpscaleRequest:
        request = UpscaleRequest(
            data=layers.finest(layer),
            axes=axes,
            region=self.region_combo.region(layer, axes),
            value_range=values,
            **self.options(model, outscale),
        )
        return current_request(self._viewer, layer, request)

    def options(self, model: str | Mix, outscale: float | None) -> dict[str, Any]:
        """The fields of a request that no layer has a say in."""
        return {
            "model": model,
            "outscale": outscale,
            "device": self.device_combo.currentData(),
            "precision": self.precision_combo.currentData(),
            "tile": self.tile_spin.value() or "auto",
            "budget_bytes": self.wanted.budget_bytes,
            "folder": self.wanted.folder,
            "fill_in_seconds": self.wanted.fill_in_seconds,
        }

    def range_of_files(self) -> RangeChoice | None:
        """The range for files that are no layers; None where each has what suits its type.

        That is so unless another range was chosen than the layer's first, and for contrast limits,
        which files have not.

        Raises
        ------
        ValueError
            If the own range is not two numbers, the first the smaller.
        """
        kind, layer = self.range_editor.kind, self.layer
        if kind == "limits" or (layer is None and kind != "own"):
            return None
        if layer is not None and kind == _first_range(layer):
            return None
        return self.range_editor.choice((0.0, 1.0))

    def set_devices(self, devices: tuple[DeviceChoice, ...]) -> None:
        """Offer these, choosing the preferred one."""
        self.device_combo.clear()
        for device in devices:
            self.device_combo.addItem(device.label, device.key)
        self.device_combo.setCurrentIndex(max(self.device_combo.findData(self.wanted.device), 0))

    def leave(self) -> None:
        """Stop listening; the viewer outlives its docks."""
        for part in (self.layer_combo, self.region_combo):
            part.disconnect_viewer()
        self._viewer.scene.camera.events.disconnect(self._on_view)

    def _on_layer(self) -> None:
        layer = self.layer
        if layer is not None:
            known = self._axes_chosen.get(str(layer.unique_id))
            shape = layers.spatial_shape(layer)
            if known is not None and len(known.roles) == len(shape):
                self.axes_editor.set_axes(known, shape, layer.axis_labels)
            else:
                self.axes_editor.set_axes(
                    layers.guessed_axes(layer),
                    shape,
                    layer.axis_labels,
                    layers.doubtful_axis(layer),
                )
            self.range_editor.set_kind(_first_range(layer))
        self.layer_changed.emit()
        self.changed.emit()

    def _on_axes(self) -> None:
        layer, axes = self.layer, self.axes_editor.axes
        if layer is not None and axes is not None:
            self._axes_chosen[str(layer.unique_id)] = axes
        self.changed.emit()

    def _on_field(self, _value: Any = None) -> None:
        self.changed.emit()

    def _on_view(self, _event: Any = None) -> None:
        if self.region_combo.currentData() == VIEW:
            self.changed.emit()


def _first_range(layer: Any) -> RangeKind:
    """A layer's range until another is chosen."""
    data = layers.finest(layer)
    return default_kind(np.dtype(data.dtype), is_lazy(data))
