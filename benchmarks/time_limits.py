"""Gives up on what takes too long: the preparation of a peer must not end a benchmark."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TookTooLong(BaseException):
    """The time is over. Not an `Exception`, so that a peer's own handlers let it pass."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` within the block once so many seconds have passed.

    It comes at the next Python instruction: a single call of compiled code is not cut short.
    Only the main thread of a POSIX system can do this; elsewhere there is no limit.
    """
    possible = hasattr(signal, "setitimer") and (
        threading.current_thread() is threading.main_thread()
    )
    if not possible:
        yield
        return

    def over(*_: object) -> None:
        raise TookTooLong(f"not ready within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
