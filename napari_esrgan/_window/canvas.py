"""A viewer's canvas, and layers of which it shows a part.

The only place that reaches below napari's public surface: the canvas has no public name, and
clipping planes cut images in 3D only. Where another napari has another canvas, `find_canvas` says
that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtWidgets import QWidget


class Canvas:
    """Where a viewer draws its layers."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def widget(self) -> QWidget:
        return self._inner.native

    def redraw(self) -> None:
        self._inner._scene_canvas.update()

    def visual(self, layer: Any) -> Any | None:
        """The visual that draws a layer; None where it is not in the viewer."""
        unique_id = str(layer.unique_id)
        found = self._inner.layer_to_visual.items()
        return next((visual for key, visual in found if str(key.unique_id) == unique_id), None)


def find_canvas(viewer: Any) -> Canvas | None:
    """The canvas of a viewer; None where it has no window, or none that is known here."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # widgets get a proxy
    inner = getattr(getattr(getattr(viewer, "window", None), "_qt_viewer", None), "canvas", None)
    known = all(hasattr(inner, name) for name in ("native", "layer_to_visual", "_scene_canvas"))
    return Canvas(inner) if known else None


class Clip:
    """Shows an image layer in a part of the canvas only.

    Parameters
    ----------
    canvas : Canvas
    layer : napari Image layer
        In the viewer of that canvas, shown in 2D.
    """

    def __init__(self, canvas: Canvas, layer: Any) -> None:
        from vispy.visuals.filters import Clipper

        self._canvas, self._layer = canvas, layer
        self._make = Clipper
        self._attached: list[tuple[Any, Any]] = []
        self._part = (0.0, 1.0)

    def show(self, left: float, right: float) -> None:
        """Show the part between two places, as fractions of the canvas's width.

        Nothing is shown where they are the same.
        """
        self._part = left, right
        self.refresh()

    def refresh(self) -> None:
        """Follow the canvas's size, and the parts that a large layer is drawn in."""
        widget = self._canvas.widget
        ratio = widget.devicePixelRatioF()
        width, height = widget.width() * ratio, widget.height() * ratio
        left, right = (part * width for part in self._part)
        # Of pixels the centres count: at the edge itself one of two neighbours has it.
        bounds = (left, -1.0, right - left, height + 2) if right > left else (-2.0, -2.0, 0.5, 0.5)
        known = {id(visual) for visual, _ in self._attached}
        for visual in self._visuals():
            if id(visual) not in known:
                clipper = self._make()
                visual.attach(clipper)
                self._attached.append((visual, clipper))
        for _, clipper in self._attached:
            clipper.bounds = bounds
        self._canvas.redraw()

    def remove(self) -> None:
        """Show the layer everywhere again."""
        for visual, clipper in self._attached:
            visual.detach(clipper)
        self._attached.clear()
        self._canvas.redraw()

    def _visuals(self) -> Iterator[Any]:
        drawn = self._canvas.visual(self._layer)
        if drawn is None:
            return
        node = drawn.node
        # Larger than a texture, an image is drawn in tiles.
        yield from getattr(node, "adopted_children", None) or [node]
