"""Upscales a file or a folder of files: which result belongs to which input is settled, and
conflicts are found, before work starts; a file that fails does not stop the others. What the
user sees of it is the caller's business, told through `Events`."""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from esrgan_ext.errors import EsrganError, ImageFileError, OptionError, UpscaleCancelled
from esrgan_ext.inference.files import ImageFile, can_hold, read_image, write_image
from esrgan_ext.inference.headers import MAX_PIXELS, SUFFIXES, ImageHeader, read_header
from esrgan_ext.inference.progress import Progress

#: Suffixes that `--format` takes.
FORMATS = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "avif", "jp2", "ppm")

if TYPE_CHECKING:
    from esrgan_ext.inference.upscaler import Upscaler

# A result up to this size is written while the network works on the next image; a larger one is
# written first, because two of them at once may not fit into memory.
_OVERLAP_BYTES = 256 << 20

Upscale = Callable[[ImageFile, Progress], np.ndarray]
"""Upscales one image: pixels of the same axes and dtype come back."""


class FileUpscaler:
    """Upscales the images of files with one `Upscaler`, whichever their channel axis is."""

    def __init__(self, upscaler: Upscaler) -> None:
        self._upscaler = upscaler

    def __call__(self, image: ImageFile, progress: Progress) -> np.ndarray:
        upscaler = copy.copy(self._upscaler)  # shares the network, and all that is ready for it
        upscaler.channel_axis = image.channel_axis
        return upscaler(image.pixels, progress=progress)


@dataclass(frozen=True)
class Naming:
    """How results are named.

    Attributes
    ----------
    format
        Suffix without the dot, or None to keep each input's.
    suffix
        Appended to the stem.
    """

    format: str | None = None
    suffix: str = ""

    def __post_init__(self) -> None:
        if self.format is not None and self.format.lower().lstrip(".") not in FORMATS:
            raise OptionError(f"unknown format {self.format!r}; known: {', '.join(FORMATS)}")
        if any(character in self.suffix for character in "/\\\0"):
            raise OptionError(f"a suffix cannot hold a path separator: {self.suffix!r}")


@dataclass(frozen=True)
class FileJob:
    """One input and the file that its result goes to."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Plan:
    """What is to be done, and the jobs whose results exist already."""

    jobs: tuple[FileJob, ...]
    skipped: tuple[FileJob, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `reason` says why it failed."""

    job: FileJob
    state: Literal["done", "failed"]
    reason: str = ""
    seconds: float = 0.0
    size: tuple[int, int] | None = None


class Events(Protocol):
    """What the caller hears. All calls come from the thread that called `run`."""

    def started(self, job: FileJob, number: int, total: int) -> None:
        """Work on the `number`-th of `total` jobs (counted from 1) begins."""

    def progress(self, done: int, total: int) -> bool | None:
        """`done` of `total` input pixels of the current job; False stops everything."""

    def finished(self, outcome: Outcome) -> None:
        """The result is on disk, or the job has failed."""


def plan(
    source: Path,
    target: Path,
    *,
    naming: Naming | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    factor: float = 4.0,
) -> Plan:
    """Settle which files are upscaled, and where each result goes.

    Parameters
    ----------
    source
        An image file, or a folder of them.
    target
        The folder of the results; for a single file also the name of its result, if it has an
        image's suffix and is no folder.
    naming
        Format and suffix of the results.
    recursive
        Take the folders below too; the results keep their relative paths.
    overwrite
        Do again what has a result already.
    factor
        Output pixels per input pixel: a result too large for its format becomes a PNG.

    Raises
    ------
    OptionError
        There is nothing to do, two inputs have one result, a result would overwrite an input, or
        the folder of the results cannot be written to.
    """
    naming = naming or Naming()
    if not source.exists():
        raise OptionError(f"{source}: there is no such file or folder")
    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise OptionError(f"{target}: is a file; the results of a folder need a folder")
        sources = list(_images(source, recursive, target))
        if not sources:
            known = " ".join(sorted(SUFFIXES))
            below = "" if recursive else "; for the folders below give --recursive"
            raise OptionError(f"{source}: no images in this folder (looked for {known}){below}")
        jobs = [
            FileJob(path, _result_path(path, target / path.relative_to(source), naming, factor))
            for path in sources
        ]
    elif not target.is_dir() and target.suffix.lower() in SUFFIXES:
        if naming.format is not None or naming.suffix:
            raise OptionError("the result is named already: leave out --format and --suffix")
        jobs = [FileJob(source, target)]
    else:
        jobs = [FileJob(source, _result_path(source, target / source.name, naming, factor))]
    jobs = _without_results(jobs) if naming.suffix else jobs
    _require_distinct(jobs)
    present = set() if overwrite else {job for job in jobs if os.path.lexists(job.target)}
    todo = tuple(job for job in jobs if job not in present)
    if todo:
        _require_writable(target if target.is_dir() or source.is_dir() else todo[0].target.parent)
    return Plan(todo, tuple(job for job in jobs if job in present))


