"""How errors, warnings and Ctrl-C leave the command line: one clear line, and an exit code."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, TypeVar

import typer

from esrgan_ext.errors import (
    DeviceError,
    DownloadError,
    EsrganError,
    ModelError,
    OptionError,
)
from esrgan_ext.literal import literal

FAILED, BAD_ARGUMENTS, INTERRUPTED = 1, 2, 130

# Files that messages call otherwise: those that stand for the ends of a pipe.
_NAMES: dict[str, str] = {}

Command = TypeVar("Command", bound=Callable[..., None])


def exit_code(error: EsrganError) -> int:
    """2 where an argument is to blame (a value, a model, a device), 1 where the work failed."""
    if isinstance(error, DownloadError):
        return FAILED
    if isinstance(error, (OptionError, ModelError, DeviceError)):
        return BAD_ARGUMENTS
    return FAILED


def reports_errors(command: Command) -> Command:
    """Decorate a command: its errors become one line on stderr and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: object, **options: object) -> None:
        warnings.showwarning = _show_warning
        # tifffile logs what it also raises, and what it tolerates.
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        try:
            command(*args, **options)
        except EsrganError as error:
            say_error(str(error))
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            say_error("interrupted", label="")
            raise typer.Exit(INTERRUPTED) from None

    return wrapped  # type: ignore[return-value]


def name_in_messages(path: Path, name: str) -> None:
    """Call a file by another name in all that is printed from now on."""
    _NAMES[str(path)] = name


def readable(text: str) -> str:
    """Text for the terminal: files by the names that people know, and nothing that it obeys."""
    for path, name in _NAMES.items():
        text = text.replace(path, name)
    return literal(text)


def say(message: str) -> None:
    """One line on stdout; names in it are shown as they are."""
    typer.echo(readable(message))


def say_error(message: str, label: str = "error: ") -> None:
    """One message on stderr, with its label in red on a terminal."""
    typer.echo(typer.style(label, fg="red", bold=True) + readable(message), err=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Warnings without the place in the source, which says nothing to a user."""
    typer.echo(typer.style("warning: ", fg="yellow", bold=True) + readable(str(message)), err=True)
