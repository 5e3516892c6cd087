"""Options that several commands share, and the reading of values that are a number or a word."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from esrgan_ext.cli import completion, help
from esrgan_ext.errors import OptionError

if TYPE_CHECKING:
    from esrgan_ext.inference.ranges import DataRange

DEFAULT_MODEL = "auto"

Outscale = Annotated[
    float | None,
    typer.Option(
        "--outscale",
        "-s",
        metavar="FACTOR",
        help="Width of the result divided by that of the image. Default: the model's scale.",
        rich_help_panel=help.MODEL,
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        "--tile",
        "-t",
        metavar="PIXELS",
        help="Side of a tile in input pixels, or auto: as large as memory allows.",
        rich_help_panel=help.SPEED,
    ),
]
Overlap = Annotated[
    str,
    typer.Option(
        "--overlap",
        metavar="PIXELS",
        help="Context around a tile in input pixels, or auto: what the model needs.",
        rich_help_panel=help.SPEED,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N or mps.",
        autocompletion=completion.words(*completion.DEVICES),
        rich_help_panel=help.SPEED,
    ),
]
Devices = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N or mps. Images, folders and clips can use several: all ("
        "every GPU), or a list such as cuda:0,cuda:1.",
        autocompletion=completion.words(*completion.SEVERAL_DEVICES),
        rich_help_panel=help.SPEED,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        "-p",
        metavar="NAME",
        help="auto, fp32, fp16 or bf16.",
        autocompletion=completion.words(*completion.PRECISIONS),
        rich_help_panel=help.SPEED,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        help="Refuse images with more pixels than this. Default: 268435456 (2^28).",
        rich_help_panel=help.FILES,
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace results that exist. Without it they are kept.",
        rich_help_panel=help.FILES,
    ),
]
SameAsOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUTPUT",
        help="Where the result goes; another way to give OUTPUT.",
        rich_help_panel=help.FILES,
    ),
]


def output(argument: Path | None, option: Path | None) -> Path | None:
    """Where the result goes, from the argument or from the option of the same name.

    Raises
    ------
    OptionError
        Both were given.
    """
    if argument is not None and option is not None:
        raise OptionError(f"OUTPUT is given twice: {argument}, and {option} by --output")
    return argument if option is None else option


def keep_existing(path: Path, overwrite: bool) -> None:
    """Raise OptionError if a file that is there would be replaced without having been asked for."""
    if not overwrite and os.path.lexists(path):
        raise OptionError(f"{path} exists: give another name, or --overwrite to replace it")


def how_to_continue(overwrite: bool) -> str:
    """Advice after a run that was interrupted."""
    if overwrite:
        return "with --overwrite the same command starts over"
    return "run the same command again to continue"


def number_or_auto(name: str, text: str) -> int | str:
    """A whole number, or "auto".

    Raises
    ------
    OptionError
        It is neither.
    """
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise OptionError(
            f"--{name} must be auto or a whole number of pixels, not {text!r}"
        ) from None


def data_range(text: str | None) -> DataRange:
    """None, a word, or two numbers "LOW,HIGH".

    Raises
    ------
    OptionError
        It is none of these, or the numbers are not finite and ascending.
    """
    if text is None:
        return None
    for word in ("auto", "type", "minmax"):
        if text == word:
            return cast("DataRange", word)
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            f"--data-range must be auto, type, minmax or LOW,HIGH, not {text!r}"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise OptionError(f"--data-range must be two finite numbers, LOW < HIGH, not {text!r}")
    return low, high


def limit(max_pixels: int | None) -> int:
    """The limit on pixels, with its default.

    Raises
    ------
    OptionError
        It is not positive.
    """
    from esrgan_ext.inference.headers import MAX_PIXELS

    if max_pixels is not None and max_pixels < 1:
        raise OptionError(f"--max-pixels must be at least 1, not {max_pixels}")
    return MAX_PIXELS if max_pixels is None else max_pixels
