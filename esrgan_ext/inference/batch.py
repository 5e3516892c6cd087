"""Upscales one file after the other: the next one is read and the previous one written while the
network works, and a file that fails does not stop the others. What the user sees of it is the
caller's business, told through `Events`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from esrgan_ext.errors import EsrganError, UpscaleCancelled
from esrgan_ext.inference.arrays import layout_of
from esrgan_ext.inference.capacity import check_space, check_target
from esrgan_ext.inference.files import ImageFile, facts_of, read_image, write_image
from esrgan_ext.inference.folder import FileJob
from esrgan_ext.inference.headers import MAX_PIXELS
from esrgan_ext.inference.progress import Progress
from esrgan_ext.inference.ranges import DataRange, follows_data
from esrgan_ext.inference.samples import has_empty_channel
from esrgan_ext.weights.choice import choose_model

if TYPE_CHECKING:
    from esrgan_ext.inference.upscaler import Upscaler

# A result up to this size is written while the network works on the next image; a larger one is
# written first, because two of them at once may not fit into memory.
_OVERLAP_BYTES = 256 << 20

# What a file may fail of without stopping the others; anything else is a bug, and stops.
_EXPECTED = (EsrganError, MemoryError, OSError)


@dataclass(frozen=True, eq=False)
class Upscaled:
    """A result: pixels of the image's axes and dtype, and what was chosen for it, for people."""

    pixels: np.ndarray
    note: str = ""


Upscale = Callable[[ImageFile, Progress], Upscaled]
"""Upscales one image."""

Check = Callable[[ImageFile, Path], None]
"""Looks at an image and the file that its result goes to."""


