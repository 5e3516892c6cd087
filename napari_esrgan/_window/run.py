"""One upscaling run in a viewer: starts the work, shows the result, undoes what a cancel undoes.

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
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work.garbage import set_old_objects_aside, take_old_objects_back
from napari_esrgan._work.messages import Appear, LayerOutcome, Progress, State
from napari_esrgan._work.request import UpscaleRequest
from napari_esrgan._work.result import MULTISCALE_SIDE, Result

# A refresh of a large layer costs 100 ms and more.
REFRESH_SECONDS, LARGE_REFRESH_SECONDS = 0.2, 1.0

_RESULT_REMOVED = "the growing result was removed; its upscaling was stopped"

Work = Callable[[UpscaleRequest, Callable[[Any], None], Callable[[], bool]], LayerOutcome]


@dataclass(frozen=True)
class _Before:
    """State that a cancel restores."""

    selection: Selected
    point: tuple[float, ...]


@dataclass
class _Run:
    """One run, from start to end.

    Attributes
    ----------
    source : napari Image layer
    request : UpscaleRequest
    model_name : str
        For the result's name.
    steps : int or None
        Alphas along a further first axis of the result.
    appearance : dict
        How the result shall look.
    before : _Before
    layer, result
        The result's layer once it is shown, and what it shows.
    appear : Appear or None
        The thread waits for its layer to be shown.
    outcome : LayerOutcome or None
        The thread is done, and its layer is not shown yet.
    then : callable or None
        To be done when it is shown.
    reason : str
        Why the run is stopped, where the user did not ask for it.
    pieces : int
        Pieces of the result that are on the screen.
    refreshed : float
        When they got there.
    point_shown : tuple of float
        The viewer's point just after the result was shown.
    """

    source: Any
    request: UpscaleRequest
    model_name: str
    steps: int | None
    appearance: dict[str, Any]
    before: _Before
    layer: Any = None
    result: Result | None = None
    appear: Appear | None = None
    outcome: LayerOutcome | None = None
    then: Callable[[], None] | None = None
    reason: str = ""
    pieces: int = 0
    refreshed: float = 0.0
    point_shown: tuple[float, ...] = ()


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
        self._runner = ThreadRunner(self)
        self._runner.reported.connect(self._on_report)
        self._runner.finished.connect(self._on_finished)
        self._runner.failed.connect(self._on_failed)
        self._runner.cancelled.connect(self._on_cancelled)
        self._adder = LayerAdder(viewer, self)
        self._adder.added.connect(self._on_added)
        self._run: _Run | None = None
        self._removing = False
        self.last_layer_id: str | None = None

    @property
    def state(self) -> State:
        if self._run is None:
            return State.IDLE
        stopping = self._runner.cancelling or self._run.then is not None
        return State.CANCELLING if stopping else State.WORKING

    @property
    def running(self) -> bool:
        return self.state is not State.IDLE

    def start(
        self,
        layer: Any,
        request: UpscaleRequest,
        model_name: str,
        work: Work,
        steps: int | None = None,
        look: dict[str, Any] | None = None,
    ) -> None:
        """Begin a run on a layer.

        Parameters
        ----------
        layer : napari Image layer
            In the viewer; the run ends if it is removed or gets other data.
        request : UpscaleRequest
        model_name : str
            For the result's name.
        work : callable
            The function that runs in the thread.
        steps : int or None
            The result has a further first axis of so many alphas from 0 to 1.
        look : dict or None
            Arguments of the result's layer in place of those that make it look like its source.

        Raises
        ------
        RuntimeError
            If a run is under way.
        """
        if self.running:
            raise RuntimeError("a run is under way")
        before = _Before(selected(self._viewer), tuple(self._viewer.dims.point))
        look = layers.appearance(layer) if look is None else look
        self._run = _Run(layer, request, model_name, steps, look, before)
        set_old_objects_aside()
        self._viewer.layers.events.removed.connect(self._on_layer_removed)
        layer.events.data.connect(self._on_source_changed)

        def function(report: Callable[[Any], None], cancelled: Callable[[], bool]) -> LayerOutcome:
            return work(request, report, cancelled)

        self._runner.start(function, name="esrgan-upscale")

    def cancel(self) -> None:
        """Stop; `ended` follows, at the latest when the step under way is done."""
        run = self._run
        if run is not None and run.outcome is not None:  # the result is only not yet shown
            run.outcome, run.then = None, self._on_cancelled
        else:
            self._runner.cancel()

    def leave(self) -> None:
        """Stop at once: nobody waits for an end, and this object may be gone by then."""
        run = self._run
        if run is None:
            return
        if self._adder.busy:
            self._undo(run)
        run.outcome = run.then = None
        if self._runner.running:
            take_old_objects_back()
            self._runner.cancel()
        else:
            self._release(run)

    def _on_report(self, message: Any) -> None:
        run = self._run
        assert run is not None
        if isinstance(message, Appear):
            if self.state is State.WORKING:
                run.appear = message
                self._show(run, message.result)
            return
        if isinstance(message, Progress) and message.pieces > run.pieces:
            self._refresh(run, message.pieces)
        self.reported.emit(message)

    def _on_added(self, layer: Any) -> None:
        run = self._run
        assert run is not None
        if layers.find_layer(self._viewer, str(layer.unique_id)) is not None:
            run.layer = layer
        elif run.then is None:
            run.reason = _RESULT_REMOVED
            if run.outcome is None:
                self._runner.cancel()
            else:
                run.then = self._on_cancelled
        run.point_shown = tuple(self._viewer.dims.point)
        run.refreshed = time.monotonic()
        if run.appear is not None:
            run.appear.shown.set()
            run.appear = None
        then, run.then = run.then, None
        outcome, run.outcome = run.outcome, None
        if then is not None:
            then()
        elif outcome is not None:
            self._complete(run, outcome)

    def _show(self, run: _Run, result: Result) -> None:
        request, source = run.request, run.source
        run.result = result
        plane = request.shown if request.only_shown else None
        shape = result.shape if run.steps is None else result.shape[1:]
        place = layers.placement(source, request.axes, request.region, shape, plane)
        if run.steps is not None:
            place = layers.with_alpha(place, run.steps)
        arguments = {
            **run.appearance,
            **place,
            "metadata": {layers.METADATA_KEY: {"source": source.name}},
            "name": layers.result_name(
                source.name, shape, request.region, request.axes, run.model_name
            ),
        }
        self._adder.add(result.levels, arguments)

    def _refresh(self, run: _Run, pieces: int) -> None:
        """Show new pieces, but not more often than the window can bear."""
        if run.layer is None or run.result is None:
            return
        axes, shape = run.request.axes, run.result.shape
        large = max(shape[axes.y], shape[axes.x]) > MULTISCALE_SIDE
        pause = LARGE_REFRESH_SECONDS if large else REFRESH_SECONDS
        if time.monotonic() - run.refreshed >= pause:
            run.pieces = pieces
            # No thumbnail and no extent: the one costs, the other has not changed.
            run.layer.refresh(thumbnail=False, highlight=False, extent=False)
            run.refreshed = time.monotonic()

    def _on_finished(self, outcome: LayerOutcome) -> None:
        run = self._run
        assert run is not None
        if run.layer is not None:
            run.layer.refresh(extent=False)
            self._complete(run, outcome)
            return
        run.outcome = outcome
        if not self._adder.busy:
            self._show(run, outcome.result)

    def _complete(self, run: _Run, outcome: LayerOutcome) -> None:
        """The result is in the viewer: say what made it."""
        run.layer.metadata[layers.METADATA_KEY] = {
            "source": run.source.name,
            "source_id": str(run.source.unique_id),
            "source_path": run.source.source.path,
            **outcome.provenance,
        }
        self.last_layer_id = str(run.layer.unique_id)
        if outcome.result.path is not None:
            notices.show_info(
                f"the result is larger than the memory budget and is kept in {outcome.result.path}"
            )
        for note in outcome.notes:
            notices.show_warning(note)
        self._release(run)
        self.ended.emit("finished")

    def _on_failed(self, error: BaseException) -> None:
        run = self._run
        assert run is not None
        if self._adder.busy:
            run.then = lambda: self._on_failed(error)
            return
        self._undo(run)
        self._release(run)
        notices.tell(error)
        self.ended.emit("failed")

    def _on_cancelled(self) -> None:
        run = self._run
        assert run is not None
        if self._adder.busy:
            run.then = self._on_cancelled
            return
        self._undo(run)
        self._release(run)
        if run.reason:
            notices.show_warning(run.reason)
        self.ended.emit("cancelled")

    def _on_layer_removed(self, event: Any) -> None:
        run = self._run
        if self._removing or run is None:
            return
        # napari collects what is left of the layer after this.
        take_old_objects_back()
        removed = event.value.unique_id
        if removed == run.source.unique_id:
            self._stop(run, f"{run.source.name!r} was removed; its upscaling was stopped")
        elif run.layer is not None and removed == run.layer.unique_id:
            run.layer = None
            self._stop(run, _RESULT_REMOVED)

    def _on_source_changed(self, event: Any = None) -> None:
        run = self._run
        if run is not None and self.state is State.WORKING:
            self._stop(run, f"{run.source.name!r} got other data; its upscaling was stopped")

    def _stop(self, run: _Run, reason: str) -> None:
        run.reason = reason
        self.cancel()

    def _undo(self, run: _Run) -> None:
        """Leave the viewer as it was before the run."""
        adding = self._adder.abort()
        if adding is not None:
            run.point_shown = tuple(self._viewer.dims.point)
        shown, run.layer = run.layer or adding, None
        if shown is None:
            return
        before = run.before
        # What the user has moved since stays.
        now = tuple(self._viewer.dims.point)
        moved = [a != b for a, b in zip(now, run.point_shown, strict=False)]
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

    def _release(self, run: _Run) -> None:
        """Hold nothing of the run any more."""
        take_old_objects_back()
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        run.source.events.data.disconnect(self._on_source_changed)
        self._run = None
