"""`esrgan upscale slide.zarr out.zarr`: images larger than memory, into OME-Zarr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from esrgan_ext.cli import completion
from esrgan_ext.cli.errors import FAILED, INTERRUPTED, say, say_error
from esrgan_ext.cli.options import how_to_continue
from esrgan_ext.errors import OptionError

if TYPE_CHECKING:
    from esrgan_ext.inference.large.store.options import StoreOptions
    from esrgan_ext.inference.large.store.run import Report

_ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")

PANEL = "OME-Zarr: images larger than memory (results named .zarr)"

# Failed chunks that are listed one by one; more of them have one cause, mostly.
_LISTED = 20

Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="NAME",
        help="threads, processes, or the address of a dask scheduler, tcp://HOST:PORT. Default: "
        "threads.",
        autocompletion=completion.words("threads", "processes"),
        rich_help_panel=PANEL,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Number of threads or processes. Default: 2.",
        rich_help_panel=PANEL,
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        help="Memory of one worker, such as 500MB or 4GB. Default: 3GB.",
        rich_help_panel=PANEL,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="Y0:Y1,X0:X1",
        help="Upscale this rectangle only, in pixels of the level.",
        rich_help_panel=PANEL,
    ),
]
Level = Annotated[
    int | None,
    typer.Option(
        "--level",
        metavar="N",
        help="Level of the input's pyramid; 0 is the largest. Default: 0.",
        rich_help_panel=PANEL,
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        "--channels",
        metavar="HOW",
        help="rgb (one colour image), separate (each by itself), or auto: rgb for three channels "
        "of 8 bits. Default: auto.",
        autocompletion=completion.words("auto", "rgb", "separate"),
        rich_help_panel=PANEL,
    ),
]
OmeVersion = Annotated[
    str | None,
    typer.Option(
        "--ome-zarr",
        metavar="VERSION",
        help="Version of OME-Zarr to write, 0.4 or 0.5. Default: the input's.",
        autocompletion=completion.words("0.4", "0.5"),
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class StoreArguments:
    """The options of `esrgan upscale` that are for stores alone, as they were typed."""

    scheduler: str | None
    workers: int | None
    memory_limit: str | None
    region: str | None
    level: int | None
    channels: str | None
    ome_zarr: str | None

    def refuse(self) -> None:
        """Raise OptionError where one was given for an image that is no store."""
        for name, value in vars(self).items():
            if value is not None:
                raise OptionError(
                    f"--{name.replace('_', '-')} is for results in OME-Zarr: name one that ends in "
                    ".zarr"
                )


def is_store_job(source: Path, target: Path) -> bool:
    """Whether an input or the result is a zarr store."""
    if target.suffix == ".zarr":
        return True
    if source.is_dir():
        return source.suffix == ".zarr" or any((source / n).exists() for n in _ZARR_FILES)
    return source.suffix == ".zarr"


@contextmanager
def needs_extra() -> Iterator[None]:
    """Say how to install what stores need, where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("dask", "distributed", "zarr", "ome_zarr"):
            raise
        raise OptionError(
            f"stores need {error.name}: pip install 'esrgan-ext[distributed]'"
        ) from error


def run(source: Path, target: Path, options: StoreOptions, arguments: StoreArguments) -> None:
    """Upscale into a store, with progress; the exit code as for files."""
    from esrgan_ext.cli import display, store_display

    if target.suffix != ".zarr":
        target = target / f"{source.name.removesuffix('.zarr')}.zarr"
    if target.exists() and not options.overwrite:
        say(f"{target} exists: skipped (--overwrite replaces it)")
        return
    options = _completed(options, arguments)
    from esrgan_ext.cli.loading import load
    from esrgan_ext.inference.large import upscale_store
    from esrgan_ext.weights import find_model
    from esrgan_ext.weights.choice import is_auto

    out = display.console()
    if not is_auto(options.model) and (
        isinstance(options.denoise, float) or find_model(options.model).path is None  # type: ignore[arg-type]
    ):
        strength = options.denoise if isinstance(options.denoise, float) else None
        load(str(options.model), out, strength)  # downloaded here, with a bar; workers find it
    with store_display.shown(out) as events:
        try:
            report = upscale_store(source, target, options, events)
        except KeyboardInterrupt:
            say_error(
                f"interrupted: {events.done} of {events.total} chunks done; "
                f"{how_to_continue(options.overwrite)}",
                label="",
            )
            raise typer.Exit(INTERRUPTED) from None
    _conclude(report)


def _completed(options: StoreOptions, arguments: StoreArguments) -> StoreOptions:
    from dataclasses import replace

    from dask.utils import parse_bytes

    from esrgan_ext.inference.large.images.image import Channels
    from esrgan_ext.inference.large.store.options import parse_region

    if arguments.channels not in (None, "auto", "rgb", "separate"):
        raise OptionError(f"--channels must be auto, rgb or separate, not {arguments.channels!r}")
    limit = options.memory_limit
    if arguments.memory_limit is not None:
        try:
            limit = int(parse_bytes(arguments.memory_limit))
        except ValueError:
            raise OptionError(
                f"--memory-limit must be a size such as 4GB, not {arguments.memory_limit!r}"
            ) from None
    return replace(
        options,
        scheduler=arguments.scheduler or options.scheduler,
        workers=arguments.workers,
        memory_limit=limit,
        region=None if arguments.region is None else parse_region(arguments.region),
        level=arguments.level or 0,
        channels=cast(Channels, arguments.channels or "auto"),
        version=arguments.ome_zarr,
    )


def _conclude(report: Report) -> None:
    if report.failures:
        say_error(
            f"{len(report.failures)} chunks failed; all others are written. Run the same command "
            "again, without --overwrite, to retry these:",
            label="",
        )
        for outcome in report.failures[:_LISTED]:
            say_error(f"{outcome.place}: {outcome.error}", label="  ")
        if len(report.failures) > _LISTED:
            say_error(f"and {len(report.failures) - _LISTED} more", label="  ")
        raise typer.Exit(FAILED)
    if report.images > 1:
        say(f"{report.target} ({report.images} images, {report.seconds:.1f} s)")
        return
    shape = " x ".join(map(str, report.shape))
    say(f"{report.target} ({shape}, {report.chunks} chunks, {report.seconds:.1f} s)")
