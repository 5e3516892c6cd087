"""The command line: `esrgan upscale | models | export | interpolate | train | evaluate |
compare | info`.

Nothing heavy is imported here or at the top of the command modules, so that `esrgan --help`
answers at once; each command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from esrgan_ext import __version__
from esrgan_ext.cli import compare, evaluate, info, mix, models, process, train, upscale

app = typer.Typer(
    name="esrgan",
    help="Upscale images with the ESRGAN family of networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help is prettier and takes twice as long to appear
)
app.command("upscale")(upscale.command)
app.command("models")(models.list_command)
app.command("export")(models.export_command)
app.command("interpolate")(mix.command)
app.command("train")(train.command)
app.command("evaluate")(evaluate.command)
app.command("compare", cls=compare.ListedModels)(compare.command)
app.command("info")(info.command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"esrgan-ext {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Upscale images with the ESRGAN family of networks."""


def main() -> None:
    """The console script."""
    process.prepare()
    app()
