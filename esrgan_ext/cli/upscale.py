"""`esrgan upscale`: an image, a folder of them, or a store that is larger than memory."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esrgan_ext.cli import completion, help, options, pipes, store, video
from esrgan_ext.cli.errors import FAILED, INTERRUPTED, reports_errors, say, say_error
from esrgan_ext.errors import OptionError

if TYPE_CHECKING:
    from esrgan_ext.inference.batch import Events, FileOutcome
    from esrgan_ext.inference.folder import FileJob


_DEFAULT_INPUT = Path("LR")

EXAMPLES = """
# one image; the result is results/photo.png
esrgan upscale photo.png

# a folder and its subfolders, with a model by name, as JPEG
esrgan upscale photos results --recursive -m realesrgan-x4plus --format jpg

# microscopy: counts from 0 to 4095, a model that is true to the data
esrgan upscale cells.tif cells_x4.tif -m lite-micro-x4 --data-range 0,4095

# in a pipe: only the image goes to standard output
cat photo.png | esrgan upscale - -o - --format webp > photo_x4.webp

# a slide larger than memory, and part of a clip
esrgan upscale slide.zarr slide_x4.zarr --memory-limit 4GB
esrgan upscale clip.mp4 clip_x4.mp4 --start 10 --end 20
"""


@reports_errors
def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="An image, a folder, a clip or an OME-Zarr store; - is standard input.",
        ),
    ] = _DEFAULT_INPUT,
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUTPUT",
            help="A folder; for one image also a file name, a .zarr, or - for standard output. "
            "Default: results; for standard input -.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A name (see `esrgan models`) or a file. auto: for photos (8-bit colour) "
            "realesrgan-x4plus, which draws detail; for TIFF, OME-Zarr, one channel, 16 bits and "
            "floats the model that is true to the data.",
            autocompletion=completion.models("auto"),
            rich_help_panel=help.MODEL,
        ),
    ] = options.DEFAULT_MODEL,
    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", help="Include subfolders.", rich_help_panel=help.FILES),
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="png, jpg, webp, tif, bmp, avif, jp2 or ppm. Default: each input's own. Results "
            "that the format cannot hold (alpha, 16 bits) become PNG.",
            autocompletion=completion.words(*completion.FORMATS),
            rich_help_panel=help.FILES,
        ),
    ] = None,
    suffix: Annotated[
        str,
        typer.Option(
            "--suffix",
            metavar="TEXT",
            help="Text added to each result's name: --suffix _x4 makes photo_x4.png.",
            rich_help_panel=help.FILES,
        ),
    ] = "",
    output: options.SameAsOutput = None,
    overwrite: options.Overwrite = False,
    outscale: options.Outscale = None,
    tile: options.Tile = "auto",
    overlap: options.Overlap = "auto",
    device: options.Devices = "auto",
    precision: options.Precision = "auto",
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble",
            help="Average the results of 8 flips and rotations; takes 8 times as long.",
            rich_help_panel=help.MODEL,
        ),
    ] = False,
    consistent: Annotated[
        bool,
        typer.Option(
            "--consistent",
            help="Adjust the result so that averaging it down gives the image again. Not for noisy "
            "images: their noise returns.",
            rich_help_panel=help.MODEL,
        ),
    ] = False,
    denoise: Annotated[
        float | None,
        typer.Option(
            "--denoise",
            metavar="0..1",
            help="Strength of denoising, 0 (little) to 1 (all), for models that have the choice "
            "(lite-micro-x4, realesr-general-x4v3). Default: lite-micro-x4 follows the noise of "
            "the image, others stay as they are.",
            rich_help_panel=help.MODEL,
        ),
    ] = None,
    data_range: Annotated[
        str | None,
        typer.Option(
            "--data-range",
            metavar="LOW,HIGH",
            help="Values of black and white, or a word. auto: the image's range without its "
            "darkest and brightest thousandth; minmax: its whole range; type: the range of its "
            "type (0,1 for floats). Default: type for 8 bits, else auto.",
            autocompletion=completion.words("auto", "minmax", "type"),
            rich_help_panel=help.MODEL,
        ),
    ] = None,
    quality: Annotated[
        int,
        typer.Option(
            "--quality",
            "-q",
            metavar="1..100",
            help="Quality of JPEG, AVIF and lossy WebP.",
            rich_help_panel=help.FILES,
        ),
    ] = 95,
    png_level: Annotated[
        int,
        typer.Option(
            "--png-level",
            min=0,
            max=12,
            metavar="LEVEL",
            help="Effort of PNG compression; 6 takes three times as long as 1 for files 5 % "
            "smaller.",
            rich_help_panel=help.FILES,
        ),
    ] = 1,
    max_pixels: options.MaxPixels = None,
    series: Annotated[
        int | None,
        typer.Option(
            "--series",
            min=0,
            metavar="N",
            help="Number of the image to upscale, from 0, in a TIFF that holds several. Default: "
            "all.",
            rich_help_panel=help.FILES,
        ),
    ] = None,
    scheduler: store.Scheduler = None,
    workers: store.Workers = None,
    memory_limit: store.MemoryLimit = None,
    region: store.Region = None,
    level: store.Level = None,
    channels: store.Channels = None,
    ome_zarr: store.OmeVersion = None,
    codec: video.Codec = None,
    crf: video.Crf = None,
    pixel_format: video.PixelFormat = None,
    start: video.Start = None,
    end: video.End = None,
) -> None:
    """Upscale images, clips and OME-Zarr stores.

    Results keep the relative path, name and format of their image. Images that already have a
    result are skipped. OME-Zarr stores, and TIFFs whose result is named .zarr, may be larger than
    memory; run the same command again to continue after an interruption. Exit code: 0 all done, 1
    some failed, 2 bad arguments, 130 interrupted.
    """
    target = options.output(target, output)
    if source == _DEFAULT_INPUT and not source.exists():
        raise OptionError(
            "give INPUT, an image or a folder; by default it is the folder LR, which is not here "
            "(esrgan upscale --help shows examples)"
        )
    if target is None:
        target = pipes.STANDARD if source == pipes.STANDARD else Path("results")
    tile_side = options.number_or_auto("tile", tile)
    overlap_pixels = options.number_or_auto("overlap", overlap)
    value_range = options.data_range(data_range)
    limit = options.limit(max_pixels)
    if not 1 <= quality <= 100:
        raise OptionError(f"--quality must be between 1 and 100, not {quality}")
    if outscale is not None and not 0 < outscale < float("inf"):
        raise OptionError(f"--outscale must be a positive number, not {outscale}")

    if denoise is not None:
        from esrgan_ext.weights.denoise import check_denoise

        if model == options.DEFAULT_MODEL:
            raise OptionError("--denoise needs a model that has the choice, by --model")
        check_denoise(model, denoise, "--denoise")

    arguments = store.StoreArguments(
        scheduler, workers, memory_limit, region, level, channels, ome_zarr
    )
    piped = pipes.check(source, target, recursive=recursive, suffix=suffix)
    if store.is_store_job(source, target):
        if format is not None or suffix or recursive:
            raise OptionError("--format, --suffix and --recursive are not for .zarr results")
        with store.needs_extra():
            from esrgan_ext.inference.large.store.options import StoreOptions

            store.run(
                source,
                target,
                StoreOptions(
                    model=model,
                    outscale=outscale,
                    tile=tile_side,
                    overlap=overlap_pixels,
                    device=device,
                    precision=precision,
                    data_range=value_range,
                    ensemble=ensemble,
                    denoise="auto" if denoise is None else denoise,
                    consistent=consistent,
                    overwrite=overwrite,
                    series=series,
                ),
                arguments,
            )
        return
    arguments.refuse()

    from esrgan_ext.cli import display

    if video.is_moving(source):
        if piped:
            raise OptionError("moving pictures are written to files, not to standard output")
        if format is not None or suffix or recursive or value_range is not None:
            raise OptionError(
                "--format, --suffix, --recursive and --data-range are not for moving pictures"
            )
        video.run(
            source, target, display.console(),
            model=video.DEFAULT_MODEL if model == options.DEFAULT_MODEL else model,
            outscale=outscale, tile=tile_side, overlap=overlap_pixels, device=device,
            precision=precision, ensemble=ensemble, consistent=consistent, overwrite=overwrite,
            quality=quality, codec=codec, crf=crf, pixel_format=pixel_format, start=start, end=end,
            **({} if denoise is None else {"denoise": denoise}),
        )  # fmt: skip
        return
    video.refuse(codec=codec, crf=crf, pixel_format=pixel_format, start=start, end=end)

    from esrgan_ext.inference import folder
    from esrgan_ext.weights import find_model
    from esrgan_ext.weights.choice import PHOTO, is_auto

    naming = folder.Naming(format, suffix)  # checks them
    if piped and target == pipes.STANDARD:
        naming = folder.Naming()  # the file that stands for it has its name
    named = PHOTO if is_auto(model) else model
    factor = float(find_model(named).scale) if outscale is None else outscale
    with (
        pipes.opened(source, target, format, factor)
        if piped
        else nullcontext((source, target)) as (source, target)
    ):
        plan = folder.plan(
            source, target, naming=naming, recursive=recursive, overwrite=overwrite, factor=factor
        )
        out = display.console()
        _say_skipped(plan.skipped)
        _say_left_out(source, recursive)
        if not plan.jobs:
            return

        from esrgan_ext.cli.loading import load
        from esrgan_ext.inference import batch
        from esrgan_ext.inference.workers import file_upscalers, for_jobs, upscalers_on

        upscalers = upscalers_on(
            device,
            model if is_auto(model) else load(model, out, denoise),
            outscale=outscale,
            tile=tile_side,
            overlap=overlap_pixels,
            precision=precision,
            data_range=value_range,
            ensemble=ensemble,
            consistent=consistent,
            denoise="auto" if denoise is None else None,  # a number is in the network already
        )
        if is_auto(model) and any(_may_be_a_photo(job.source) for job in plan.jobs):
            upscalers[0].for_model(PHOTO, load(PHOTO, out))  # downloaded here, with a bar
        outcomes: list[FileOutcome] = []
        try:
            with display.shown(out) as shown:
                outcomes = batch.run(
                    plan.jobs,
                    file_upscalers(for_jobs(upscalers, plan.jobs)),
                    _Counting(shown, outcomes),
                    max_pixels=limit,
                    quality=quality,
                    png_level=png_level,
                    series=series,
                    check=batch.FileUpscaler(upscalers[0]).check,
                )
        except KeyboardInterrupt:
            if piped:
                say_error("interrupted", label="")
                raise typer.Exit(INTERRUPTED) from None
            done = sum(outcome.state == "done" for outcome in outcomes)
            again = options.how_to_continue(overwrite)
            say_error(f"interrupted: {done} of {len(plan.jobs)} done; {again}", label="")
            raise typer.Exit(INTERRUPTED) from None
        _report_failures(outcomes)


def _may_be_a_photo(path: Path) -> bool:
    """Whether `model="auto"` may take the model for photos, by the file's header."""
    from esrgan_ext.errors import ImageFileError
    from esrgan_ext.inference.headers import read_header

    try:
        header = read_header(path)
    except ImageFileError:
        return False  # reading it will fail and say why
    return header.format != "tiff" and (header.bits or 8) <= 8


