"""A split canvas: a source on the left of a line, its result on the right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QWidget

from napari_esrgan._viewer import layers, notices
from napari_esrgan._window.canvas import Canvas, Clip, find_canvas

#: Held, it shows the source alone.
KEY = "H"

_LINE, _GRIP = 2, 15  # pixels: what is drawn, and what can be taken hold of
_STEP, _LARGE_STEP = 0.01, 0.1  # of the canvas, a key


class SwipeLine(QWidget):
    """The line over a canvas; dragged, or moved by the arrow keys when it has the focus.

    Signals
    -------
    moved(float)
        To this fraction of the canvas's width.
    held(bool)
        Whether the source shall be shown alone.
    closed()
        Escape was pressed.
    """

    moved = Signal(float)
    held = Signal(bool)
    closed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setCursor(Qt.CursorShape.SplitHCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Swipe between source and result")
        self.setToolTip(
            "Source on the left, result on the right.\nDrag, or Left and Right; with Shift in "
            f"larger steps, Home and End to the edges.\nHold {KEY} for the source; Escape ends."
        )

    def place(self, fraction: float) -> None:
        """Move to a fraction of the parent's width."""
        parent = self.parentWidget()
        assert parent is not None
        left = round(fraction * parent.width() - _GRIP / 2)
        self.setGeometry(left, 0, _GRIP, parent.height())

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        left = (self.width() - _LINE) // 2
        focused = self.hasFocus()
        # White between black is seen on every image.
        painter.fillRect(left - 1, 0, _LINE + 2, self.height(), QColor(0, 0, 0, 160))
        painter.fillRect(left, 0, _LINE, self.height(), QColor("#ffb000" if focused else "white"))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(QColor("#ffb000" if focused else "white"))
        painter.setPen(QColor(0, 0, 0, 160))
        middle = self.height() // 2
        painter.drawRoundedRect(2, middle - 16, self.width() - 5, 32, 5, 5)

    def mousePressEvent(self, event: Any) -> None:
        event.accept()

    def mouseReleaseEvent(self, event: Any) -> None:
        event.accept()

    def mouseMoveEvent(self, event: Any) -> None:
        parent = self.parentWidget()
        assert parent is not None
        x = self.mapTo(parent, event.position().toPoint()).x()
        self.moved.emit(min(max(x / max(parent.width(), 1), 0.0), 1.0))

    def keyPressEvent(self, event: Any) -> None:
        step = _LARGE_STEP if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else _STEP
        parent = self.parentWidget()
        assert parent is not None
        here = (self.x() + self.width() / 2) / max(parent.width(), 1)
        places = {
            Qt.Key.Key_Left: here - step,
            Qt.Key.Key_Right: here + step,
            Qt.Key.Key_Home: 0.0,
            Qt.Key.Key_End: 1.0,
        }
        if event.key() in places:
            self.moved.emit(min(max(places[event.key()], 0.0), 1.0))
        elif event.key() == Qt.Key.Key_Escape:
            self.closed.emit()
        elif event.key() == Qt.Key.Key_H:
            if not event.isAutoRepeat():
                self.held.emit(True)
        else:
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: Any) -> None:
        if event.key() == Qt.Key.Key_H:
            if not event.isAutoRepeat():
                self.held.emit(False)
        else:
            super().keyReleaseEvent(event)

    def focusInEvent(self, event: Any) -> None:
        self.update()
        super().focusInEvent(event)

    def focusOutEvent(self, event: Any) -> None:
        self.held.emit(False)  # its release would go elsewhere
        self.update()
        super().focusOutEvent(event)


