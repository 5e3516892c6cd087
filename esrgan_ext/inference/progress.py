"""Progress and cancel: one callback, used by scripts, the command line and napari alike."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from esrgan_ext.errors import UpscaleCancelled

Progress = Callable[[int, int], bool | None]
"""Called as progress(done, total), in input pixels of work; False stops."""

# How often progress is passed on: often enough for a bar that moves and a cancel that works,
# seldom enough that a slow callback does not hold up the work.
PROGRESS_INTERVAL = 0.05


class Meter:
    """Turns work done into calls of the user's progress function, and hears a cancel.

    Several threads may work, each on one piece at a time; the function is called by one at a time.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._finished = 0  # pixels of finished cores
        self._under_way: dict[int, int] = {}  # pixels of unfinished ones, by thread
        self._lock = threading.RLock()
        self._reported = 0
        self._last_call = -math.inf
        self._report(0)

    def watch(self, macs: int, pixels: int) -> Callable[[int], None]:
        """A callback for one piece of work of so many multiply-accumulates and pixels."""
        done = 0

        def on_work(count: int) -> None:
            nonlocal done
            done += count
            with self._lock:
                self._under_way[threading.get_ident()] = pixels * min(done, macs) // macs
                self._report_now_and_then()

        return on_work

    def core_done(self, pixels: int) -> None:
        with self._lock:
            self._under_way.pop(threading.get_ident(), None)
            self._finished += pixels
            self._report_now_and_then()

    def _report_now_and_then(self) -> None:
        if time.monotonic() - self._last_call >= PROGRESS_INTERVAL:
            self._report(self._finished + sum(self._under_way.values()))

    def finish(self) -> None:
        self._report(self._total)

    def _report(self, done: int) -> None:
        if self._progress is None:
            return
        self._reported = max(self._reported, done)  # a tile done again does not count back
        try:
            wanted = self._progress(self._reported, self._total)
        except UpscaleCancelled:
            raise
        except Exception as error:
            raise UpscaleCancelled(f"the progress callback failed: {error}") from error
        if wanted is False:
            raise UpscaleCancelled("upscaling was cancelled")
        self._last_call = time.monotonic()
