"""Steps that a forked child takes before it can work; none where there is no fork (Windows)."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_child(start_anew: Callable[[], None]) -> None:
    """Have `start_anew` called in every child that is forked from this process, first thing.

    For what does not survive a fork: locks that another thread may have held, pools whose threads
    are gone, file positions that are shared with the parent. It must not raise, and may only use
    what is there after a fork.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=start_anew)