class Swipe(QObject):
    """Splits a viewer's canvas between a result and its source, until it is stopped.

    It ends by itself where one of the two is removed, or the view turns to 3D or to the grid.

    Parameters
    ----------
    viewer : napari viewer
    parent : QObject or None

    Signals
    -------
    active_changed(bool)
        It has begun or ended.
    """

    active_changed = Signal(bool)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._canvas: Canvas | None = None
        self._source: Any = None
        self._result: Any = None
        self._clips: tuple[Clip, Clip] | None = None
        self._visible: list[tuple[Any, bool]] = []
        self._key_before: Any = None
        self.fraction, self._held = 0.5, False
        self.line: SwipeLine | None = None
        # Once a turn of the event loop: a drag brings more moves than there are frames.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._apply)

    @property
    def active(self) -> bool:
        return self._clips is not None

    def start(self, result: Any) -> bool:
        """Split the canvas for a result of the plugin; says why it cannot.

        Parameters
        ----------
        result : napari Image layer

        Returns
        -------
        bool
            Whether it is split.
        """
        if self.active:
            self.stop()
        made = layers.provenance(result)
        source = None if made is None else layers.find_layer(self._viewer, made.get("source_id"))
        canvas = find_canvas(self._viewer)
        reason = ""
        if made is None:
            reason = "select a layer that this plugin has upscaled"
        elif source is None:
            reason = f"the source {made['source']!r} is not in the viewer any more"
        elif self._viewer.dims.ndisplay != 2 or self._viewer.grid.enabled:
            reason = "the canvas is split in 2D and without the grid only"
        elif canvas is None:
            reason = "this napari has no canvas that can be split"
        if reason:
            notices.show_error(reason)
            return False
        assert canvas is not None
        assert source is not None
        self._canvas, self._source, self._result = canvas, source, result
        self._visible = [(layer, layer.visible) for layer in (source, result)]
        for layer in (source, result):
            layer.visible = True
            layer.events.set_data.connect(self._later)
        self._clips = Clip(canvas, source), Clip(canvas, result)
        self.line = line = SwipeLine(canvas.widget)
        line.moved.connect(self.move)
        line.held.connect(self.hold)
        line.closed.connect(self.stop)
        canvas.widget.installEventFilter(self)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._viewer.dims.events.ndisplay.connect(self._on_view)
        self._viewer.grid.events.enabled.connect(self._on_view)
        self._key_before = self._viewer.bind_key(KEY, None)
        self._viewer.bind_key(KEY, self._on_key)
        self._apply()
        line.show()
        line.raise_()
        line.setFocus()
        self.active_changed.emit(True)
        return True

    def stop(self) -> None:
        """Show both layers whole again, as visible as they were."""
        if self._clips is None:
            return
        canvas, line = self._canvas, self.line
        assert canvas is not None
        assert line is not None
        for clip in self._clips:
            clip.remove()
        self._clips = None
        self._timer.stop()
        canvas.widget.removeEventFilter(self)
        line.blockSignals(True)
        line.hide()
        line.deleteLater()
        self.line = None
        for layer, visible in self._visible:
            layer.events.set_data.disconnect(self._later)
            layer.visible = visible
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.ndisplay.disconnect(self._on_view)
        self._viewer.grid.events.enabled.disconnect(self._on_view)
        self._viewer.bind_key(KEY, self._key_before, overwrite=True)
        self._canvas = self._source = self._result = self._key_before = None
        self._visible, self._held = [], False
        self.active_changed.emit(False)

    def move(self, fraction: float) -> None:
        """Put the line at a fraction of the canvas's width."""
        self.fraction = fraction
        self._later()

    def hold(self, held: bool) -> None:
        """Show the source alone, or both again."""
        if held != self._held:
            self._held = held
            self._later()

    def eventFilter(self, watched: QObject | None, event: Any) -> bool:
        if event.type() == QEvent.Type.Resize:
            self._later()
        return False

    def _on_key(self, _viewer: Any) -> Iterator[None]:
        """On the canvas: napari calls it with the press, and goes on with the release."""
        self.hold(True)
        yield
        self.hold(False)

    def _on_removed(self, event: Any) -> None:
        gone = str(event.value.unique_id)
        if gone in (str(self._source.unique_id), str(self._result.unique_id)):
            self.stop()

    def _on_view(self, _event: Any = None) -> None:
        if self._viewer.dims.ndisplay != 2 or self._viewer.grid.enabled:
            self.stop()

    def _later(self, _event: Any = None) -> None:
        if self.active and not self._timer.isActive():
            self._timer.start(0)

    def _apply(self) -> None:
        if self._clips is None or self.line is None:
            return
        source, result = self._clips
        edge = 1.0 if self._held else self.fraction
        source.show(0.0, edge)
        result.show(edge, 1.0)
        self.line.place(self.fraction)
