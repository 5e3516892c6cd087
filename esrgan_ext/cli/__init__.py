"""The command line: `esrgan upscale | models | export | interpolate | train | evaluate |
compare | info`.

Nothing heavy is imported here or at the top of the command modules, so that `esrgan --help`
answers at once; each command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from esrgan_ext import __version__
from esrgan_ext.cli import (
    compare,
    completion,
    evaluate,
    help,
    info,
    mix,
    models,
    process,
    train,
    upscale,
)

EXAMPLES = """
esrgan upscale photo.jpg        # the result is results/photo.jpg
esrgan upscale photos results   # a folder
esrgan upscale --help           # every option, and more examples
"""

completion.answer_the_first_tab()
app = typer.Typer(
    name="esrgan",
    cls=help.Group,
    epilog=EXAMPLES,
    help="Upscale images with the ESRGAN family of networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # see `help`
    context_settings=help.CONTEXT,
)
for name, command, examples, kind in (
    ("upscale", upscale.command, upscale.EXAMPLES, help.Command),
    ("models", models.list_command, models.LIST_EXAMPLES, help.Command),
    ("export", models.export_command, models.EXPORT_EXAMPLES, help.Command),
    ("interpolate", mix.command, mix.EXAMPLES, help.Command),
    ("train", train.command, train.EXAMPLES, help.Command),
    ("evaluate", evaluate.command, evaluate.EXAMPLES, help.Command),
    ("compare", compare.command, compare.EXAMPLES, compare.ListedModels),
    ("info", info.command, info.EXAMPLES, help.Command),
):
    app.command(name, cls=kind, epilog=examples)(command)


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