def run(
    jobs: Sequence[FileJob],
    upscale: Upscale,
    events: Events,
    *,
    max_pixels: int = MAX_PIXELS,
    quality: int = 95,
) -> list[Outcome]:
    """Do the jobs, one after the other; the files of the next and the previous one are read and
    written meanwhile.

    Whatever interrupts it (Ctrl-C, `events.progress` returning False), results that are
    finished are on disk, and no partial file is.

    Parameters
    ----------
    upscale
        From a file's pixels to the result's.
    max_pixels, quality
        See `read_image` and `write_image`.

    Returns
    -------
    list of Outcome
        One a job, in their order.
    """
    outcomes: list[Outcome] = []
    writing: tuple[FileJob, float, tuple[int, int], Future[None]] | None = None

    def settle() -> None:
        """Wait for the writer; its outcome is the job's."""
        nonlocal writing
        if writing is None:
            return
        job, seconds, size, future = writing
        writing = None
        error = future.exception()
        if error is not None and not isinstance(error, (EsrganError, MemoryError, OSError)):
            raise error
        state: Literal["done", "failed"] = "done" if error is None else "failed"
        reason = "" if error is None else _reason(error, job)
        outcomes.append(Outcome(job, state, reason, seconds, size))
        events.finished(outcomes[-1])

    with (
        ThreadPoolExecutor(1, "esrgan-read") as reader,
        ThreadPoolExecutor(1, "esrgan-write") as writer,
    ):
        upcoming = (
            reader.submit(read_image, jobs[0].source, max_pixels=max_pixels) if jobs else None
        )
        for number, job in enumerate(jobs, start=1):
            assert upcoming is not None
            events.started(job, number, len(jobs))
            begin = time.monotonic()
            current, upcoming = upcoming, None
            try:
                image = current.result()
            except (EsrganError, MemoryError, OSError) as error:
                image, failure = None, error
            del current
            if number < len(jobs):
                upcoming = reader.submit(read_image, jobs[number].source, max_pixels=max_pixels)
            result = None
            if image is not None:
                try:
                    result = upscale(image, events.progress)
                except UpscaleCancelled:
                    settle()
                    raise
                except (EsrganError, MemoryError) as error:
                    failure = error
            settle()
            if image is None or result is None:
                reason = _reason(failure, job)
                outcomes.append(Outcome(job, "failed", reason, time.monotonic() - begin))
                events.finished(outcomes[-1])
                continue
            rows = result.ndim - (3 if image.channel_axis is not False else 2)
            size = (result.shape[rows + 1], result.shape[rows])
            future = writer.submit(_write, job, result, image, quality)
            writing = (job, time.monotonic() - begin, size, future)
            if result.nbytes > _OVERLAP_BYTES:
                settle()
            del image, result, future
        settle()
    return outcomes


def _write(job: FileJob, pixels: np.ndarray, image: ImageFile, quality: int) -> None:
    write_image(job.target, pixels, like=image, quality=quality)


def _reason(error: BaseException, job: FileJob) -> str:
    """The error's message without the name of the file that it is listed under."""
    if isinstance(error, MemoryError) and not str(error):
        return "not enough memory"
    text = str(error) or type(error).__name__
    return text.removeprefix(f"{job.source}: ")


def _images(folder: Path, recursive: bool, excluded: Path) -> Iterator[Path]:
    """Image files by their suffix, sorted; hidden ones and the results' folder are left out."""
    excluded = excluded.resolve()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise OptionError(f"{folder}: cannot be read: {error.strerror or error}") from error
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            # A link to a folder could lead back up, without end.
            if recursive and not entry.is_symlink() and path.resolve() != excluded:
                yield from _images(path, recursive, excluded)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _result_path(source: Path, place: Path, naming: Naming, factor: float) -> Path:
    """`place` with the result's stem and suffix: PNG (or TIFF, for floats) where the format asked
    for cannot hold the result."""
    suffix = place.suffix
    if naming.format is not None:
        suffix = "." + naming.format.lower().lstrip(".")
    elif suffix.lower() not in SUFFIXES:
        suffix = ".png"
    try:
        header = read_header(source)
    except ImageFileError:
        header = None  # named as asked for; reading it will fail and say why
    if header is not None and not _fits(suffix, header, factor):
        suffix = ".png" if _fits(".png", header, factor) else ".tif"
    return place.with_name(place.stem + naming.suffix + suffix)


def _fits(suffix: str, header: ImageHeader, factor: float) -> bool:
    return can_hold(
        suffix,
        alpha=bool(header.has_alpha),
        bits=header.bits or 8,
        width=round(header.width * factor),
        height=round(header.height * factor),
    )


def _without_results(jobs: list[FileJob]) -> list[FileJob]:
    """Leave out inputs that are results of others: an earlier run with a suffix, same folder."""
    targets = {_identity(job.target): job for job in jobs}
    return [
        job
        for job in jobs
        if (other := targets.get(_identity(job.source))) is None or other.source == job.source
    ]


def _require_distinct(jobs: Sequence[FileJob]) -> None:
    sources = {_identity(job.source): job for job in jobs}
    seen: dict[str, FileJob] = {}
    for job in jobs:
        identity = _identity(job.target)
        if identity in seen:
            raise OptionError(
                f"{seen[identity].source} and {job.source} would both become {job.target}; "
                "rename one, or give another --format or --suffix"
            )
        seen[identity] = job
        if identity in sources:
            raise OptionError(
                f"{job.target}: the result of {job.source} would take the place of an input; give "
                "another folder or a --suffix"
            )


def _require_writable(folder: Path) -> None:
    """Make the folder, and a file in it: hours of work should not end at a missing right."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(f"{folder}: cannot be written to: {error.strerror or error}") from error


def _identity(path: Path) -> str:
    """One text for all names of a place, where file systems fold case too."""
    name = str(path.parent.resolve() / path.name)
    return name.casefold() if sys.platform in ("win32", "darwin") else name
