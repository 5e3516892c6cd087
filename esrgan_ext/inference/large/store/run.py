"""`upscale_store`: a large image on disk to an OME-Zarr store, in a run that can be killed.

The result grows in a folder `<name>.unfinished` beside its place and is renamed when it is
complete: what carries its name is finished.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import zarr
from filelock import FileLock, Timeout

from esrgan_ext.errors import ImageFileError, OptionError, SchedulerError
from esrgan_ext.inference import ranges
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.large import sizes
from esrgan_ext.inference.large.images import ome_zarr, tiff
from esrgan_ext.inference.large.store import executors, prepare, pyramid, resume, several, tasks
from esrgan_ext.inference.large.store.executors import Executor
from esrgan_ext.inference.large.store.options import StoreOptions
from esrgan_ext.inference.large.store.outcome import ChunkOutcome
from esrgan_ext.inference.large.store.prepare import StoreRequest
from esrgan_ext.inference.large.store.tasks import StoreJob


class Events(Protocol):
    """Events of a run, in the thread that called it."""

    def note(self, text: str) -> None:
        """Something to know: where it runs, what was found."""

    def phase(self, name: str, total: int, done: int, factor: float) -> None:
        """A phase of `total` chunks begins, `done` of them earlier; `factor` is pixels of the
        result per pixel of the source."""

    def outcome(self, outcome: ChunkOutcome) -> None:
        """A chunk is done, or has failed (and may be tried again)."""


@dataclass(frozen=True)
class Report:
    """The outcome of `upscale_store`, which has an example.

    Attributes
    ----------
    target : Path
        The store.
    shape : tuple of int
        Shape of the finest level.
    chunks : int
        Number of chunks of the finest level.
    earlier : int
        How many of them an earlier run had written.
    failures : tuple of ChunkOutcome
        Chunks that could not be done; the result is then left unfinished.
    seconds : float
        Duration of this run.
    images : int
        Images in the result, where the file holds several; `shape` and `strengths` are the first
        one's.
    strengths : tuple of float
        Strength of denoising: one, or one for each channel where they ask for different ones;
        empty where the model runs as it stands.
    """

    target: Path
    shape: tuple[int, ...]
    chunks: int
    earlier: int
    failures: tuple[ChunkOutcome, ...]
    seconds: float
    images: int = 1
    strengths: tuple[float, ...] = ()


def upscale_store(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: StoreOptions | None = None,
    events: Events | None = None,
) -> Report:
    """Upscale an OME-Zarr image or a large TIFF into an OME-Zarr store.

    A run that was cut short, by whatever, continues where it stopped when it is called again with
    the same source, target and options. In a script this needs ``if __name__ == "__main__"``,
    since processes are started by spawn.

    Parameters
    ----------
    source : path
        OME-Zarr 0.4 or 0.5, or a TIFF that tifffile reads by tiles.
    target : path
        A folder that is made, named .zarr by custom.
    options : StoreOptions, optional
    events : Events, optional
        Told of progress.

    Returns
    -------
    Report
        With failures, the result stays unfinished, with everything else written.

    Raises
    ------
    ImageFileError, ImageError
        The source cannot be read or upscaled, or the target cannot be written (a full disk).
    OptionError
        An option cannot be used, or the target exists.
    ResumeError
        An unfinished result is there which other options, or another model or source, made.
    SchedulerError
        The cluster does not answer or was lost.
    ModelError, DownloadError, DeviceError
        See `Upscaler`.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> options = esr.StoreOptions(model="lite-micro-x4", device="cpu", workers=1)
    >>> report = esr.upscale_store("plane.ome.tif", "plane_x4.zarr", options)
    >>> report.shape, report.failures
    ((160, 192), ())
    """
    options = options or StoreOptions()
    events = events or _Silent()
    source, target = Path(source), Path(target).absolute()
    images = tiff.count(source) if source.is_file() and options.series is None else 1
    if images > 1:
        return _upscale_several(source, target, options, events, images)
    return _upscale_one(source, target, options, events)


def _upscale_several(
    source: Path, target: Path, options: StoreOptions, events: Events, images: int
) -> Report:
    """Every image of a file into a group of its own; the collection gets its name when all are
    there."""
    start = time.monotonic()
    _check_target(source.absolute(), target, options.overwrite)
    each = [replace(options, series=number, overwrite=False) for number in range(images)]
    # All are looked at before the first is begun.
    known = [] if options.overwrite else several.begun(target)[:images]
    known += [None] * (images - len(known))
    requests = [prepare.prepare(source, *one) for one in zip(each, known, strict=True)]
    folder = several.begin(target, [prepare.identity(r) for r in requests], options.overwrite)
    reports = []
    for number, one in enumerate(each):
        part = folder / str(number)
        if part.exists():
            events.note(f"image {number + 1} of {images} is there")
            continue
        events.note(f"image {number + 1} of {images}")
        settled = prepare.identity(requests[number])
        reports.append(_upscale_one(source, part, one, events, settled))
        if reports[-1].failures:
            break
    failures = reports[-1].failures if reports else ()
    if not failures:
        try:
            several.finish(folder, target, images, requests[0].scene.version)
        except OSError as error:
            raise ImageFileError(
                f"{target}: cannot be written: {error.strerror or error}"
            ) from error
    shape = reports[0].shape if reports else ()
    return Report(
        target,
        shape,
        sum(report.chunks for report in reports),
        sum(report.earlier for report in reports),
        failures,
        time.monotonic() - start,
        images,
        requests[0].strengths,
    )


def _upscale_one(
    source: Path,
    target: Path,
    options: StoreOptions,
    events: Events,
    settled: dict[str, Any] | None = None,
) -> Report:
    """One image; `settled` is what it depends on, where that was found before."""
    start = time.monotonic()
    _check_target(source.absolute(), target, options.overwrite)
    folder = resume.unfinished(target)
    if settled is None and not options.overwrite:
        settled = resume.read_plan(folder)
    request = prepare.prepare(source, options, settled)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / resume.LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise OptionError(f"{target}: another run is writing it just now") from None
    except OSError as error:
        raise ImageFileError(f"{target}: cannot be written: {error.strerror or error}") from error
    try:
        run = _Run(request, folder, target, options, events)
        return run.run(start)
    finally:
        resume.forget(str(folder))
        lock.release()
        _tidy(folder)


class _Run:
    """One call of `upscale_store`."""

    def __init__(
        self,
        request: StoreRequest,
        folder: Path,
        target: Path,
        options: StoreOptions,
        events: Events,
    ) -> None:
        self._request, self._folder, self._target = request, folder, target
        self._options, self._events = options, events

    def run(self, start: float) -> Report:
        request, options = self._request, self._options
        with executors.opened(
            options.scheduler,
            options.workers,
            options.memory_limit,
            {
                each.model.digest: network
                for each, network in zip(request.settings, request.networks, strict=True)
            },
        ) as executor:
            self._events.note(f"runs on {executor.name}")
            if request.choice is not None:
                self._events.note(f"model: {request.choice}")
            if request.denoising is not None:
                self._events.note(f"denoising: {request.denoising}")
            if executor.dashboard:
                self._events.note(f"dashboard: {executor.dashboard}")
            job, plan = self._begin(executor)
            earlier = self._recorded(job)
            grids = range(1 + len(job.coarser))
            before = len(earlier[0])
            if before:
                self._events.note(f"continues: {before} of {len(job.grid)} chunks are there")
            failures: list[ChunkOutcome] = []
            for level in grids:
                failures = self._level(executor, job, level, earlier[level])
                if failures:
                    break
            if not failures:
                self._finish(job, plan)
        shape = job.grid.result_layout.shape
        seconds = time.monotonic() - start
        return Report(
            self._target,
            shape,
            len(job.grid),
            before,
            tuple(failures),
            seconds,
            strengths=request.strengths,
        )

    def _begin(self, executor: Executor) -> tuple[StoreJob, dict[str, Any]]:
        """The job, with a folder that is made for it or continued."""
        anew = self._options.overwrite or not (self._folder / resume.PIXELS).exists()
        found = None if anew else resume.read_plan(self._folder)
        try:
            needs = executor.call(
                sizes.needs_of,
                self._request.settings[0],
                self._request.layout.channels_per_image,
            )
            request = self._request.resolved(needs.precision)
            if found is not None:
                job, plan = prepare.resumed(request, needs, found, str(self._folder))
            else:
                values = self._values(executor, request)
                job, plan = prepare.planned(request, needs, values, str(self._folder))
                self._warn_of_source(request)
                self._create(job, plan)
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from error
        if not executor.call(tasks.sees, str(self._folder), plan["token"]):
            raise SchedulerError(
                f"a worker does not see {self._folder}: source and target must be on storage that "
                "all workers share"
            )
        return job, plan

    def _create(self, job: StoreJob, plan: dict[str, Any]) -> None:
        ours = {resume.PLAN, resume.LOCK, *resume.FOLDERS}
        strange = {entry.name for entry in self._folder.iterdir()} - ours
        if strange:
            raise OptionError(
                f"{self._folder}: holds other things ({sorted(strange)[0]}); unfinished results "
                "go there: move it away"
            )
        (self._folder / resume.PLAN).unlink(missing_ok=True)
        for name in resume.FOLDERS:
            if (self._folder / name).exists():
                shutil.rmtree(self._folder / name)
        self._warn_of_disk(job)
        (self._folder / resume.RECORDS).mkdir()
        pyramid.create(
            job.image,
            job.grid.result_layout,
            self._request.names,
            job.source.dtype,
            self._request.scene.version,
            plan["stored"],
        )
        resume.write_plan(self._folder, plan)

    def _warn_of_disk(self, job: StoreJob) -> None:
        shape, itemsize = job.grid.result_layout.shape, job.values.dtype.itemsize
        needed = itemsize * 4 / 3  # a pyramid adds 1/4 + 1/16 + ...
        for length in shape:
            needed *= length
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            self._events.note(
                f"warning: the result is {needed / 1e9:.1f} GB before compression, and "
                f"{free / 1e9:.1f} GB are free"
            )

    def _warn_of_source(self, request: StoreRequest) -> None:
        missing, total = request.source.missing_chunks()
        if missing:
            self._events.note(
                f"warning: {missing} of {total} chunks of {request.scene.path.name} are missing "
                f"and read as its fill value, {request.source.fill_value}: right for a sparse "
                "image, but if it was copied, copy it again"
            )

    def _values(self, executor: Executor, request: StoreRequest) -> ValueMap:
        """The range of values; where it follows the data, a pass over the region."""
        if not request.follows_data:
            return ranges.fixed_map(request.dtype, request.data_range)
        parts = request.parts()
        found = ranges.RobustRange()
        failed: list[ChunkOutcome] = []

        def on_outcome(outcome: ChunkOutcome) -> bool:
            self._events.outcome(outcome)
            if outcome.error is not None:
                failed.append(outcome)
            elif outcome.found is not None:
                found.merge(outcome.found)
            return not failed

        self._events.phase("value range", len(parts), 0, 1.0)
        executor.run(
            partial(tasks.look_at_part, request.source, parts),
            range(len(parts)),
            on_outcome,
        )
        if failed:
            raise ImageFileError(f"{request.scene.path}: {failed[0].error}")
        values = ranges.data_map(request.dtype, request.data_range, found)
        self._events.note(f"values: {values.low:g} is black, {values.high:g} is white")
        return values

    def _recorded(self, job: StoreJob) -> list[set[int]]:
        """Chunks of each level that are on disk."""
        recorded = resume.recorded(self._folder)
        if recorded:
            pyramid.sweep(job.image)
        earlier = []
        for level in range(1 + len(job.coarser)):
            known = sorted({n for n in recorded.get(level, []) if n < len(job.level(level))})
            lost = set(tasks.missing_files(job, level, known))
            earlier.append(set(known) - lost)
        return earlier

    def _level(
        self, executor: Executor, job: StoreJob, level: int, earlier: set[int]
    ) -> list[ChunkOutcome]:
        """All chunks of a level that are not there; those that fail come back."""
        grid = job.level(level)
        todo = [number for number in range(len(grid)) if number not in earlier]
        layout = job.grid.layout
        ratio = job.grid.result_size[0] * job.grid.result_size[1] / (layout.height * layout.width)
        name = "upscaling" if level == 0 else f"level {level}"
        self._events.phase(name, len(grid), len(earlier), ratio)
        task: Callable[[int], ChunkOutcome] = (
            partial(tasks.write_chunk, job)
            if level == 0
            else partial(tasks.write_coarser, job, level)
        )
        failed: list[ChunkOutcome] = []
        for _ in range(1 + max(self._options.retries, 0)):
            failed = self._attempt(executor, task, todo)
            todo = [outcome.number for outcome in failed]
            if not failed:
                break
        return sorted(failed, key=lambda outcome: outcome.number)

    def _attempt(
        self, executor: Executor, task: Callable[[int], ChunkOutcome], todo: Sequence[int]
    ) -> list[ChunkOutcome]:
        failed: list[ChunkOutcome] = []

        def on_outcome(outcome: ChunkOutcome) -> bool:
            self._events.outcome(outcome)
            if outcome.error is not None:
                failed.append(outcome)
            return not outcome.hopeless

        if todo:
            executor.run(task, todo, on_outcome)
        if failed and failed[-1].hopeless:
            raise self._unwritable(str(failed[-1].error))
        return failed

    def _unwritable(self, reason: str) -> ImageFileError:
        return ImageFileError(
            f"{self._target}: cannot be written: {reason}. What is done stays: run the "
            "same command again to continue"
        )

    def _finish(self, job: StoreJob, plan: dict[str, Any]) -> None:
        """Give the result its metadata and its name."""
        request = self._request
        try:
            group = zarr.open_group(str(job.image), mode="r+")
            provenance = {**plan, "state": "finished"}
            ome_zarr.write_metadata(group, request.scene, request.transforms(job), provenance)
            resume.sync_files([p for p in job.image.iterdir() if p.is_file()])
            if self._target.exists():
                os.replace(self._target, self._folder / resume.REPLACED)
            os.replace(job.image, self._target)
            resume.sync_folder(self._target.parent)
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from error
        with suppress(OSError):
            shutil.rmtree(self._folder)


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if source.resolve() == target.resolve():
        raise OptionError(f"{target}: the result would take the place of the input")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OptionError(f"{target} exists already; overwrite replaces it")
    if not any((target / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        raise OptionError(f"{target}: is no zarr store, and is not overwritten")


def _tidy(folder: Path) -> None:
    """Take away the folder of a run that ended before it began."""
    if not (folder / resume.PLAN).exists():
        with suppress(OSError):
            (folder / resume.LOCK).unlink(missing_ok=True)
            folder.rmdir()


class _Silent:
    def note(self, text: str) -> None: ...

    def phase(self, name: str, total: int, done: int, factor: float) -> None: ...

    def outcome(self, outcome: ChunkOutcome) -> None: ...
