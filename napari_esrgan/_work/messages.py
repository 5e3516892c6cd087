"""Messages of a worker thread to the window, and how it learns that it shall stop.

Frozen dataclasses and enums; nothing else crosses over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esrgan_ext.errors import UpscaleCancelled

if TYPE_CHECKING:
    from napari_esrgan._work.result import Result

Report = Callable[[Any], None]
Cancelled = Callable[[], bool]


def stop_if(cancelled: Cancelled) -> None:
    """Leave the work where the user wants it to end.

    Raises
    ------
    UpscaleCancelled
    """
    if cancelled():
        raise UpscaleCancelled("upscaling was cancelled")


class State(Enum):
    """Where a run is.

    IDLE: none is under way. WORKING: the thread computes, or its result is being shown.
    CANCELLING: asked to stop, and not there yet.
    """

    IDLE = "idle"
    WORKING = "working"
    CANCELLING = "cancelling"


@dataclass(frozen=True)
class Status:
    """A phase that has no measure of its own ("reading the model")."""

    text: str


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes
    ----------
    done, total : int
        Input pixels, or bytes of a download.
    tiles_done, tiles : int
        Tiles; both 0 for a download.
    seconds_left : float or None
        None until enough is done to tell.
    pieces : int
        How many pieces of the result are in place; the layer needs a refresh when it grows.
    text : str
        The work that is being done, in words.
    """

    done: int
    total: int
    tiles_done: int = 0
    tiles: int = 0
    seconds_left: float | None = None
    pieces: int = 0
    text: str = "Upscaling"


@dataclass(frozen=True)
class Appear:
    """The result may be shown now, though it is not complete.

    Attributes
    ----------
    result : Result
    shown : threading.Event
        Set by the window when it is. The work waits for that (a moment, not for ever): a
        window that has all cores to itself makes a layer in half the time.
    """

    result: Result
    shown: threading.Event = field(default_factory=threading.Event, compare=False)


@dataclass(frozen=True)
class LayerOutcome:
    """The end of a run that succeeded.

    Attributes
    ----------
    result : Result
    provenance : dict
        Its provenance, in plain JSON types: for `layer.metadata` and for `script`.
    notes : tuple of str
        Warnings of the run, each once.
    """

    result: Result
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileDone:
    """A file is finished.

    Attributes
    ----------
    source : Path
    error : str
        Why it failed; empty where it did not.
    notes : tuple of str
        Sentences of its reader and of its run.
    """

    source: Path
    error: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderOutcome:
    """The end of a folder.

    Attributes
    ----------
    done, skipped : int
        Files with a new result, and files that had one already.
    failed : tuple of FileDone
    """

    done: int
    skipped: int
    failed: tuple[FileDone, ...]
