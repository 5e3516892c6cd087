"""`esrgan upscale` of a video or an animation: options, and what a user sees of the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esrgan_ext.cli.errors import INTERRUPTED, say, say_error
from esrgan_ext.cli.options import how_to_continue
from esrgan_ext.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

    from esrgan_ext.inference.video.pipeline import FrameProgress

# The network that is fast enough for thousands of frames and comes with the installation.
DEFAULT_MODEL = "realesr-animevideov3-x4"

PANEL = "Videos and animations"

Codec = Annotated[
    str | None,
    typer.Option(
        "--codec", help="An encoder of ffmpeg. Default: libx264; libvpx-vp9 in .webm.",
        metavar="NAME", rich_help_panel=PANEL,
    ),
]  # fmt: skip
Crf = Annotated[
    int | None,
    typer.Option(
        "--crf", help="Constant rate factor; 0 is the best quality. Default: 18 for libx264.",
        metavar="N", rich_help_panel=PANEL,
    ),
]  # fmt: skip
PixelFormat = Annotated[
    str | None,
    typer.Option(
        "--pixel-format", help="A pixel format of ffmpeg. Default: the source's depth and chroma.",
        metavar="NAME", rich_help_panel=PANEL,
    ),
]  # fmt: skip
Start = Annotated[
    float | None,
    typer.Option("--start", help="Begin at this second.", metavar="SECONDS", rich_help_panel=PANEL),
]
End = Annotated[
    float | None,
    typer.Option("--end", help="End at this second.", metavar="SECONDS", rich_help_panel=PANEL),
]

# Elsewhere than on a terminal.
_LINE_SECONDS = 30.0


def is_moving(source: Path) -> bool:
    """Whether a file is a video by its suffix, or an animated image by its content."""
    from esrgan_ext.inference.files import is_animation
    from esrgan_ext.inference.video.frames import VIDEO_SUFFIXES

    return source.is_file() and (source.suffix.lower() in VIDEO_SUFFIXES or is_animation(source))


def refuse(**given: object) -> None:
    """Raise OptionError for an option of moving pictures that was given for something else."""
    for name, value in given.items():
        if value is not None:
            raise OptionError(f"--{name.replace('_', '-')} is for videos")


def run(source: Path, target: Path, out: Console, **arguments: Any) -> None:
    """Upscale a clip, with its progress on the console.

    Parameters
    ----------
    source, target : Path
        `target` is a file with the suffix of a moving picture, or a folder.
    **arguments
        Arguments of `upscale_video`.
    """
    from esrgan_ext.inference.video.frames import ANIMATION_SUFFIXES, VIDEO_SUFFIXES, clock

    if target.is_dir() or target.suffix.lower() not in (*VIDEO_SUFFIXES, *ANIMATION_SUFFIXES):
        target = target / source.name
    if target.exists() and not arguments.get("overwrite"):
        say(f"{target} exists: skipped (--overwrite replaces it)")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        from esrgan_ext.inference.video import upscale_video
    except ModuleNotFoundError as error:
        raise OptionError(f"{source}: moving pictures need more: {error}") from error
    try:
        with _shown(out, source.name) as progress:
            result = upscale_video(source, target, progress=progress, **arguments)
    except KeyboardInterrupt:
        again = how_to_continue(arguments.get("overwrite", False))
        say_error(f"interrupted: {again}", label="")
        raise typer.Exit(INTERRUPTED) from None
    for note in result.notes:
        say_error(note, label="note: ")
    width, height = result.size
    say(
        f"{target} ({width} x {height}, {result.frames} frames, {clock(result.seconds)}, "
        f"{result.frames / max(result.seconds, 1e-9):.2f} frames/s)"
    )


@contextmanager
def _shown(out: Console, name: str) -> Iterator[FrameProgress]:
    """Frames, frames a second and the time left: a bar on a terminal, else a line at times."""
    from esrgan_ext.inference.video.frames import clock

    begin = last = time.monotonic()
    first: int | None = None

    def text(done: int, total: int | None) -> str:
        # What an earlier run had finished comes at once and says nothing about the speed.
        speed = (done - (first or 0)) / max(time.monotonic() - begin, 1e-9)
        left = "" if not total or not speed else f", {clock((total - done) / speed)} left"
        return f"{name}: {done}/{total or '?'} frames, {speed:.2f} frames/s{left}"

    if not out.is_terminal:

        def line(done: int, total: int | None) -> None:
            nonlocal first, last
            first = done - 1 if first is None else first
            if time.monotonic() - last >= _LINE_SECONDS:
                last = time.monotonic()
                out.print(text(done, total), markup=False)

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(
        BarColumn(), TextColumn("{task.description}", markup=False), console=out, transient=True
    ) as bars:
        task = bars.add_task(name, total=None)

        def bar(done: int, total: int | None) -> None:
            nonlocal first
            first = done - 1 if first is None else first
            bars.update(task, completed=done, total=total, description=text(done, total))

        yield bar
