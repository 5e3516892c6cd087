"""`-`: an image from standard input, a result to standard output.

Formats are read and written as files, which can be read from any place: both ends of a pipe are
files of a temporary folder for as long as the work takes.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esrgan_ext.cli.errors import name_in_messages
from esrgan_ext.errors import ImageFileError, OptionError

STANDARD = Path("-")
_INPUT, _OUTPUT = "standard input", "standard output"


def check(source: Path, target: Path, **others: object) -> bool:
    """Whether an end is `-`.

    Parameters
    ----------
    **others
        Options that are not for pipes, which must be false.

    Raises
    ------
    OptionError
        The other end is not that of one image, or is a terminal. Or the source is a pipe with a
        name.
    """
    if source.exists() and not (source.is_file() or source.is_dir() or source == STANDARD):
        raise OptionError(f"{source}: is a pipe or a device; esrgan upscale - < {source} reads it")
    if STANDARD not in (source, target):
        return False
    from esrgan_ext.inference.headers import SUFFIXES

    for name, value in others.items():
        if value:
            raise OptionError(f"--{name} is not for one image from or to a pipe (-)")
    unnamed = target.is_dir() or target.suffix.lower() not in SUFFIXES
    if target != STANDARD and unnamed:
        raise OptionError(
            f"{target}: an image from standard input has no name: give OUTPUT the name of a file, "
            "or - for standard output"
        )
    if target == STANDARD and (source.is_dir() or source.suffix == ".zarr"):
        raise OptionError(f"{source}: only one image goes to standard output, no folder")
    if source == STANDARD and os.isatty(0):
        raise OptionError("standard input is a terminal: pipe an image into it, or name a file")
    if target == STANDARD and os.isatty(1):
        raise OptionError("standard output is a terminal: add > FILE, or give --output FILE")
    return True


@contextmanager
def opened(
    source: Path, target: Path, format: str | None, factor: float
) -> Iterator[tuple[Path, Path]]:
    """Files in place of the ends that are `-`, for the time of one run.

    When the block ends without an exception, the result goes to standard output. Whatever else is
    printed there meanwhile, by compiled code too, goes to standard error.

    Parameters
    ----------
    source, target : Path
        As `check` accepts them; those that are no `-` come back as they are.
    format : str or None
        Suffix of the result without the dot; by default that of the image, or PNG or TIFF where
        it cannot hold the result.
    factor : float
        Output pixels per input pixel.

    Raises
    ------
    ImageFileError
        Standard input holds no image, or an end breaks off.
    """
    import tempfile  # only here: it would add to the time of every --help

    with tempfile.TemporaryDirectory(prefix="esrgan-") as folder:
        place = Path(folder)
        if source == STANDARD:
            source = _received(place)
        if target != STANDARD:
            yield source, target
            return
        with _only_the_image() as descriptor:
            target = place / f"{_OUTPUT}{_suffix(source, format, factor)}"
            name_in_messages(target, f"{_OUTPUT} ({target.suffix[1:]})")
            yield source, target
            _send(target, descriptor)


def _received(place: Path) -> Path:
    """Standard input as a file, with the suffix of its format."""
    from esrgan_ext.inference.folder import suffix_of
    from esrgan_ext.inference.headers import read_header

    path = place / "received"
    name_in_messages(path, _INPUT)
    try:
        with open(path, "wb") as file, open(0, "rb", closefd=False) as stream:
            shutil.copyfileobj(stream, file)
    except OSError as error:
        raise ImageFileError(f"{_INPUT}: cannot be read: {error.strerror or error}") from error
    image = path.rename(place / f"{_INPUT}{suffix_of(read_header(path))}")
    name_in_messages(image, _INPUT)
    return image


def _suffix(source: Path, format: str | None, factor: float) -> str:
    """The suffix of the result; a format that was asked for is checked when the run is planned."""
    from esrgan_ext.inference.folder import fitting_suffix, suffix_of
    from esrgan_ext.inference.headers import read_header

    if format is not None:
        return "." + format.lower().lstrip(".")
    header = read_header(source)
    return fitting_suffix(suffix_of(header), header, factor)


@contextmanager
def _only_the_image() -> Iterator[int]:
    """A descriptor of standard output for the image; all else goes to standard error."""
    sys.stdout.flush()
    try:
        image = os.dup(1)
    except OSError as error:
        raise ImageFileError(f"{_OUTPUT}: is closed") from error
    try:
        with open(os.devnull, "wb") as nowhere:
            try:
                os.dup2(2, 1)
            except OSError:  # standard error is closed
                os.dup2(nowhere.fileno(), 1)
        yield image
    finally:
        sys.stdout.flush()
        os.dup2(image, 1)
        os.close(image)


def _send(path: Path, descriptor: int) -> None:
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise ImageFileError(f"{_OUTPUT}: cannot be written: {error.strerror or error}") from error
