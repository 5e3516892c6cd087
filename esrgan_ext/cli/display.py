"""Progress of a running job: bars over files and over the pixels of the current one on a
terminal, plain lines elsewhere (a log file, a pipe)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from esrgan_ext.cli.errors import readable

if TYPE_CHECKING:
    from esrgan_ext.inference.batch import FileOutcome
    from esrgan_ext.inference.folder import FileJob

# Elsewhere than on a terminal an image that takes long says so from time to time.
_LINE_SECONDS = 30.0


class Display(Protocol):
    """Events of a job that are shown; see `inference.batch.Events`."""

    def started(self, job: FileJob, number: int, total: int) -> None: ...

    def progress(self, job: FileJob, done: int, total: int) -> bool | None: ...

    def finished(self, outcome: FileOutcome) -> None: ...


class LiteralConsole(Console):
    """A console on which text is text: neither markup nor a command to the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        shown = [readable(each) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **{"markup": False, **options})


def console(stderr: bool = False) -> Console:
    """Standard output (or error); names are not coloured by guesses at what they mean."""
    out = LiteralConsole(stderr=stderr, highlight=False, soft_wrap=True)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = 160  # a pipe has no width to wrap at
    return out


class Lines:
    """One line a finished file."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._total = 0
        self._numbers: dict[FileJob, int] = {}
        self._last = 0.0
        self._finished = 0

    def started(self, job: FileJob, number: int, total: int) -> None:
        self._total = total
        self._numbers[job] = number
        self._last = time.monotonic()

    def progress(self, job: FileJob, done: int, total: int) -> None:
        if time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            percent = 100 * done // max(total, 1)
            self._out.print(
                f"[{self._numbers[job]}/{self._total}] {job.source}: {percent} %", markup=False
            )

    def finished(self, outcome: FileOutcome) -> None:
        self._finished += 1
        self._out.print(f"[{self._finished}/{self._total}] {summary(outcome)}", markup=False)


class Bars:
    """A bar over files and one over the pixels of each image that is worked on."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._files: TaskID | None = None
        self._images: dict[FileJob, TaskID] = {}
        self._idle: list[TaskID] = []

    def started(self, job: FileJob, number: int, total: int) -> None:
        name = escape(readable(job.source.name))
        if self._idle:
            self._images[job] = self._idle.pop()
            self._bars.reset(self._images[job], total=None, description=name)
        else:
            self._images[job] = self._bars.add_task(name, total=None, unit="")
        if self._files is None and total > 1:
            self._files = self._bars.add_task("files", total=total)

    def progress(self, job: FileJob, done: int, total: int) -> None:
        if job not in self._images:
            return
        self._bars.update(self._images[job], completed=done, total=total)
        if done >= total:  # what follows is the encoder's
            self._idle.append(self._images.pop(job))

    def finished(self, outcome: FileOutcome) -> None:
        if outcome.job in self._images:  # it failed
            self._idle.append(self._images.pop(outcome.job))
        self._bars.console.print(summary(outcome), markup=False)
        if self._files is not None:
            self._bars.advance(self._files)


def _timed_bars(out: Console) -> Progress:
    """Bars with the share that is done and the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=out,
        transient=True,
    )


@contextmanager
def shown(out: Console) -> Iterator[Display]:
    """The display that suits the console, for the time of a job."""
    if not out.is_terminal:
        yield Lines(out)
        return
    with _timed_bars(out) as bars:
        yield Bars(bars)


@contextmanager
def steps(out: Console, description: str, total: int) -> Iterator[Progress | None]:
    """A bar over `total` steps on a terminal; None elsewhere."""
    if not out.is_terminal:
        yield None
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=out,
        transient=True,
    ) as bars:  # fmt: skip
        bars.add_task(escape(readable(description)), total=total)
        yield bars


@contextmanager
def work(out: Console, description: str) -> Iterator[Progress | None]:
    """A bar with the time that is left, for work in pixels, on a terminal; None elsewhere."""
    if not out.is_terminal:
        yield None
        return
    with _timed_bars(out) as bars:
        bars.add_task(escape(readable(description)), total=None)
        yield bars


class DownloadBar:
    """A bar over the bytes of a model's weights, which appears with the first of them."""

    def __init__(self, out: Console, name: str) -> None:
        self._out, self._name = out, name
        self._bars: Progress | None = None
        self._said = False

    def __call__(self, done: int, total: int) -> None:
        if not self._out.is_terminal:
            if not self._said:
                self._said = True
                self._out.print(f"downloading {self._name}: {total / 1e6:.0f} MB", markup=False)
            return
        if self._bars is None:
            self._bars = Progress(
                TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(),
                TimeRemainingColumn(), console=self._out, transient=True,
            )  # fmt: skip
            self._bars.start()
            self._task = self._bars.add_task(escape(readable(self._name)), total=total or None)
        self._bars.update(self._task, completed=done)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()


def summary(outcome: FileOutcome) -> str:
    """One line about a file."""
    job = outcome.job
    if outcome.state == "failed":
        return f"{job.source}: failed: {outcome.reason}"
    width, height = outcome.size or (0, 0)
    note = f"; {outcome.note}" if outcome.note else ""
    return f"{job.source} -> {job.target} ({width} x {height}, {outcome.seconds:.1f} s{note})"
