"""Layers into a viewer, without holding its window for long.

napari adds a layer in one go: model, visuals, controls, selection and first drawing take 0.1 to
0.2 s with software rendering, whatever the size of the layer. Here a layer is added hidden and
unselected, then selected, then shown, each in a turn of the event loop of its own, so that the
window answers in between. It counts as added when there was time to draw it: a layer that goes
before it was drawn crashes software renderers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_esrgan._viewer.layers import find_layer

# A frame of a software renderer, with new shaders.
DRAWING_MILLISECONDS = 100


@dataclass(frozen=True)
class Selected:
    """The layers that are selected and the active one, by their `unique_id`."""

    layers: frozenset[str]
    active: str | None


class LayerAdder(QObject):
    """Adds one layer at a time to a viewer.

    Signals
    -------
    added(object)
        The layer, when it is shown.
    """

    added = Signal(object)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._steps: deque[Callable[[], None]] = deque()
        self._layer: Any = None
        self._before: Selected | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._step)

    @property
    def busy(self) -> bool:
        return self._layer is not None

    def add(
        self, levels: Any, arguments: dict[str, Any], select: bool = True, labels: bool = False
    ) -> None:
        """Begin; `added` follows.

        Parameters
        ----------
        levels : array or list of arrays
            A list is a pyramid, from fine to coarse.
        arguments : dict
            Arguments of `napari.layers.Image`, or of `Labels`.
        select : bool
            Whether the layer becomes the active one, as new layers do.
        labels : bool
            A Labels layer instead of an image.

        Raises
        ------
        RuntimeError
            If the last one is not added yet.
        """
        from napari.layers import Image, Labels

        if self.busy:
            raise RuntimeError("a layer is being added")
        multiscale = isinstance(levels, list)
        kind = Labels if labels else Image
        self._layer = kind(levels, multiscale=multiscale, visible=False, **arguments)
        self._steps.append(self._insert)
        if select:
            self._steps.append(self._select)
        self._steps.append(self._show)
        self._steps.append(self._drawn)
        self._timer.start(0)

    def abort(self) -> Any | None:
        """Stop adding. Returns the layer where it is in the viewer already."""
        layer = self._layer if self._layer is not None and self._in_viewer() else None
        self._layer = None
        self._steps.clear()
        self._timer.stop()
        return layer

    def _step(self) -> None:
        self._steps.popleft()()
        if not self._steps and self._layer is not None:
            self._timer.stop()
            layer, self._layer = self._layer, None
            self.added.emit(layer)

    def _insert(self) -> None:
        """Append the layer and leave the selection as it is; nobody hears of the change back."""
        self._before = before = selected(self._viewer)
        with self._viewer.layers.selection.events.blocker_all():
            self._viewer.layers.append(self._layer)
            select(self._viewer, before)

    def _select(self) -> None:
        if self._in_viewer() and selected(self._viewer) == self._before:  # not the user's own
            self._viewer.layers.selection.active = self._layer

    def _show(self) -> None:
        if self._in_viewer():
            self._layer.visible = True
        self._timer.start(DRAWING_MILLISECONDS)

    def _drawn(self) -> None:
        """Nothing is left to do."""

    def _in_viewer(self) -> bool:
        """The user may have removed it between two steps."""
        return find_layer(self._viewer, str(self._layer.unique_id)) is not None


def selected(viewer: Any) -> Selected:
    """The layers that are selected now."""
    selection = viewer.layers.selection
    active = selection.active
    return Selected(
        frozenset(str(layer.unique_id) for layer in selection),
        None if active is None else str(active.unique_id),
    )


def select(viewer: Any, wanted: Selected) -> None:
    """Make this the selection; layers that are gone are left out."""
    selection = viewer.layers.selection
    active = find_layer(viewer, wanted.active)
    if active is not None and len(wanted.layers) == 1:
        selection.active = active
        return
    selection.clear()
    for layer in viewer.layers:
        if str(layer.unique_id) in wanted.layers:
            selection.add(layer)
