"""How much noise a model takes away, where it comes in two forms."""

from __future__ import annotations

from qtpy.QtCore import QObject, Qt, Signal
from superqt import QLabeledDoubleSlider

from esrgan_ext.weights.catalogue import FOLLOWS_NOISE
from napari_esrgan._window.model_combo import ModelCombo
from napari_esrgan._window.plain import label
from napari_esrgan._work.estimate import Estimate
from napari_esrgan._work.request import Mix


class DenoiseField(QObject):
    """A slider between a model's two forms, which follows the noise of the layer until it is moved.

    Parameters
    ----------
    model_combo : ModelCombo
    parent : QObject

    Attributes
    ----------
    label : QLabel
    slider : QLabeledDoubleSlider
        The strength, from 0 to 1.
    strength : float or None
        None where the layer's noise is still to be looked at.
    by_channel : tuple of float
        Strengths, where the channels ask for different ones; `strength` is the largest then.
    own : bool
        Whether the strength is the user's.

    Signals
    -------
    moved()
        The user chose a strength.
    """

    moved = Signal()

    def __init__(self, model_combo: ModelCombo, parent: QObject) -> None:
        super().__init__(parent)
        self._model_combo = model_combo
        self._shown_for = ""
        self.own = False
        self.strength: float | None = None
        self.by_channel: tuple[float, ...] = ()
        self.label = label("Denoise")
        self.slider = QLabeledDoubleSlider()
        self.slider.setOrientation(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 1)
        self.slider.setDecimals(2)
        self.slider.setSingleStep(0.05)  # type: ignore[arg-type]  # a proxy for floats
        self.slider.setToolTip(
            "How much noise to take away: mixes the model's two forms.\n"
            "Follows the noise of the layer until you move it."
        )
        self.slider.valueChanged.connect(self._on_slider)

    @property
    def pair(self) -> tuple[str, str] | None:
        """Names of the model's two forms; None where it has one."""
        info = self._model_combo.info
        return None if info is None else info.denoise

    def refresh(self) -> None:
        """Another model may have been chosen: show or hide, and begin anew."""
        key, pair = self._model_combo.key, self.pair
        if key != self._shown_for:
            self._set_by_channel(())
            if pair is not None:
                self.own = key not in FOLLOWS_NOISE
                self.strength = float(key == pair[1])
                self._show(self.strength)
                self.forget()
        self._shown_for = key
        for part in (self.slider, self.label):
            part.setVisible(pair is not None)

    def forget(self) -> None:
        """Another layer, range or model: its noise is looked at anew, unless the user chose."""
        if not self.own:
            self.strength = None
            self._set_by_channel(())

    def take(self, found: Estimate) -> None:
        """Show the strength, or strengths, that an estimate found in the layer's noise."""
        assert self.pair is not None
        self._set_by_channel(found.strengths)
        if found.strengths:
            self.strength = max(found.strengths)
        else:
            model = found.model
            alpha = model.alpha if isinstance(model, Mix) else float(model == self.pair[1])
            self.strength = alpha
            self.label.setText("Denoise, auto")
        self._show(self.strength)

    def _set_by_channel(self, strengths: tuple[float, ...]) -> None:
        self.by_channel = strengths
        told = ", ".join(f"{strength:.2f}" for strength in strengths)
        self.label.setText("Denoise by channel" if strengths else "Denoise")
        self.label.setToolTip(f"As the noise of each channel asks for: {told}" if strengths else "")

    def _show(self, strength: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(strength)
        self.slider.blockSignals(False)

    def _on_slider(self, strength: float) -> None:
        self.own, self.strength = True, round(float(strength), 4)
        self._set_by_channel(())
        self.moved.emit()
