"""`esrgan compare`: several models' results of the same images in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esrgan_ext.cli import completion, help, options
from esrgan_ext.cli.errors import FAILED, INTERRUPTED, reports_errors, say, say_error

_MODELS = ("--models", "-m")
_LISTING = "esrgan.listing"

EXAMPLES = """
# a model beside bicubic interpolation
esrgan compare cells.tif --models lite-micro-x4 bicubic -o report.html

# with scores against the true images
esrgan compare LR/a.png LR/b.png --models realesrgan-x4plus lite-psnr-x4 --reference HR
"""


class ListedModels(help.Command):
    """A command whose `--models` takes all names that follow it, up to the next option."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        spread: list[str] = []
        listing = False
        for number, argument in enumerate(args):
            if argument == "--":
                spread += args[number:]
                break
            if argument in _MODELS:
                listing, first = True, True
                continue
            if argument.startswith("-"):
                listing = False
            if listing:
                spread += ["--models", argument]
                first = False
            else:
                spread.append(argument)
        if listing and first:
            spread.append("--models")  # without a name: the parser says so
        ctx.meta[_LISTING] = listing
        return super().parse_args(ctx, spread)


_models = completion.models("bicubic")


def _further_models(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Models to complete a name with, where another model may follow."""
    return _models(incomplete) if ctx.meta.get(_LISTING) else []


@reports_errors
def command(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Images to upscale.", autocompletion=_further_models
        ),
    ],
    models: Annotated[
        list[str],
        typer.Option(
            "--models",
            "-m",
            metavar="MODEL...",
            help="Names or files of models of one scale, and bicubic.",
            autocompletion=_models,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")
    ] = Path("compare.html"),
    overwrite: options.Overwrite = False,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="PATH",
            help="The true high-resolution image, or a folder of them, for PSNR and SSIM.",
        ),
    ] = None,
    device: options.Device = "auto",
    max_pixels: options.MaxPixels = None,
) -> None:
    """Compare models on images in an HTML page.

    The page has a swipe, zoom and values; it needs no network and no other files. Exit code: 0 all
    done, 1 some images failed, 2 bad arguments, 130 interrupted.
    """
    limit = options.limit(max_pixels)
    options.keep_existing(output, overwrite)

    from esrgan_ext.cli import display
    from esrgan_ext.cli.loading import load
    from esrgan_ext.evaluation.benchmark import BICUBIC
    from esrgan_ext.evaluation.comparison import compare
    from esrgan_ext.evaluation.page import write_page

    out = display.console()
    networks = [name if name == BICUBIC else load(name, out) for name in models]
    with display.work(out, "comparing") as bars:

        def progress(done: int, total: int) -> None:
            if bars is not None:
                bars.update(bars.task_ids[0], completed=done, total=total)

        try:
            found, failures = compare(
                images, networks, reference, device=device, max_pixels=limit, progress=progress
            )
        except KeyboardInterrupt:
            say_error("interrupted", label="")
            raise typer.Exit(INTERRUPTED) from None
    if found:
        written = write_page(found, output)
        say(f"{written} ({written.stat().st_size / 1e6:.1f} MB, {len(found)} images)")
    if failures:
        say_error(f"{len(failures)} failed:", label="")
        for failure in failures:
            say_error(f"{failure.file}: {failure.reason}", label="  ")
        raise typer.Exit(FAILED)
