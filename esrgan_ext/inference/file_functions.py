"""`upscale_file` and `upscale_files`: what the command line does with files, for scripts."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from esrgan_ext.errors import ImageFileError, UpscaleCancelled
from esrgan_ext.inference import batch, folder
from esrgan_ext.inference.files import PNG_LEVEL
from esrgan_ext.inference.folder import FileJob, Naming
from esrgan_ext.inference.headers import MAX_PIXELS
from esrgan_ext.inference.options import OptionValues
from esrgan_ext.inference.upscaler import Model, Upscaler
from esrgan_ext.inference.workers import file_upscalers, for_jobs, upscalers_on
from esrgan_ext.weights.choice import AUTO

FileProgress = Callable[[Path, int, int], bool | None]
"""Called as progress(source, done, total), in input pixels of that file; False stops all."""


@dataclass(frozen=True)
class FileResult:
    """The outcome of one file.

    Attributes
    ----------
    source, path : Path
        The image, and the file that its result is in.
    size : (int, int) or None
        Width and height of the result; None where it failed.
    seconds : float
        From reading to the finished pixels.
    error : str or None
        Why it failed.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> for result in esr.upscale_files("photos", "results", "lite-psnr-x4"):
    ...     print(result.source.name, result.error or result.size)
    a.png (96, 64)
    b.png (96, 64)
    """

    source: Path
    path: Path
    size: tuple[int, int] | None
    seconds: float
    error: str | None


def upscale_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: Model = AUTO,
    *,
    quality: int = 95,
    png_level: int = PNG_LEVEL,
    overwrite: bool = True,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], bool | None] | None = None,
    **options: Unpack[OptionValues],
) -> FileResult:
    """Upscale an image file into another, with its metadata, profile, depth and alpha.

    Parameters
    ----------
    source : path
        PNG, JPEG, WebP, TIFF (stacks too), BMP, AVIF, JPEG 2000, PNM.
    target : path
        The result, whose suffix decides the format, or a folder for it.
    model : str, path or SRNetwork
        See `upscale`.
    quality : int
        1 to 100, of JPEG, AVIF and lossy WebP.
    png_level : int
        Effort of a PNG's compression, 0 (none) to 12.
    overwrite : bool
        Take the place of a file that is there.
    max_pixels : int
        Larger images are refused before they are decoded.
    progress : callable, optional
        ``progress(done, total)`` in input pixels; returning False stops.
    **options
        The fields of `UpscaleOptions`; `channel_axis` is the file's business.

    Returns
    -------
    FileResult
        `error` is None.

    Raises
    ------
    ImageFileError
        The image cannot be read, its result cannot be written, or it is there and `overwrite` is
        False.
    OptionError, ModelError, DeviceError, UpscaleCancelled
        See `Upscaler`.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> result = esr.upscale_file("photo.png", "photo_x4.png", "lite-psnr-x4")
    >>> result.path.name, result.size
    ('photo_x4.png', (96, 64))
    """
    upscaler = Upscaler(model, **options)
    plan = _plan(upscaler, source, target, Naming(), False, overwrite)
    if Path(source).is_dir():
        raise ImageFileError(f"{os.fspath(source)}: is a folder: use esrgan_ext.upscale_files")
    if not plan.jobs:
        raise ImageFileError(f"{plan.skipped[0].target}: is there already (overwrite=False)")

    def each(_: Path, done: int, total: int) -> bool | None:
        return None if progress is None else progress(done, total)

    (result,) = _run([upscaler], plan.jobs, each, quality, png_level, max_pixels)
    if result.error is not None:
        raise ImageFileError(f"{result.source}: {result.error}")
    return result


def upscale_files(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: Model = AUTO,
    *,
    format: str | None = None,
    suffix: str = "",
    recursive: bool = False,
    overwrite: bool = False,
    quality: int = 95,
    png_level: int = PNG_LEVEL,
    max_pixels: int = MAX_PIXELS,
    progress: FileProgress | None = None,
    **options: Unpack[OptionValues],
) -> Iterator[FileResult]:
    """Upscale the images of a folder; results come as they are finished.

    Files are read ahead, and results encoded and written by several threads, while the network
    works. A file that fails does not stop the others: its result says why. Images that already have
    a result are skipped and do not appear. Closing the iterator stops the work and leaves no
    partial file.

    Parameters
    ----------
    source, target : path
        A folder of images (or one image), the folder of the results.
    model : str, path or SRNetwork
        See `upscale`.
    format : str, optional
        Suffix of the results without the dot; each input's own by default.
    suffix : str
        Added to each result's name.
    recursive : bool
        Include subfolders.
    overwrite : bool
        Redo images that already have a result.
    quality, png_level, max_pixels : int
        See `upscale_file`.
    progress : callable, optional
        ``progress(source, done, total)`` in input pixels of the file that is worked on, in a
        thread of its own; returning False stops all.
    **options
        The fields of `UpscaleOptions`; `channel_axis` is the file's business. `device` may be
        several, one worker each: a list, 'cuda:0,cuda:1', or 'all' for every GPU.

    Returns
    -------
    iterator of FileResult
        In the order of the files.

    Raises
    ------
    OptionError
        At once: nothing to do there, two inputs with one result, a folder that cannot be written.
    UpscaleCancelled
        From the iterator, if `progress` asked to stop.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> for result in esr.upscale_files("photos", "results", "lite-psnr-x4", suffix="_x4"):
    ...     print(result.path.name if result.error is None else result.error)
    a_x4.png
    b_x4.png
    """
    upscalers = upscalers_on(options.pop("device", "auto"), model, **options)
    plan = _plan(upscalers[0], source, target, Naming(format, suffix), recursive, overwrite)
    return _run(for_jobs(upscalers, plan.jobs), plan.jobs, progress, quality, png_level, max_pixels)


def _plan(
    upscaler: Upscaler,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    naming: Naming,
    recursive: bool,
    overwrite: bool,
) -> folder.FilePlan:
    factor = float(upscaler.scale) if upscaler.outscale is None else upscaler.outscale
    return folder.plan(
        Path(source),
        Path(target),
        naming=naming,
        recursive=recursive,
        overwrite=overwrite,
        factor=factor,
    )


class _Feed:
    """Puts what `batch.run` tells into a queue, and stops it when nobody listens any more."""

    def __init__(self, progress: FileProgress | None) -> None:
        self._progress = progress
        self.closed = False
        self.results: queue.Queue[FileResult | BaseException | None] = queue.Queue()

    def started(self, job: FileJob, number: int, total: int) -> None:
        """Nothing to tell: progress names its file."""

    def progress(self, job: FileJob, done: int, total: int) -> bool | None:
        if self.closed:
            return False
        if self._progress is None:
            return None
        return self._progress(job.source, done, total)

    def finished(self, outcome: batch.FileOutcome) -> None:
        failed = outcome.state == "failed"
        self.results.put(
            FileResult(
                outcome.job.source,
                outcome.job.target,
                outcome.size,
                outcome.seconds,
                outcome.reason if failed else None,
            )
        )


def _run(
    upscalers: list[Upscaler],
    jobs: Any,
    progress: FileProgress | None,
    quality: int,
    png_level: int,
    max_pixels: int,
) -> Iterator[FileResult]:
    feed = _Feed(progress)

    def work() -> None:
        try:
            batch.run(
                jobs, file_upscalers(upscalers), feed, max_pixels=max_pixels, quality=quality,
                png_level=png_level, check=batch.FileUpscaler(upscalers[0]).check,
            )  # fmt: skip
            feed.results.put(None)
        except BaseException as error:  # raised again where the results are taken
            feed.results.put(error)

    worker = threading.Thread(target=work, name="esrgan-files", daemon=True)
    worker.start()
    try:
        while (result := feed.results.get()) is not None:
            if isinstance(result, UpscaleCancelled) and feed.closed:
                return
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        feed.closed = True
        worker.join()
