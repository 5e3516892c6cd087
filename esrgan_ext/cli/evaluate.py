"""`esrgan evaluate`: PSNR, SSIM and a perceptual distance of models on a folder of HR images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esrgan_ext.cli import completion, help, options
from esrgan_ext.cli.errors import FAILED, INTERRUPTED, reports_errors, say, say_error
from esrgan_ext.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

    from esrgan_ext.evaluation.pairs import Failure
    from esrgan_ext.evaluation.results import ImageResult, Scores


EXAMPLES = """
# two models and bicubic interpolation on a folder of high-resolution images
esrgan evaluate -m realesrgan-x4plus -m lite-psnr-x4 -m bicubic --hr Set14

# with low-resolution images of your own, as JSON
esrgan evaluate -m mine.safetensors --hr HR --lr LR --json
"""

_MEASURES = "Measures"


@reports_errors
def command(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Name or file of a model, or bicubic for MATLAB's interpolation. May be given "
            "several times.",
            autocompletion=completion.models("bicubic"),
            rich_help_panel=help.MODEL,
        ),
    ],
    hr: Annotated[
        Path,
        typer.Option(
            "--hr",
            metavar="PATH",
            help="Folder of high-resolution images, or one image.",
            rich_help_panel=help.FILES,
        ),
    ],
    lr: Annotated[
        Path | None,
        typer.Option(
            "--lr",
            metavar="PATH",
            help="Low-resolution images of the same names. Default: made by MATLAB's bicubic "
            "interpolation.",
            rich_help_panel=help.FILES,
        ),
    ] = None,
    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", help="Include subfolders.", rich_help_panel=help.FILES),
    ] = False,
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale",
            metavar="N",
            help="Scale to measure at. Default: the model's; 4 for bicubic alone.",
            rich_help_panel=help.MODEL,
        ),
    ] = None,
    border: Annotated[
        int | None,
        typer.Option(
            "--border",
            metavar="PIXELS",
            help="Pixels cut from each side before measuring. Default: the scale.",
            rich_help_panel=_MEASURES,
        ),
    ] = None,
    perceptual: Annotated[
        str,
        typer.Option(
            "--perceptual",
            metavar="NAME",
            help="Perceptual distance: st-lpips, lpips, none, a file of ST-LPIPS weights, or auto "
            "(ST-LPIPS if its weights are found).",
            autocompletion=completion.words("auto", "st-lpips", "lpips", "none"),
            rich_help_panel=_MEASURES,
        ),
    ] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, instead of tables.")
    ] = False,
    plot_file: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw quality against time into a .png, .svg or .pdf (needs matplotlib).",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    tile: options.Tile = "auto",
    overlap: options.Overlap = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble",
            help="Average the results of 8 flips and rotations; takes 8 times as long.",
            rich_help_panel=help.MODEL,
        ),
    ] = False,
    max_pixels: options.MaxPixels = None,
) -> None:
    """Measure models against high-resolution images.

    Upscales low-resolution images and prints PSNR and SSIM on Y and on RGB, as the literature
    computes them, for every image and on average; several models side by side. Exit code: 0 all
    done, 1 some images failed, 2 bad arguments, 130 interrupted.
    """
    tile_side = options.number_or_auto("tile", tile)
    overlap_pixels = options.number_or_auto("overlap", overlap)
    limit = options.limit(max_pixels)
    if scale is not None and scale < 1:
        raise OptionError(f"--scale must be at least 1, not {scale}")
    if border is not None and border < 0:
        raise OptionError(f"--border must be at least 0, not {border}")
    for path in (hr, lr):
        if path is not None and not path.exists():
            raise OptionError(f"{path}: there is no such file or folder")

    from esrgan_ext.cli import display
    from esrgan_ext.cli.loading import load
    from esrgan_ext.evaluation import plot
    from esrgan_ext.evaluation.benchmark import BICUBIC, evaluate

    if plot_file is not None:
        plot_file = plot.check_plot(plot_file)
        options.keep_existing(plot_file, overwrite)
    # With --json stdout holds the JSON alone.
    out = display.console(stderr=as_json)
    networks = [name if name == BICUBIC else load(name, out) for name in model]
    with display.work(out, "evaluating") as bars:
        report = _Report(None if as_json else out)

        def progress(done: int, total: int) -> None:
            if bars is not None:
                bars.update(bars.task_ids[0], completed=done, total=total)

        try:
            found = evaluate(
                networks,
                hr,
                lr,
                scale=scale,
                border=border,
                perceptual=None if perceptual == "none" else perceptual,
                recursive=recursive,
                tile=tile_side,
                overlap=overlap_pixels,
                device=device,
                precision=precision,
                ensemble=ensemble,
                max_pixels=limit,
                progress=progress,
                events=report,
            )
        except KeyboardInterrupt:
            say_error(f"interrupted: {report.images} of {report.total} done", label="")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    elif found.results:
        report.means({name: found.mean(name) for name in found.models})
        cut = f"{found.border} pixels" if found.border else "nothing"
        note = "" if found.perceptual else "; no perceptual distance: see docs/evaluation.md"
        say(f"x{found.scale}, {cut} cut from each side{note}")
    if plot_file is not None and found.results:
        written = plot.plot(found, plot_file)
        if not as_json:
            say(str(written))
    _report_failures(found.failures)


class _Report:
    """Prints a row for each image and model as soon as it is known, or only counts them."""

    def __init__(self, out: Console | None) -> None:
        self._out = out
        self._names = self._models = 0  # widths of the first two columns
        self._many = False
        self._perceptual: str | None = None
        self.images = self.total = 0

    def started(self, names: Sequence[str], models: Sequence[str], perceptual: str | None) -> None:
        self.total = len(names)
        self._names = max(map(len, ("image", *names)))
        self._models = max(map(len, ("model", *models)))
        self._many, self._perceptual = len(models) > 1, perceptual
        columns = ["PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"]
        if perceptual:
            columns.append(perceptual)
        self._say(self._start("image", "model") + "".join(f"{column:>10}" for column in columns))

    def evaluated(self, results: Sequence[ImageResult]) -> None:
        self.images += 1
        for result in results:
            self._row(result.image, result.model, result.scores)

    def failed(self, failure: Failure) -> None:
        self._say(f"{failure.file}: failed: {failure.reason}")

    def means(self, means: dict[str, Scores]) -> None:
        """The last rows: one for each model."""
        self._say("")
        for model, scores in means.items():
            self._row("mean", model, scores)

    def _row(self, image: str, model: str, scores: Scores) -> None:
        row = f"{scores.psnr_y:10.2f}{scores.ssim_y:10.4f}"
        row += f"{scores.psnr_rgb:10.2f}{scores.ssim_rgb:10.4f}"
        if scores.perceptual is not None:
            row += f"{scores.perceptual:10.4f}"
        self._say(self._start(image, model) + row)

    def _start(self, image: str, model: str) -> str:
        second = f"  {model:<{self._models}}" if self._many else ""
        return f"{image:<{self._names}}{second}"

    def _say(self, line: str) -> None:
        if self._out is not None:
            self._out.print(line, markup=False)


def _report_failures(failures: Sequence[Failure]) -> None:
    if not failures:
        return
    say_error(f"{len(failures)} failed:", label="")
    for failure in failures:
        say_error(f"{failure.file}: {failure.reason}", label="  ")
    raise typer.Exit(FAILED)
