"""`esrgan models` and `esrgan export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from esrgan_ext.cli import completion, options
from esrgan_ext.cli.errors import reports_errors, say
from esrgan_ext.errors import OptionError

if TYPE_CHECKING:
    from esrgan_ext.weights import ModelInfo
    from esrgan_ext.weights.info import Role

GROUPS: dict[Role | None, str] = {
    "faithful": "true to the data",
    "photo": "photos: draws detail",
    "drawing": "drawings: draws detail",
    None: "your own files",
}


LIST_EXAMPLES = """
# the models, with what each is for
esrgan models

# with source, license and checksum, as JSON
esrgan models --json
"""

EXPORT_EXAMPLES = """
# for a runtime of ONNX
esrgan export realesrgan-x4plus realesrgan.onnx

# for Fiji (DeepImageJ), ilastik and QuPath
esrgan export lite-micro-x4 lite-micro-x4.zip
"""


@reports_errors
def list_command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything known, as JSON.")
    ] = False,
) -> None:
    """List the models."""
    from esrgan_ext.weights import list_models

    models = list_models()
    if as_json:
        import dataclasses
        import json

        rows = [dataclasses.asdict(model) for model in models]
        typer.echo(json.dumps(rows, indent=2, default=str))
        return

    from rich.table import Table
    from rich.text import Text

    from esrgan_ext.cli import display

    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    table.add_column("name", no_wrap=True)
    table.add_column("scale", justify="right")
    table.add_column("blocks", justify="right")
    table.add_column("for")
    table.add_column("license", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    group: Role | Literal[""] | None = ""
    for model in sorted(models, key=_order):
        if model.role != group:
            group = model.role
            table.add_row(Text(GROUPS[group], style="bold"))
        table.add_row(
            model.name, f"x{model.scale}", str(model.blocks), model.purpose, model.license,
            _place(model),
        )  # fmt: skip
    display.console().print(table, soft_wrap=False)


def _order(model: ModelInfo) -> int:
    """Groups one after the other, the models of each as they were; one's own files last."""
    return list(GROUPS).index(model.role)


def _place(model: ModelInfo) -> str:
    if model.path is not None:
        return "here"
    return "download"


@reports_errors
def export_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Name or file of the model.", autocompletion=completion.models()
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUTPUT",
            help="File to write; its suffix decides the format.",
            show_default=False,
        ),
    ] = None,
    output: options.SameAsOutput = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Convert a model to another format.

    By the suffix of OUTPUT: .safetensors, .pth (PyTorch), .onnx, or .zip (a package of the
    BioImage.IO model zoo).
    """
    from esrgan_ext.cli import display
    from esrgan_ext.cli.loading import load
    from esrgan_ext.weights import export_model

    target = options.output(target, output)
    if target is None:
        raise OptionError("give OUTPUT, the file to write")
    options.keep_existing(target, overwrite)
    written = export_model(load(model, display.console()), target)
    say(f"{written} ({written.stat().st_size / 1e6:.1f} MB)")
