"""What a worker thread tells the window: frozen dataclasses, nothing else crosses over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_esrgan._result import Result


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
        What is being done.
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
    """The result may be shown now, though it is not complete."""

    result: Result


@dataclass(frozen=True)
class Outcome:
    """The end of a run that succeeded.

    Attributes
    ----------
    result : Result
    provenance : dict
        What made it, in plain JSON types: for `layer.metadata` and for `_script`.
    notes : tuple of str
        Warnings of the run, each once.
    """

    result: Result
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()
