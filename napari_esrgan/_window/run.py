"""One upscaling run in a viewer: starts the job, shows the result, undoes what a cancel undoes.

Used by the widgets and by the menu commands alike. Lives on the GUI thread; every slot is short.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_esrgan._viewer import layers, notices
from napari_esrgan._window.layer_adder import LayerAdder, Selected, select, selected
from napari_esrgan._window.thread import Runner
from napari_esrgan._work.garbage import set_old_objects_aside, take_old_objects_back
from napari_esrgan._work.messages import Appear, Outcome, Progress
from napari_esrgan._work.request import UpscaleRequest
from napari_esrgan._work.result import MULTISCALE_SIDE, Result
from napari_esrgan._work.upscale import run_upscale

# A refresh of a large layer costs 100 ms and more.
REFRESH_SECONDS, LARGE_REFRESH_SECONDS = 0.2, 1.0

_RESULT_REMOVED = "the growing result was removed; its upscaling was stopped"

Job = Callable[[UpscaleRequest, Callable[[Any], None], Callable[[], bool]], Outcome]


@dataclass(frozen=True)
class _Before:
    """What a cancel puts back."""

    selection: Selected
    point: tuple[float, ...]


class UpscaleController(QObject):
    """Runs upscaling jobs, one at a time.

    Parameters
    ----------
    viewer : napari viewer or ViewerModel
    parent : QObject or None

    Signals
    -------
    reported(object)
        `Status` or `Progress`.
    ended(str)
        The run is over: 'finished', 'cancelled' or 'failed'; ready for the next.
    """

    reported = Signal(object)
    ended = Signal(str)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._runner = Runner(self)
        self._runner.reported.connect(self._on_report)
        self._runner.finished.connect(self._on_finished)
        self._runner.failed.connect(self._on_failed)
        self._runner.cancelled.connect(self._on_cancelled)
        self._adder = LayerAdder(viewer, self)
        self._adder.added.connect(self._on_added)
        self._appear: Appear | None = None  # waits for the layer to be shown
        self._outcome: Outcome | None = None  # likewise
        self._then: Callable[[], None] | None = None  # to be done when it is shown
        self._source: Any = None
        self._request: UpscaleRequest | None = None
        self._arguments: dict[str, Any] = {}
        self._before: _Before | None = None
        self._layer: Any = None  # the result's, once it is shown
        self._result: Result | None = None
        self._removing = False
        self._reason = ""
        self._model_name = ""
        self._refreshed = 0.0
        self._pieces = 0
        self._steps: int | None = None
        self._point_shown: tuple[float, ...] = ()
        self.last_layer_id: str | None = None

    @property
    def running(self) -> bool:
        return self._runner.running or self._adder.busy

    @property
    def cancelling(self) -> bool:
        return self._runner.cancelling or self._then is not None

    def start(
        self,
        layer: Any,
        request: UpscaleRequest,
        model_name: str,
        job: Job = run_upscale,
        steps: int | None = None,
    ) -> None:
        """Begin a run on a layer.

        Parameters
        ----------
        layer : napari Image layer
            In the viewer; the run ends if it is removed or gets other data.
        request : UpscaleRequest
        model_name : str
            For the result's name.
        job : callable
            What runs in the thread.
        steps : int or None
            The result has a further first axis of so many alphas from 0 to 1.

        Raises
        ------
        RuntimeError
            If a run is under way.
        """
        if self.running:
            raise RuntimeError("a run is under way")
        self._source, self._request, self._model_name = layer, request, model_name
        self._arguments = layers.appearance(layer)
        self._before = _Before(selected(self._viewer), tuple(self._viewer.dims.point))
        self._layer = self._result = None
        self._reason = ""
        self._pieces = 0
        self._steps = steps
        set_old_objects_aside()
        self._viewer.layers.events.removed.connect(self._on_layer_removed)
        layer.events.data.connect(self._on_source_changed)

        def function(report: Callable[[Any], None], cancelled: Callable[[], bool]) -> Outcome:
            return job(request, report, cancelled)

        self._runner.start(function, name="esrgan-upscale")

    def cancel(self) -> None:
        """Stop; `ended` follows, at the latest when the step under way is done."""
        if self._outcome is not None:  # the work is over, its result not yet shown
            self._outcome, self._then = None, self._on_cancelled
        else:
            self._runner.cancel()

    def leave(self) -> None:
        """Stop at once: nobody waits for an end, and this object may be gone by then."""
        if self._adder.busy:
            self._undo()
        self._outcome = self._then = None
        take_old_objects_back()
        self._runner.cancel()

    def _on_report(self, message: Any) -> None:
        if isinstance(message, Appear):
            if not self.cancelling:
                self._appear = message
                self._show(message.result)
            return
        if isinstance(message, Progress) and message.pieces > self._pieces:
            self._refresh(message.pieces)
        self.reported.emit(message)

    def _on_added(self, layer: Any) -> None:
        if layers.find_layer(self._viewer, str(layer.unique_id)) is not None:
            self._layer = layer
        elif self._then is None:
            self._reason = _RESULT_REMOVED
            if self._outcome is None:
                self._runner.cancel()
            else:
                self._then = self._on_cancelled
        self._point_shown = tuple(self._viewer.dims.point)
        self._refreshed = time.monotonic()
        if self._appear is not None:
            self._appear.shown.set()
            self._appear = None
        then, self._then = self._then, None
        outcome, self._outcome = self._outcome, None
        if then is not None:
            then()
        elif outcome is not None:
            self._complete(outcome)

    def _show(self, result: Result) -> None:
        request, source = self._request, self._source
        assert request is not None
        self._result = result
        plane = request.shown if request.only_shown else None
        shape = result.shape if self._steps is None else result.shape[1:]
        place = layers.placement(source, request.axes, request.region, shape, plane)
        if self._steps is not None:
            place = layers.with_alpha(place, self._steps)
        arguments = {
            **self._arguments,
            **place,
            "metadata": {layers.METADATA_KEY: {"source": source.name}},
            "name": layers.result_name(
                source.name, shape, request.region, request.axes, self._model_name
            ),
        }
        self._adder.add(result.levels, arguments)

    def _refresh(self, pieces: int) -> None:
        """Show new pieces, but not more often than the window can bear."""
        if self._layer is None or self._result is None or self._request is None:
            return
        axes, shape = self._request.axes, self._result.shape
        large = max(shape[axes.y], shape[axes.x]) > MULTISCALE_SIDE
        pause = LARGE_REFRESH_SECONDS if large else REFRESH_SECONDS
        if time.monotonic() - self._refreshed >= pause:
            self._pieces = pieces
            # No thumbnail and no extent: the one costs, the other has not changed.
            self._layer.refresh(thumbnail=False, highlight=False, extent=False)
            self._refreshed = time.monotonic()

    def _on_finished(self, outcome: Outcome) -> None:
        if self._layer is not None:
            self._layer.refresh(extent=False)
            self._complete(outcome)
            return
        self._outcome = outcome
        if not self._adder.busy:
            self._show(outcome.result)

    def _complete(self, outcome: Outcome) -> None:
        """The result is in the viewer: say what made it."""
        assert self._layer is not None
        source = self._source
        self._layer.metadata[layers.METADATA_KEY] = {
            "source": source.name,
            "source_id": str(source.unique_id),
            "source_path": source.source.path,
            **outcome.provenance,
        }
        self.last_layer_id = str(self._layer.unique_id)
        if outcome.result.path is not None:
            notices.show_info(
                f"the result is larger than the memory budget and is kept in {outcome.result.path}"
            )
        for note in outcome.notes:
            notices.show_warning(note)
        self._release()
        self.ended.emit("finished")

    def _on_failed(self, error: BaseException) -> None:
        if self._adder.busy:
            self._then = lambda: self._on_failed(error)
            return
        self._undo()
        self._release()
        notices.show_error(notices.explain(error))
        self.ended.emit("failed")

    def _on_cancelled(self) -> None:
        if self._adder.busy:
            self._then = self._on_cancelled
            return
        self._undo()
        reason = self._reason
        self._release()
        if reason:
            notices.show_warning(reason)
        self.ended.emit("cancelled")

    def _on_layer_removed(self, event: Any) -> None:
        if self._removing or self._source is None:
            return
        # napari collects what is left of the layer after this.
        take_old_objects_back()
        removed = event.value.unique_id
        if removed == self._source.unique_id:
            self._stop(f"{self._source.name!r} was removed; its upscaling was stopped")
        elif self._layer is not None and removed == self._layer.unique_id:
            self._layer = None
            self._stop(_RESULT_REMOVED)

    def _on_source_changed(self, event: Any = None) -> None:
        if self.running and not self.cancelling:
            self._stop(f"{self._source.name!r} got other data; its upscaling was stopped")

    def _stop(self, reason: str) -> None:
        self._reason = reason
        self.cancel()

    def _undo(self) -> None:
        """Leave the viewer as it was before the run."""
        adding = self._adder.abort()
        if adding is not None:
            self._point_shown = tuple(self._viewer.dims.point)
        shown, self._layer = self._layer or adding, None
        before = self._before
        if shown is None or before is None:
            return
        # What the user has moved since stays.
        now = tuple(self._viewer.dims.point)
        moved = [a != b for a, b in zip(now, self._point_shown, strict=False)]
        self._removing = True
        try:
            if layers.find_layer(self._viewer, str(shown.unique_id)) is not None:
                chosen = selected(self._viewer).layers
                self._viewer.layers.remove(shown)
                if chosen == {str(shown.unique_id)}:  # else the user has chosen since
                    select(self._viewer, before.selection)
        finally:
            self._removing = False
        # Adding and removing a layer of finer pixels move the point of the displayed axes.
        if len(before.point) == len(moved) == self._viewer.dims.ndim:
            still = [axis for axis, gone in enumerate(moved) if not gone]
            self._viewer.dims.set_point(still, [before.point[axis] for axis in still])

    def _release(self) -> None:
        """Hold nothing of the run any more."""
        take_old_objects_back()
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        if self._source is not None:
            self._source.events.data.disconnect(self._on_source_changed)
        self._source = self._request = self._layer = self._result = self._before = None
        self._appear = self._outcome = None
        self._arguments = {}
