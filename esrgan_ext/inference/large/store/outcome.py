"""The answer of a store's task, and the event at which tasks of this process end early."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from esrgan_ext.inference.ranges import RobustRange


@dataclass(frozen=True)
class ChunkOutcome:
    """The outcome of a task.

    Attributes
    ----------
    number : int
    place : str
        For people.
    pixels : int
        Pixels of the result that were written.
    seconds : float
    error : str or None
        Why it failed.
    hopeless : bool
        Nothing else can be written either.
    found : RobustRange or None
        The values of the part that `look_at_part` read.
    """

    number: int
    place: str = ""
    pixels: int = 0
    seconds: float = 0.0
    error: str | None = None
    hopeless: bool = False
    found: RobustRange | None = None


#: Set where threads of this process should leave their chunks: the run has ended early.
stop = threading.Event()
