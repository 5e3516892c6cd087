"""How large the result is: a factor, or the size of its pixels."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLineEdit, QWidget

from napari_esrgan._viewer import layers
from napari_esrgan._window.model_combo import ModelCombo
from napari_esrgan._window.plain import guard_wheel
from napari_esrgan._window.source_form import SourceForm
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.pixel_size import (
    LEAST_SCALE,
    MOST_SCALE,
    PixelSize,
    parse_pixel_size,
    scale_for,
)


class ScaleField(QWidget):
    """A factor and a pixel size side by side, of which the later choice counts.

    Parameters
    ----------
    source : SourceForm
        The layer and its axes, which a pixel size needs.
    model_combo : ModelCombo
        The model, whose own scale is taken until another one is typed.

    Attributes
    ----------
    scale_spin : QDoubleSpinBox
        Output pixels per input pixel, along each side.
    size_line : QLineEdit
        Pixel size of the result with its unit; empty where the factor counts.

    Signals
    -------
    changed()
        Another factor or pixel size was typed.
    """

    changed = Signal()

    def __init__(self, source: SourceForm, model_combo: ModelCombo) -> None:
        super().__init__()
        self._source, self._model_combo = source, model_combo
        self._scale_is_models = True
        self.scale_spin = QDoubleSpinBox()
        guard_wheel(self.scale_spin)
        self.scale_spin.setRange(LEAST_SCALE, MOST_SCALE)
        self.scale_spin.setSingleStep(0.5)
        self.scale_spin.setValue(4)
        self.scale_spin.setPrefix("x ")
        self.scale_spin.setToolTip("Output pixels per input pixel, along each side")
        self.size_line = QLineEdit()
        self.size_line.setToolTip(
            'Pixel size of the result, as "0.1 um" or "100 nm": sets the scale,\n'
            "for other layers and for files too. Empty: the scale on the left counts."
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.scale_spin, 1)
        row.addWidget(self.size_line, 1)
        self.scale_spin.valueChanged.connect(self._on_scale)
        self.size_line.textChanged.connect(self._on_size)

    @property
    def outscale(self) -> float | None:
        """The scale that was typed; None for the model's own."""
        return None if self._scale_is_models else self.scale_spin.value()

    @property
    def pixel_size(self) -> PixelSize | None:
        """The size of the result's pixels where that was typed.

        Raises
        ------
        OptionError
        """
        text = self.size_line.text().strip()
        if not text:
            return None
        layer, axes = self._source.layer, self._source.axes_editor.axes
        unit = "pixel" if layer is None or axes is None else str(layer.units[axes.x])
        return parse_pixel_size(text, unit)

    def asked(self) -> float | None:
        """A request's scale for the chosen layer: None for the model's own."""
        return self._to_ask(self._of_chosen())

    def asked_of(self, layer: Any, axes: Axes) -> float | None:
        """The same for another layer."""
        return self._to_ask(self._of_size(layer, axes))

    def refresh(self) -> None:
        """Show the factor that a pixel size comes to; without one, the pixel size of the factor."""
        try:
            scale = self._of_chosen()
        except ValueError:
            return  # the estimate says why
        self.scale_spin.blockSignals(True)
        if scale is not None:
            self.scale_spin.setValue(scale)
        elif self._scale_is_models:
            info = self._model_combo.info
            self.scale_spin.setValue(4 if info is None else info.scale)
        self.scale_spin.blockSignals(False)
        layer, axes = self._source.layer, self._source.axes_editor.axes
        hint = "or a pixel size"
        if layer is not None and axes is not None:
            (_, side), (_, unit) = layers.pixel_sides(layer, axes)
            if unit != "pixel":
                hint = f"{PixelSize(side / self.scale_spin.value(), unit)}"
        self.size_line.setPlaceholderText(hint)

    def _of_chosen(self) -> float | None:
        """The scale that gives the chosen layer pixels of the size typed, if one was."""
        layer, axes = self._source.layer, self._source.axes_editor.axes
        return None if layer is None or axes is None else self._of_size(layer, axes)

    def _of_size(self, layer: Any, axes: Axes) -> float | None:
        wanted = self.pixel_size
        return None if wanted is None else scale_for(wanted, *layers.pixel_sides(layer, axes))

    def _to_ask(self, of_size: float | None) -> float | None:
        """The model's own scale is asked for as None."""
        if of_size is None:
            return self.outscale
        info = self._model_combo.info
        return None if info is not None and of_size == info.scale else of_size

    def _on_size(self, _text: str) -> None:
        self.refresh()
        self.changed.emit()

    def _on_scale(self, value: float) -> None:
        self.size_line.blockSignals(True)
        self.size_line.clear()  # the later choice counts
        self.size_line.blockSignals(False)
        info = self._model_combo.info
        self._scale_is_models = value == (4 if info is None else info.scale)
        self.refresh()
        self.changed.emit()
