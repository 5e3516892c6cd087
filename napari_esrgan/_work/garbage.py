"""Python's garbage collector, kept from holding the window.

Once torch is imported, a collection of everything looks at half a million objects, which takes
0.2 to 0.5 s, and all threads wait for it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Iterator[None]:
    """For imports: they make nothing but objects that stay, which are not worth looking at."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if set_old_objects_aside():  # and back, which makes them old without looking at them
            take_old_objects_back()
        if enabled:
            gc.enable()


def set_old_objects_aside() -> bool:
    """Let collections look only at what is made from now on.

    For the time of a run: napari collects everything whenever a layer is removed, which a cancel
    does. The layer of the run is new and is collected all the same.

    Returns
    -------
    bool
        False where somebody else has set objects aside; they stay that somebody's.
    """
    if gc.get_freeze_count():
        return False
    gc.freeze()
    return True


def take_old_objects_back() -> None:
    """Undo `set_old_objects_aside`; looks at nothing, and may be called again."""
    gc.unfreeze()
