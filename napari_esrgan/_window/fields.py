"""The parts of the forms: choosing a layer, axes, a value range.

Each holds one choice and says when it changed; none knows what the choice is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_esrgan._viewer.layers import METADATA_KEY, find_layer
from napari_esrgan._viewer.notices import warning_colour
from napari_esrgan._window.plain import guard_wheel, label, shrinkable
from napari_esrgan._work.axes import ROLES, Axes, axis_name
from napari_esrgan._work.ranges import RANGE_LABELS, RangeChoice, RangeKind


class LayerCombo(QComboBox):
    """The layers of a kind that a viewer has, kept up to date.

    Parameters
    ----------
    viewer : napari viewer or ViewerModel
    accepts : callable
        Says of a layer whether it belongs here.
    """

    layer_changed = Signal()

    def __init__(self, viewer: Any, accepts: Callable[[Any], bool]) -> None:
        super().__init__()
        shrinkable(self)
        self._viewer, self._accepts = viewer, accepts
        self._ids: list[str] = []
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._refill)
        events.inserted.connect(self._watch_name)
        for layer in viewer.layers:
            layer.events.name.connect(self._refill)
        viewer.layers.selection.events.active.connect(self._follow_active)
        self.currentIndexChanged.connect(lambda _: self.layer_changed.emit())
        self._refill()
        self._follow_active()

    @property
    def layer(self) -> Any | None:
        """The chosen layer, None where there is none."""
        index = self.currentIndex()
        if not 0 <= index < len(self._ids):
            return None
        return find_layer(self._viewer, self._ids[index])

    def choose(self, layer: Any) -> None:
        if (unique_id := str(layer.unique_id)) in self._ids:
            self.setCurrentIndex(self._ids.index(unique_id))

    def disconnect_viewer(self) -> None:
        """Stop listening; the viewer outlives its docks."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self._refill)
        events.inserted.disconnect(self._watch_name)
        self._viewer.layers.selection.events.active.disconnect(self._follow_active)
        for layer in self._viewer.layers:
            layer.events.name.disconnect(self._refill)

    def _watch_name(self, event: Any) -> None:
        event.value.events.name.connect(self._refill)

    def _refill(self, event: Any = None) -> None:
        index = self.currentIndex()
        before = self._ids[index] if 0 <= index < len(self._ids) else None
        layers = [layer for layer in self._viewer.layers if self._accepts(layer)]
        self._ids = [str(layer.unique_id) for layer in layers]
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in layers])
        if before in self._ids:
            self.setCurrentIndex(self._ids.index(before))
        self.blockSignals(False)
        index = self.currentIndex()
        if (self._ids[index] if 0 <= index < len(self._ids) else None) != before:
            self.layer_changed.emit()

    def _follow_active(self, event: Any = None) -> None:
        """The layer that the user clicks on; not a result of ours, which is no likely source."""
        active = self._viewer.layers.selection.active
        if active is None or not self._accepts(active):
            return
        if self.currentIndex() < 0 or METADATA_KEY not in active.metadata:
            self.choose(active)


_ROLE_LABELS = {"y": "Y", "x": "X", "channel": "channels", "plane": "planes"}