class FileUpscaler:
    """Upscales the images of files with one `Upscaler`, whichever their channel axis is.

    Where the model is left to it, a TIFF is a measurement whatever it holds.
    """

    def __init__(self, upscaler: Upscaler) -> None:
        self._upscaler = upscaler

    def __call__(self, image: ImageFile, progress: Progress) -> Upscaled:
        axis = image.channel_axis
        channels = 1 if axis is False else image.pixels.shape[axis]
        upscaler, notes = self._chosen(image, channels)
        values = upscaler.value_map(image.pixels, channel_axis=axis)
        given: DataRange = upscaler.data_range
        if follows_data(image.pixels.dtype, given, channels):
            notes.append(f"{values.low:g} is black, {values.high:g} is white")
            given = (values.low, values.high) if values.low < values.high else given
        pixels = upscaler(image.pixels, data_range=given, channel_axis=axis, progress=progress)
        return Upscaled(pixels, "; ".join(notes))

    def _chosen(self, image: ImageFile, channels: int) -> tuple[Upscaler, list[str]]:
        """The upscaler, and what was chosen where the model is left to it."""
        if self._upscaler.model is not None:
            return self._upscaler, []
        scientific = "TIFF" if image.format == "tiff" else None
        layout = layout_of(image.pixels.shape, image.channel_axis)
        choice = choose_model(
            image.pixels.dtype,
            channels,
            scientific=scientific,
            empty_channel=has_empty_channel(image.pixels, layout),
        )
        return self._upscaler.for_model(choice.model), [str(choice)]

    def check(self, image: ImageFile, target: Path) -> None:
        """Raise ImageFileError if the result could not be written to `target`."""
        results = []
        for one in (image, *image.further):
            axis = one.channel_axis
            upscaler, _ = self._chosen(one, 1 if axis is False else one.pixels.shape[axis])
            shape = upscaler.output_shape(one.pixels.shape, channel_axis=axis)
            results.append(facts_of(shape, one))
        check_target(target, results)
        check_space(target, results)


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `reason` says why it failed, `note` what was chosen for it."""

    job: FileJob
    state: Literal["done", "failed"]
    reason: str = ""
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    note: str = ""


class Events(Protocol):
    """What the caller hears. All calls come from the thread that called `run`."""

    def started(self, job: FileJob, number: int, total: int) -> None:
        """Work on the `number`-th of `total` jobs (counted from 1) begins."""

    def progress(self, done: int, total: int) -> bool | None:
        """`done` of `total` input pixels of the current job; False stops everything."""

    def finished(self, outcome: Outcome) -> None:
        """The result is on disk, or the job has failed."""


def run(
    jobs: Sequence[FileJob],
    upscale: Upscale,
    events: Events,
    *,
    max_pixels: int = MAX_PIXELS,
    quality: int = 95,
    series: int | None = None,
    check: Check | None = None,
) -> list[Outcome]:
    """Do the jobs, one after the other; the files of the next and the previous one are read and
    written meanwhile.

    Whatever interrupts it (Ctrl-C, `events.progress` returning False), results that are
    finished are on disk, and no partial file is.

    Parameters
    ----------
    upscale
        From a file's pixels to the result's.
    max_pixels, quality, series
        See `read_image` and `write_image`.
    check
        Raises EsrganError for a result that its file could not hold, before any work.

    Returns
    -------
    list of Outcome
        One a job, in their order.
    """
    outcomes: list[Outcome] = []
    with (
        ThreadPoolExecutor(1, "esrgan-read") as reading,
        ThreadPoolExecutor(1, "esrgan-write") as writing,
    ):
        writer = _Writer(writing, events, outcomes)

        def progress(done: int, total: int) -> bool | None:
            writer.report(wait=False)
            return events.progress(done, total)

        def read(number: int) -> Future[ImageFile] | None:
            if number >= len(jobs):
                return None
            return reading.submit(
                read_image, jobs[number].source, max_pixels=max_pixels, series=series
            )

        upcoming = read(0)
        try:
            for number, job in enumerate(jobs):
                events.started(job, number + 1, len(jobs))
                begin = time.monotonic()
                current, upcoming = upcoming, None
                try:
                    assert current is not None
                    # Waited for before the next is asked for: one image ahead, not two.
                    current.exception()
                    upcoming = read(number + 1)
                    image = current.result()
                    if check is not None:
                        check(image, job.target)
                    results = _upscaled(image, upscale, progress)
                except UpscaleCancelled:
                    raise
                except _EXPECTED as error:
                    writer.report(wait=True)
                    seconds = time.monotonic() - begin
                    outcomes.append(Outcome(job, "failed", _reason(error, job), seconds))
                    events.finished(outcomes[-1])
                    continue
                writer.report(wait=True)
                writer.start(job, results, image, quality, time.monotonic() - begin)
                del current, image, results
        finally:
            writer.report(wait=True)
    return outcomes


class _Writer:
    """Writes one result at a time in the background; its outcomes are told in the caller's
    thread."""

    def __init__(self, pool: ThreadPoolExecutor, events: Events, outcomes: list[Outcome]) -> None:
        self._pool, self._events, self._outcomes = pool, events, outcomes
        self._current: tuple[Outcome, Future[None]] | None = None

    def start(
        self,
        job: FileJob,
        results: list[Upscaled],
        image: ImageFile,
        quality: int,
        seconds: float,
    ) -> None:
        pixels = results[0].pixels
        rows = pixels.ndim - (3 if image.channel_axis is not False else 2)
        size = pixels.shape[rows + 1], pixels.shape[rows]
        outcome = Outcome(job, "done", "", seconds, size, results[0].note)
        pairs = zip(image.further, results[1:], strict=True)
        further = [(one, result.pixels) for one, result in pairs]
        future = self._pool.submit(
            write_image, job.target, pixels, like=image, quality=quality, further=further
        )
        self._current = outcome, future
        if sum(result.pixels.nbytes for result in results) > _OVERLAP_BYTES:
            self.report(wait=True)

    def report(self, *, wait: bool) -> None:
        """Tell what became of the current result, if it is known or `wait` is set."""
        if self._current is None or not (wait or self._current[1].done()):
            return
        outcome, future = self._current
        error = future.exception()
        self._current = None
        if error is not None and not isinstance(error, _EXPECTED):
            raise error
        if error is not None:
            outcome = replace(outcome, state="failed", reason=_reason(error, outcome.job))
        self._outcomes.append(outcome)
        self._events.finished(outcome)


def _upscaled(image: ImageFile, upscale: Upscale, progress: Progress) -> list[Upscaled]:
    """The results of all images of a file; progress runs over all of them."""
    images = (image, *image.further)
    if len(images) == 1:
        return [upscale(image, progress)]
    sizes = [one.pixels.size for one in images]
    results = []
    for number, one in enumerate(images):
        before = sum(sizes[:number])

        def part(done: int, total: int, before: int = before, size: int = one.pixels.size) -> Any:
            return progress(before + size * done // max(total, 1), sum(sizes))

        results.append(upscale(one, part))
    return results


def _reason(error: BaseException, job: FileJob) -> str:
    """The error's message without the name of the file that it is listed under."""
    if isinstance(error, MemoryError) and not str(error):
        return "not enough memory"
    text = str(error) or type(error).__name__
    return text.removeprefix(f"{job.source}: ")
