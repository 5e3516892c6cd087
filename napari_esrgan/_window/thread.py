"""Runs a function in a thread and brings its reports to the window, ten times a second.

The thread puts messages into a mailbox and a timer of the window takes them out: nothing of Qt
is touched by the thread, a burst of progress costs one update, and a window that is gone simply
takes nothing any more. After the end no reference to the function or its result is kept.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from esrgan_ext.errors import EsrganError, UpscaleCancelled
from napari_esrgan._work.messages import Progress, Status

log = logging.getLogger(__name__)

POLL_MILLISECONDS = 100

Function = Callable[[Callable[[Any], None], Callable[[], bool]], Any]


class _Mailbox:
    """Messages between one run's thread and the window."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: deque[Any] = deque()
        self.cancel = threading.Event()
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None

    def put(self, message: Any) -> None:
        with self._lock:
            # Only the latest progress is of interest.
            last = self._messages[-1] if self._messages else None
            if isinstance(message, Progress | Status) and isinstance(last, Progress | Status):
                self._messages.pop()
            self._messages.append(message)

    def take(self) -> list[Any]:
        with self._lock:
            messages = list(self._messages)
            self._messages.clear()
            return messages


def _work(mailbox: _Mailbox, function: Function) -> None:
    try:
        mailbox.result = function(mailbox.put, mailbox.cancel.is_set)
    except BaseException as error:
        if not isinstance(error, EsrganError):
            log.exception("unexpected error in %s", threading.current_thread().name)
        # The traceback's frames hold arrays, and the error outlives this thread.
        mailbox.error = error.with_traceback(None)
        mailbox.error.__context__ = mailbox.error.__cause__ = None
    finally:
        mailbox.ended = True


class ThreadRunner(QObject):
    """One piece of work at a time.

    Signals
    -------
    reported(object)
        A message of the function, on the GUI thread.
    finished(object)
        Its result.
    failed(object)
        The exception that ended it.
    cancelled()
        It ended after `cancel`.
    """

    reported = Signal(object)
    finished = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._mailbox: _Mailbox | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.timeout.connect(self._poll)
        self._waiting: tuple[Function, str] | None = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(POLL_MILLISECONDS)
        # A method, not a function of its own: that would be freed with the timer, maybe while it
        # runs, when garbage is collected just then.
        self._soon.timeout.connect(self._launch_waiting)
        # Tells the thread to stop when nobody holds this any more. Not through `destroyed`:
        # a slot in Python that runs while its sender is taken apart is one too late.
        self._holder = _Holder()
        weakref.finalize(self, self._holder.cancel)
        if (application := QCoreApplication.instance()) is not None:
            application.aboutToQuit.connect(self.cancel)

    @property
    def running(self) -> bool:
        return self._mailbox is not None

    @property
    def cancelling(self) -> bool:
        return self._mailbox is not None and self._mailbox.cancel.is_set()

    def start(self, function: Function, name: str = "esrgan") -> None:
        """Call ``function(report, cancelled)`` in a thread.

        Raises
        ------
        RuntimeError
            If something is running.
        """
        self._take_place()
        self._launch(function, name)

    def start_soon(self, function: Function, name: str = "esrgan") -> None:
        """As `start`, once the window has drawn itself: both at once would be late."""
        self._take_place()
        self._waiting = function, name
        self._soon.start()

    def _take_place(self) -> None:
        if self.running:
            raise RuntimeError("a run is under way")
        self._mailbox = self._holder.mailbox = _Mailbox()

    def _launch_waiting(self) -> None:
        if self._waiting is not None:
            function, name = self._waiting
            self._waiting = None
            self._launch(function, name)

    def _launch(self, function: Function, name: str) -> None:
        # Not a daemon: torch must not be running while the interpreter shuts down. Cancelled
        # by whatever ends this object or the application, the thread ends within a step.
        self._timer.start()
        threading.Thread(target=_work, args=(self._mailbox, function), name=name).start()

    def cancel(self) -> None:
        """Ask the work to stop; `cancelled` follows when it has."""
        if self._mailbox is not None:
            self._mailbox.cancel.set()
        if self._waiting is not None:  # it has not begun
            self._waiting = None
            self._soon.stop()
            if self._mailbox is not None:
                self._mailbox.ended = True
            self._timer.start()

    def _poll(self) -> None:
        mailbox = self._mailbox
        if mailbox is None:
            return
        ended = mailbox.ended  # read first: what came before it is then in the box
        for message in mailbox.take():
            self.reported.emit(message)
        if not ended:
            return
        self._timer.stop()
        self._mailbox = self._holder.mailbox = None
        error, result = mailbox.error, mailbox.result
        if error is None and mailbox.cancel.is_set():
            error = UpscaleCancelled("cancelled when done")
        if error is None:
            self.finished.emit(result)
        elif isinstance(error, UpscaleCancelled) and mailbox.cancel.is_set():
            self.cancelled.emit()
        else:
            self.failed.emit(error)


class _Holder:
    """Lets a destroyed runner's thread be told to stop."""

    mailbox: _Mailbox | None = None

    def cancel(self) -> None:
        if self.mailbox is not None:
            self.mailbox.cancel.set()
