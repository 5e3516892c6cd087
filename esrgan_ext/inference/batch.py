"""Upscales files, one after the other on each device: the next ones are read and the previous ones
encoded while the network works, and a file that fails does not stop the others. What the user sees
of it is the caller's business, told through `Events`."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from esrgan_ext.errors import EsrganError, UpscaleCancelled
from esrgan_ext.inference.arrays import layout_of
from esrgan_ext.inference.capacity import check_space, check_target
from esrgan_ext.inference.devices import free_ram
from esrgan_ext.inference.files import PNG_LEVEL, ImageFile, facts_of, read_image, write_image
from esrgan_ext.inference.folder import FileJob
from esrgan_ext.inference.headers import MAX_PIXELS
from esrgan_ext.inference.progress import Progress
from esrgan_ext.inference.ranges import DataRange, follows_data
from esrgan_ext.inference.samples import has_empty_channel
from esrgan_ext.weights.choice import choose_model

# Formats of files that are as small as their pictures allow.
_COMPRESSED = ("png", "jpeg", "webp", "avif")

if TYPE_CHECKING:
    from esrgan_ext.inference.upscaler import Upscaler

# Results that wait to be written take an eighth of the free memory, within these bounds. One that
# is larger by itself is written before its device goes on.
_LEAST_WAITING, _MOST_WAITING = 256 << 20, 4 << 30

# A result of 32 megapixels takes a core half a second or more to encode, a fast GPU 0.3 s to
# compute: a few writers keep up with one.
_MOST_WRITERS = 8

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
        source = image.path if image.format in _COMPRESSED else None
        width = image.pixels.shape[-1 if image.channel_axis is False else -2]
        check_space(target, results, source, results[0].width / width)


@dataclass(frozen=True)
class FileOutcome:
    """The outcome of a file's job; `reason` says why it failed, `note` what was chosen for it."""

    job: FileJob
    state: Literal["done", "failed"]
    reason: str = ""
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    note: str = ""


class Events(Protocol):
    """Events for the caller. All calls come from the thread that called `run`."""

    def started(self, job: FileJob, number: int, total: int) -> None:
        """Work on the `number`-th of `total` jobs (counted from 1) begins."""

    def progress(self, job: FileJob, done: int, total: int) -> bool | None:
        """`done` of `total` input pixels of a job; False stops everything."""

    def finished(self, outcome: FileOutcome) -> None:
        """The result is on disk, or the job has failed."""


def run(
    jobs: Sequence[FileJob],
    upscale: Upscale | Sequence[Upscale],
    events: Events,
    *,
    max_pixels: int = MAX_PIXELS,
    quality: int = 95,
    png_level: int = PNG_LEVEL,
    series: int | None = None,
    check: Check | None = None,
) -> list[FileOutcome]:
    """Do the jobs; files are read ahead and results are encoded and written behind the network.

    Whatever interrupts it (Ctrl-C, `events.progress` returning False), results that are
    finished are on disk, and no partial file is.

    Parameters
    ----------
    upscale
        From a file's pixels to the result's; several, one a device, take the jobs as they come,
        each in a thread of its own.
    max_pixels, quality, png_level, series
        See `read_image` and `write_image`.
    check
        Raises EsrganError for a result that its file could not hold, before any work.

    Returns
    -------
    list of FileOutcome
        One a job, in their order, in which `events.finished` hears of them too.
    """
    if not jobs:
        return []
    workers = [upscale] if callable(upscale) else list(upscale)
    cores = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(len(workers), "esrgan-read") as reading,
        ThreadPoolExecutor(min(_MOST_WRITERS, max(2, cores)), "esrgan-write") as writing,
    ):

        def read(job: FileJob) -> Future[ImageFile]:
            return reading.submit(read_image, job.source, max_pixels=max_pixels, series=series)

        def write(job: FileJob, image: ImageFile, results: list[Upscaled]) -> Future[None]:
            pairs = zip(image.further, results[1:], strict=True)
            return writing.submit(
                write_image, job.target, results[0].pixels, like=image, quality=quality,
                png_level=png_level, further=[(one, result.pixels) for one, result in pairs],
            )  # fmt: skip

        return _Run(jobs, workers, events, check, read, write).outcomes()


@dataclass(frozen=True)
class _Report:
    """Messages of a worker to the thread that called `run`.

    A number alone: its job begins. With `work`: pixels done and in all, and where the answer is
    awaited. With `outcome`: what became of the job. No number: the worker is at its end, which an
    error may have been.
    """

    number: int | None = None
    work: tuple[int, int, queue.SimpleQueue[bool | None]] | None = None
    outcome: FileOutcome | None = None
    error: BaseException | None = None


