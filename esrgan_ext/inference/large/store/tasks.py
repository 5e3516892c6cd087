"""Tasks of workers: compute a chunk and write it, halve a level, find the range of values.

A task is a `StoreJob` of a kilobyte and a number. It answers with a `ChunkOutcome` and never
raises: one chunk that fails must not end the others.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esrgan_ext.errors import EsrganError, UpscaleCancelled
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.large.compute import compute_chunk
from esrgan_ext.inference.large.grid import Grid
from esrgan_ext.inference.large.images.source import Source, describe
from esrgan_ext.inference.large.store import pyramid, resume
from esrgan_ext.inference.large.store.outcome import ChunkOutcome, stop
from esrgan_ext.inference.model_cache import Settings
from esrgan_ext.inference.ranges import part_range
from esrgan_ext.inference.tiles import Rect

# After these no other chunk can be written either, and going on would be work for nothing.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class StoreJob:
    """The part of a run that all its tasks share.

    Attributes
    ----------
    folder : str
        Folder of the unfinished result, see `resume`.
    source : Source
    settings : tuple of Settings
        One, or one for each channel.
    grid : Grid
        Grid of the finest level.
    coarser : tuple of Grid
        Grids of the others; their `side` alone matters, and their layout.
    values : ValueMap
    """

    folder: str
    source: Source
    settings: tuple[Settings, ...]
    grid: Grid
    coarser: tuple[Grid, ...]
    values: ValueMap

    @property
    def image(self) -> Path:
        return Path(self.folder) / resume.PIXELS

    def level(self, number: int) -> Grid:
        return self.grid if number == 0 else self.coarser[number - 1]


def _heed_stop(macs: int) -> None:
    if stop.is_set():
        raise UpscaleCancelled("the run has ended")


def write_chunk(job: StoreJob, number: int) -> ChunkOutcome:
    """Compute a chunk of the finest level, write it, see it onto the disk, record it."""
    start = time.perf_counter()
    chunk = job.grid.chunk(number)
    store_rect = job.grid.store_rect(chunk)
    try:
        window = job.grid.source_window(chunk)
        source = job.grid.layout.read(job.source, chunk.image, window)  # type: ignore[arg-type]
        result = compute_chunk(source, job.settings, job.grid, job.values, chunk, _heed_stop)
        _put(job, 0, number, result)
    except Exception as error:
        return _failed(job, 0, number, error)
    seconds = time.perf_counter() - start
    return ChunkOutcome(number, _named(job, 0, number), store_rect.pixels, seconds)


def write_coarser(job: StoreJob, level: int, number: int) -> ChunkOutcome:
    """Make a chunk of a coarser level out of the level before it."""
    start = time.perf_counter()
    grid, finer = job.level(level), job.level(level - 1)
    chunk = grid.chunk(number)
    store_rect = grid.store_rect(chunk)
    try:
        height, width = finer.result_layout.height, finer.result_layout.width
        finer_rect = Rect(
            2 * store_rect.y0,
            min(2 * store_rect.y1, height),
            2 * store_rect.x0,
            min(2 * store_rect.x1, width),
        )
        array = pyramid.open_level(job.image, level - 1)
        below = finer.result_layout.read(array, chunk.image, finer_rect)  # type: ignore[arg-type]
        _put(job, level, number, pyramid.halved(below))
    except Exception as error:
        return _failed(job, level, number, error)
    seconds = time.perf_counter() - start
    return ChunkOutcome(number, _named(job, level, number), store_rect.pixels, seconds)


def look_at_part(
    source: Source, indices: tuple[tuple[slice, ...], ...], number: int
) -> ChunkOutcome:
    """The values of one part of the source, for the range of all."""
    try:
        found = part_range(source[indices[number]])
    except Exception as error:
        return ChunkOutcome(number, describe(indices[number]), error=_reason(error))
    return ChunkOutcome(number, found=found)


def sees(folder: str, token: str) -> bool:
    """Whether this process sees an unfinished result: the same one, not one of the same name."""
    plan = resume.read_plan(Path(folder))
    return plan is not None and plan.get("token") == token


def missing_files(job: StoreJob, level: int, numbers: list[int]) -> list[int]:
    """Those of the recorded chunks whose files are not all there."""
    grid = job.level(level)
    array = pyramid.open_level(job.image, level)
    lost = []
    for number in numbers:
        chunk = grid.chunk(number)
        files = pyramid.chunk_files(
            job.image, level, array, grid.result_layout, chunk.image, grid.store_rect(chunk)
        )
        if not all(file.exists() for file in files):
            lost.append(number)
    return lost


def _put(job: StoreJob, level: int, number: int, result: np.ndarray) -> None:
    grid = job.level(level)
    chunk, layout = grid.chunk(number), grid.result_layout
    store_rect = grid.store_rect(chunk)
    array = pyramid.open_level(job.image, level)
    array[layout.slices(chunk.image, store_rect)] = layout.arrange(result)
    files = pyramid.chunk_files(job.image, level, array, layout, chunk.image, store_rect)
    resume.sync_files(files)
    resume.record(job.folder, level, number)


def _failed(job: StoreJob, level: int, number: int, error: Exception) -> ChunkOutcome:
    hopeless = isinstance(error, OSError) and error.errno in _HOPELESS
    return ChunkOutcome(number, _named(job, level, number), error=_reason(error), hopeless=hopeless)


def _reason(error: Exception) -> str:
    if isinstance(error, EsrganError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _named(job: StoreJob, level: int, number: int) -> str:
    grid = job.level(level)
    chunk = grid.chunk(number)
    index = grid.result_layout.slices(chunk.image, grid.store_rect(chunk))
    return f"level {level} [{describe(index)}]"
