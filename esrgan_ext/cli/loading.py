"""Loads the model that a command names, with a bar where its weights are downloaded first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.cli import display

if TYPE_CHECKING:
    from rich.console import Console

    from esrgan_ext.models import SRNetwork


def load(name: str, out: Console) -> SRNetwork:
    """The network of a catalogue name or a path.

    Raises
    ------
    ModelError, DownloadError
        See `esrgan_ext.load_model`.
    """
    from typing import cast

    from esrgan_ext.weights import load_model

    bar = display.DownloadBar(out, name)
    try:
        return cast("SRNetwork", load_model(name, progress=bar))
    finally:
        bar.close()
