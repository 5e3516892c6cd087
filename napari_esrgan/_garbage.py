"""Python's garbage collector, kept from holding the window.

Once torch is imported, a collection of everything looks at half a million objects, which takes
0.2 to 0.5 s, and all threads wait for it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# What removals may leave to a later collection, all together.
MOST_BYTES_OWED = 256e6

_owed = 0.0


@contextmanager
def no_collections() -> Iterator[None]:
    """For imports: they make nothing but objects that stay, which are not worth looking at."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _pass_over_everything()
        if enabled:
            gc.enable()


@contextmanager
def quick_collections(held_bytes: float = 0) -> Iterator[None]:
    """For napari's removal of a layer, which ends with a collection of everything.

    Within, a collection finds only what has been made since. What it misses is left to a later
    one, unless that has become much.

    Parameters
    ----------
    held_bytes : float
        What the layer that goes may keep in memory until then.
    """
    global _owed
    if _owed + held_bytes > MOST_BYTES_OWED or gc.get_freeze_count():
        _owed = 0.0
        yield
        return
    _owed += held_bytes
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _pass_over_everything() -> None:
    """Count all objects as old, as though they had been looked at."""
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