class _Run:
    """The jobs of one call, the threads that do them, and what waits to be told in order."""

    def __init__(
        self,
        jobs: Sequence[FileJob],
        workers: Sequence[Upscale],
        events: Events,
        check: Check | None,
        read: Callable[[FileJob], Future[ImageFile]],
        write: Callable[[FileJob, ImageFile, list[Upscaled]], Future[None]],
    ) -> None:
        self._jobs, self._events, self._check = jobs, events, check
        self._read, self._write = read, write
        self._reports: queue.SimpleQueue[_Report] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._asked = 0
        self._upcoming: deque[tuple[int, Future[ImageFile]]] = deque()
        self._room = threading.Condition()
        self._limit = _waiting_bytes()
        self._waiting: list[int] = []  # bytes of the results that are being written
        self._known: dict[int, FileOutcome] = {}
        self._told: list[FileOutcome] = []
        self._bug: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"esrgan-{number}")
            for number, worker in enumerate(workers)
        ]

    def outcomes(self) -> list[FileOutcome]:
        """Run to the end."""
        for _ in self._threads:
            self._read_one_more()
        for thread in self._threads:
            thread.start()
        error: BaseException | None = None
        running = len(self._threads)
        try:
            while running:
                report = self._reports.get()
                if report.number is None:
                    running -= 1
                    if report.error is not None:
                        error = error or report.error
                        self._stop.set()
                else:
                    self._hear(report)
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
            self._wait_for_writing()
            while not self._reports.empty():
                report = self._reports.get()
                if report.number is not None and report.outcome is not None:
                    self._known[report.number] = report.outcome
            self._tell(gaps=True)
        error = error or self._bug
        if error is not None:
            raise error
        return self._told

    def _hear(self, report: _Report) -> None:
        assert report.number is not None
        job = self._jobs[report.number]
        if report.work is not None:
            done, total, answer = report.work
            answer.put(self._events.progress(job, done, total))
        elif report.outcome is None:
            self._events.started(job, report.number + 1, len(self._jobs))
        else:
            self._known[report.number] = report.outcome
            self._tell(gaps=False)

    def _tell(self, *, gaps: bool) -> None:
        """Tell what is known, in the jobs' order; past jobs that were not done if `gaps`."""
        following = sorted(self._known) if gaps else iter(lambda: len(self._told), None)
        for number in following:
            outcome = self._known.pop(number, None)
            if outcome is None:
                return
            self._told.append(outcome)
            self._events.finished(outcome)

    def _read_one_more(self) -> None:
        """Ask for the next file: as many are read ahead as there are workers."""
        with self._lock:
            number = self._asked
            if number < len(self._jobs) and not self._stop.is_set():
                self._asked += 1
                self._upcoming.append((number, self._read(self._jobs[number])))

    def _work(self, upscale: Upscale) -> None:
        error: BaseException | None = None
        try:
            while not self._stop.is_set():
                with self._lock:
                    if not self._upcoming:
                        break
                    number, future = self._upcoming.popleft()
                self._do(number, future, upscale)
                del future
        except BaseException as raised:  # raised again where the reports are heard
            error = raised
        self._reports.put(_Report(error=error))

    def _do(self, number: int, future: Future[ImageFile], upscale: Upscale) -> None:
        job = self._jobs[number]
        self._reports.put(_Report(number))
        begin = time.monotonic()
        # Waited for before the next is asked for: one image ahead, not two.
        future.exception()
        self._read_one_more()
        try:
            image = future.result()
            if self._check is not None:
                self._check(image, job.target)
            results = _upscaled(image, upscale, lambda *work: self._progress(number, *work))
        except UpscaleCancelled:
            raise
        except _EXPECTED as error:
            seconds = time.monotonic() - begin
            failed = FileOutcome(job, "failed", _reason(error, job), seconds)
            self._reports.put(_Report(number, outcome=failed))
            return
        pixels = results[0].pixels
        rows = pixels.ndim - (3 if image.channel_axis is not False else 2)
        size = pixels.shape[rows + 1], pixels.shape[rows]
        seconds = time.monotonic() - begin
        outcome = FileOutcome(job, "done", "", seconds, size, results[0].note)
        nbytes = sum(result.pixels.nbytes for result in results)
        with self._room:
            self._room.wait_for(
                lambda: not self._waiting or sum(self._waiting) + nbytes <= self._limit
            )
            self._waiting.append(nbytes)
        writing = self._write(job, image, results)
        writing.add_done_callback(lambda done: self._written(number, outcome, nbytes, done))
        if nbytes > self._limit:
            writing.exception()

    def _written(self, number: int, outcome: FileOutcome, nbytes: int, done: Future[None]) -> None:
        error = done.exception()
        if error is not None:
            reason = _reason(error, outcome.job)
            outcome = replace(outcome, state="failed", reason=reason)
        if error is None or isinstance(error, _EXPECTED):
            self._reports.put(_Report(number, outcome=outcome))
        else:
            self._bug = error
            self._stop.set()
        with self._room:
            self._waiting.remove(nbytes)
            self._room.notify_all()

    def _wait_for_writing(self) -> None:
        with self._room:
            self._room.wait_for(lambda: not self._waiting)

    def _progress(self, number: int, done: int, total: int) -> bool | None:
        """Have `events.progress` called where it is heard, and wait for its answer."""
        answer: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._reports.put(_Report(number, (done, total, answer)))
        while not self._stop.is_set():
            try:
                return answer.get(timeout=0.1)
            except queue.Empty:
                continue
        return False


def _waiting_bytes() -> int:
    """How much of results may wait to be written, whatever memory there is."""
    return max(_LEAST_WAITING, min(_MOST_WAITING, free_ram() // 8))


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
