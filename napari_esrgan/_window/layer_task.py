"""Computes something about a layer in a thread and adds it as another layer.

For what needs no bar and no filling in: consistency and live layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_esrgan._viewer import layers, notices
from napari_esrgan._window.layer_adder import LayerAdder
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work.messages import Cancelled, Report


@dataclass(frozen=True)
class NewLayer:
    """A layer to be added.

    Attributes
    ----------
    levels : array or list of arrays
    arguments : dict
        Arguments of `napari.layers.Image`, or of `Labels`.
    note : str
        Told when the layer is there; may be empty.
    labels : bool
        A Labels layer instead of an image.
    """

    levels: Any
    arguments: dict[str, Any]
    note: str = ""
    labels: bool = False


class LayerTask(QObject):
    """One computation at a time.

    Signals
    -------
    ended()
        Whatever came of it.
    """

    ended = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._runner = ThreadRunner(self)
        self._runner.finished.connect(self._on_finished)
        self._runner.failed.connect(self._on_failed)
        self._runner.cancelled.connect(self._end)
        self._adder = LayerAdder(viewer, self)
        self._adder.added.connect(self._on_added)
        self._source: Any = None
        self._build: Callable[[Any], NewLayer] | None = None
        self._note = ""

    @property
    def running(self) -> bool:
        return self._source is not None

    def start(
        self,
        source: Any,
        work: Callable[[Report, Cancelled], Any],
        build: Callable[[Any], NewLayer],
        name: str,
    ) -> None:
        """Call `work` in a thread, then `build` with its result in the window's.

        Parameters
        ----------
        source : napari layer
            Must still be in the viewer then.
        work, build : callable
        name : str
            The thread's.
        """
        if self.running:
            return
        self._source, self._build = source, build
        self._runner.start(work, name)

    def cancel(self) -> None:
        self._runner.cancel()

    def _on_finished(self, outcome: Any) -> None:
        source, build = self._source, self._build
        assert build is not None
        if layers.find_layer(self._viewer, str(source.unique_id)) is None:
            notices.show_warning(f"{source.name!r} was removed meanwhile")
            self._end()
            return
        new = build(outcome)
        self._note = new.note
        self._adder.add(new.levels, new.arguments, labels=new.labels)

    def _on_added(self, _layer: Any) -> None:
        if self._note:
            notices.show_info(self._note)
        self._end()

    def _on_failed(self, error: BaseException) -> None:
        notices.show_error(notices.explain(error))
        self._end()

    def _end(self) -> None:
        self._source = self._build = None
        self.ended.emit()
