"""Settles which result belongs to which input, for a file or a folder of files; conflicts are
found here, before work starts. The work itself is `batch`'s."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from esrgan_ext.errors import ImageFileError, OptionError
from esrgan_ext.inference.capacity import Facts, check_target, holds
from esrgan_ext.inference.formats import refused
from esrgan_ext.inference.headers import SUFFIXES, ImageHeader, read_header

#: Suffixes that `--format` takes.
FORMATS = (
    "png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "avif", "jp2", "jxl", "hdr", "exr", "ppm",
    "pfm",
)  # fmt: skip


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
class FilePlan:
    """Jobs to do, and jobs whose results exist already."""

    jobs: tuple[FileJob, ...]
    skipped: tuple[FileJob, ...] = ()


def plan(
    source: Path,
    target: Path,
    *,
    naming: Naming | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    factor: float = 4.0,
) -> FilePlan:
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
        Include subfolders; the results keep their relative paths.
    overwrite
        Redo images that already have a result.
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
        sources = list(images_below(source, recursive=recursive, excluded=target))
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
        _check_named(source, target, factor)
        jobs = [FileJob(source, target)]
    else:
        jobs = [FileJob(source, _result_path(source, target / source.name, naming, factor))]
    jobs = _without_results(jobs) if naming.suffix else jobs
    jobs = _told_apart(jobs, naming.suffix)
    _require_distinct(jobs)
    present = set() if overwrite else {job for job in jobs if os.path.lexists(job.target)}
    todo = tuple(job for job in jobs if job not in present)
    if todo:
        _require_writable(target if target.is_dir() or source.is_dir() else todo[0].target.parent)
    return FilePlan(todo, tuple(job for job in jobs if job in present))


def images_below(
    folder: Path, *, recursive: bool = False, excluded: Path | None = None
) -> Iterator[Path]:
    """Image files of a folder by their suffix, sorted; hidden ones are left out.

    Parameters
    ----------
    recursive
        Include subfolders.
    excluded
        A folder to leave out: that of the results.

    Raises
    ------
    OptionError
        A folder cannot be read.
    """
    excluded = excluded.resolve() if excluded is not None else None
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
                yield from images_below(path, recursive=recursive, excluded=excluded)
        elif path.suffix.lower() in (*SUFFIXES, *refused.SUFFIXES):
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
    if header is not None:
        suffix = fitting_suffix(suffix, header, factor)
    return place.with_name(place.stem + naming.suffix + suffix)


def fitting_suffix(suffix: str, header: ImageHeader, factor: float) -> str:
    """`suffix`, or PNG's (TIFF's, for floats) where its format cannot hold the result."""
    if _fits(suffix, header, factor):
        return suffix
    return ".png" if _fits(".png", header, factor) else ".tif"


def suffix_of(header: ImageHeader) -> str:
    """The suffix of an image without a name."""
    if header.format == "pnm":
        return ".pfm" if header.sample == "f" else ".pnm"
    return next(suffix for suffix, format in SUFFIXES.items() if format == header.format)


def _fits(suffix: str, header: ImageHeader, factor: float) -> bool:
    return holds(suffix, _facts(header, factor))


def _facts(header: ImageHeader, factor: float) -> Facts:
    return Facts(
        max(round(header.width * factor), 1),
        max(round(header.height * factor), 1),
        4 if header.has_alpha else 3,
        header.dtype,
        2 if header.stack else 1,
    )


def _check_named(source: Path, target: Path, factor: float) -> None:
    """Say at once that a result cannot have the name it was given."""
    try:
        header = read_header(source)
    except ImageFileError:
        return  # reading it will fail and say why
    try:
        check_target(target, [_facts(header, factor)])
    except ImageFileError as error:
        raise OptionError(f"{target}: {error}") from error


def _without_results(jobs: list[FileJob]) -> list[FileJob]:
    """Leave out inputs that are results of others: an earlier run with a suffix, same folder."""
    targets = {_identity(job.target): job for job in jobs}
    return [
        job
        for job in jobs
        if (other := targets.get(_identity(job.source))) is None or other.source == job.source
    ]


def _told_apart(jobs: list[FileJob], suffix: str) -> list[FileJob]:
    """Where two inputs would become one result, the later one keeps its whole name in it.

    `anim.gif` beside `anim.png` becomes `anim.gif.png`. The first in the order of names keeps the
    plain one; an input whose own name it is comes before all others.
    """
    own = {_identity(job.target) for job in jobs if job.target.name == job.source.name}
    seen: set[str] = set()
    made = []
    for job in jobs:
        if job.target.name != job.source.name:
            for number in itertools.count(1):
                identity = _identity(job.target)
                if identity not in seen and identity not in own:
                    break
                more = "" if number == 1 else f"-{number}"
                name = f"{job.source.name}{suffix}{more}{job.target.suffix}"
                job = FileJob(job.source, job.target.with_name(name))
            if number > 1:
                told = f"{job.source}: its result is {job.target.name}, another has its name"
                warnings.warn(told, stacklevel=3)
        seen.add(_identity(job.target))
        made.append(job)
    return made


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