class _Counting:
    """Passes everything on to the display, and keeps the outcomes for a run that is cut short."""

    def __init__(self, shown: Events, outcomes: list[FileOutcome]) -> None:
        self.started, self.progress = shown.started, shown.progress
        self._finished, self._outcomes = shown.finished, outcomes

    def finished(self, outcome: FileOutcome) -> None:
        self._outcomes.append(outcome)
        self._finished(outcome)


def _say_skipped(skipped: tuple[FileJob, ...]) -> None:
    if len(skipped) == 1:
        say(f"{skipped[0].target} exists: skipped (--overwrite replaces it)")
    elif skipped:
        say(f"{len(skipped)} results exist: skipped (--overwrite replaces them)")


def _say_left_out(source: Path, recursive: bool) -> None:
    """Videos of a folder: they take minutes to hours each, and are started one by one."""
    from esrgan_ext.inference.video.frames import VIDEO_SUFFIXES

    if not source.is_dir():
        return
    below = source.rglob("*") if recursive else source.iterdir()
    videos = sorted(path for path in below if path.suffix.lower() in VIDEO_SUFFIXES)
    if videos:
        others = f" and {len(videos) - 1} more" if len(videos) > 1 else ""
        say(f"{videos[0]}{others}: left out; esrgan upscale takes one video at a time")


def _report_failures(outcomes: list[FileOutcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if not failed:
        return
    say_error(f"{len(failed)} of {len(outcomes)} failed:", label="")
    for outcome in failed:
        say_error(f"{outcome.job.source}: {outcome.reason}", label="  ")
    raise typer.Exit(FAILED)
