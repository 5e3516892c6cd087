"""Progress of a large run on the terminal: chunks done, megapixels a second, time left. A bar on a
terminal, a line from time to time elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn

from esrgan_ext.wording import duration

if TYPE_CHECKING:
    from rich.console import Console

    from esrgan_ext.inference.large.store.outcome import ChunkOutcome

# Elsewhere than on a terminal.
_LINE_SECONDS = 30.0


class StoreProgress:
    """Counts what a run tells of itself.

    Attributes
    ----------
    done, total : int
        Chunks of the current phase.
    """

    def __init__(self, out: Console) -> None:
        self._out = out
        self.done = self.total = 0
        self._name = ""
        self._factor = 1.0
        self._start = self._last = time.monotonic()
        self._earlier = 0
        self._pixels = 0

    def note(self, text: str) -> None:
        self._out.print(text, markup=False)

    def phase(self, name: str, total: int, done: int, factor: float) -> None:
        self._name, self.total, self.done, self._factor = name, total, done, factor
        self._start = self._last = time.monotonic()
        self._earlier, self._pixels = done, 0
        self._show()

    def outcome(self, outcome: ChunkOutcome) -> None:
        if outcome.error is None:
            self.done += 1
            self._pixels += outcome.pixels
        else:
            self._out.print(f"failed: {outcome.place}: {outcome.error}", markup=False)
        self._show()

    def text(self) -> str:
        """The phase in one line. Megapixels are the source's."""
        text = f"{self._name}: {self.done}/{self.total} chunks"
        seconds = time.monotonic() - self._start
        fresh = self.done - self._earlier
        if fresh < 1 or seconds <= 0:
            return text
        if self._pixels:
            text += f", {self._pixels / self._factor / 1e6 / seconds:.2f} MP/s"
        left = seconds / fresh * (self.total - self.done)
        return f"{text}, {duration(left)} left"

    def _show(self) -> None:
        if time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            self._out.print(self.text(), markup=False)


class _Bar(StoreProgress):
    def __init__(self, out: Console, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None)
        super().__init__(out)

    def _show(self) -> None:
        self._bars.update(
            self._task, description=self.text(), completed=self.done, total=self.total
        )


@contextmanager
def shown(out: Console) -> Iterator[StoreProgress]:
    """The display that suits the console, for the time of a run."""
    if not out.is_terminal:
        yield StoreProgress(out)
        return
    with Progress(
        BarColumn(), TextColumn("{task.description}"), console=out, transient=True
    ) as bars:
        yield _Bar(out, bars)