class AxesEditor(QWidget):
    """Roles of a layer's axes: one small combo box each."""

    axes_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._combos: list[QComboBox] = []
        self._names: list[str] = []
        self._rgb = False

    def set_axes(
        self,
        axes: Axes,
        shape: Sequence[int],
        labels: Sequence[str],
        doubtful: int | None = None,
    ) -> None:
        """Show these axes.

        Parameters
        ----------
        axes : Axes
        shape, labels : sequence
            The layer's.
        doubtful : int or None
            The axis whose role is asked for instead: there are no axes until that is answered.
        """
        while (item := self._grid.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.hide()
                old.deleteLater()
        self._combos, self._names, self._rgb = [], [], axes.rgb
        for number, (role, length) in enumerate(zip(axes.roles, shape, strict=True)):
            combo = QComboBox()
            guard_wheel(combo)
            combo.addItems([_ROLE_LABELS[r] for r in ROLES])
            combo.setCurrentIndex(ROLES.index(role))
            if number == doubtful:
                combo.setPlaceholderText("channels or planes?")
                combo.setToolTip(
                    "Channels have each a value range of its own; planes (time, depth) share one"
                )
                combo.setStyleSheet(f"color: {warning_colour()}")
                combo.setCurrentIndex(-1)
            combo.currentIndexChanged.connect(self._on_combo)
            called = axis_name(number, role, labels[number])
            self._names.append(f"{called} ({length})")
            name = label(f"{called}: {length}")
            name.setToolTip(f"Axis {number} of the layer, {length} long")
            self._grid.addWidget(name, number, 0)
            self._grid.addWidget(combo, number, 1)
            self._combos.append(combo)
        if axes.rgb:
            self._grid.addWidget(label("colours: RGB, together"), len(shape), 0, 1, 2)

    @property
    def axes(self) -> Axes | None:
        """None where the choices contradict each other, or one is open."""
        if self.question:
            return None
        try:
            return Axes(tuple(ROLES[combo.currentIndex()] for combo in self._combos), self._rgb)
        except ValueError:
            return None

    @property
    def question(self) -> str:
        """The question, where a choice is open."""
        for combo, name in zip(self._combos, self._names, strict=True):
            if combo.currentIndex() < 0:
                return f"say under Axes whether {name} is channels or planes"
        return ""

    def _on_combo(self, _: int) -> None:
        """Keep one Y, one X and at most one channel axis: swap with whoever had the role."""
        sender = self.sender()
        numbers = [combo.currentIndex() for combo in self._combos]
        roles = [None if number < 0 else ROLES[number] for number in numbers]
        if sender in self._combos:
            here = self._combos.index(sender)
            sender.setStyleSheet("")  # no question any more
            missing = [role for role in ("y", "x") if role not in roles]
            for other, combo in enumerate(self._combos):
                if other != here and roles[other] == roles[here] != "plane":
                    combo.blockSignals(True)
                    combo.setCurrentIndex(ROLES.index(missing[0] if missing else "plane"))
                    combo.blockSignals(False)
        self.axes_changed.emit()


class RangeEditor(QWidget):
    """Which values are black and white for the network."""

    range_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.combo = shrinkable(QComboBox())
        for kind, words in RANGE_LABELS.items():
            self.combo.addItem(words, kind)
        self.combo.setToolTip(
            "The values that are black and white for the network; the result is mapped back.\n"
            "Min to max: of each channel, over the whole layer, one range for all planes."
        )
        self.low, self.high = QLineEdit("0"), QLineEdit("1")
        self._own = QWidget()
        row = QHBoxLayout(self._own)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.low)
        row.addWidget(label("to"))
        row.addWidget(self.high)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self._own)
        self._own.setVisible(False)
        self.combo.currentIndexChanged.connect(self._on_change)
        self.low.editingFinished.connect(self.range_changed)
        self.high.editingFinished.connect(self.range_changed)

    @property
    def kind(self) -> RangeKind:
        return self.combo.currentData()

    def set_kind(self, kind: RangeKind) -> None:
        self.combo.setCurrentIndex(self.combo.findData(kind))

    def choice(self, limits: tuple[float, float]) -> RangeChoice:
        """The range chosen, `limits` being the layer's contrast limits.

        Raises
        ------
        ValueError
            If the own range is not two numbers, the first the smaller.
        """
        if self.kind == "limits":
            return RangeChoice("limits", limits)
        if self.kind == "own":
            try:
                low, high = float(self.low.text()), float(self.high.text())
            except ValueError:
                raise ValueError("the value range needs two numbers") from None
            if not low < high:
                raise ValueError("the value range must go from the smaller to the larger number")
            return RangeChoice("own", (low, high))
        return RangeChoice(self.kind)

    def _on_change(self, _: int) -> None:
        self._own.setVisible(self.kind == "own")
        self.range_changed.emit()
