"""The errors this package raises on purpose. Each message says what was wrong with which
file or argument and what to do about it; anything else that escapes is a bug."""

from __future__ import annotations


class EsrganError(Exception):
    """Base class of every error that esrgan_ext raises on purpose.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> try:
    ...     esr.load_model("realesrgan")
    ... except esr.EsrganError as error:
    ...     print(type(error).__name__)
    ModelError
    """


class OptionError(EsrganError, ValueError):
    """An argument has a value that cannot be used (a negative tile, alpha = NaN, ...)."""


class ImageError(EsrganError, ValueError):
    """An image array cannot be upscaled (its dtype, shape or values, or its channel count)."""


class ImageFileError(EsrganError):
    """An image file cannot be read or written."""


class ModelError(EsrganError):
    """A model is unknown, its file is damaged, or its layout is not one of ours."""


class ArchitectureMismatch(ModelError, ValueError):
    """Two models cannot be interpolated: they are not of one architecture."""


class DownloadError(ModelError):
    """Weights could not be downloaded (offline, not found, wrong hash, ...)."""


class DeviceError(EsrganError):
    """The requested device or precision is not available on this machine."""


class SchedulerError(EsrganError):
    """The scheduler of a distributed run cannot be reached, or its workers cannot do the work."""


class ResumeError(EsrganError):
    """An unfinished result belongs to another model, other options or another input."""


class OutOfMemory(EsrganError, MemoryError):
    """Even the smallest tile did not fit into the device's memory."""


class UpscaleCancelled(EsrganError):
    """The progress callback asked for the work to stop; nothing was returned."""


class TrainingError(EsrganError):
    """Training cannot start or go on: its data, its checkpoint or its losses are at fault."""


def first_line(error: BaseException | None) -> str:
    """The first line of what an error says, for a message of one line; its type where it says
    nothing."""
    lines = str(error or "").strip().splitlines()
    return lines[0] if lines else type(error).__name__
