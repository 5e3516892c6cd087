"""Loads the model that a command names, with a bar where its weights are downloaded first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.cli import display

if TYPE_CHECKING:
    from rich.console import Console

    from esrgan_ext.models import SRNetwork


def load(name: str, out: Console, denoise: float | None = None) -> SRNetwork:
    """The network of a catalogue name or a path, with a strength of denoising.

    Raises
    ------
    ModelError, DownloadError
        See `esrgan_ext.load_model`.
    OptionError
        The model has no choice of denoising.
    """
    from typing import cast

    from esrgan_ext.weights import load_denoising

    bar = display.DownloadBar(out, name)
    try:
        return cast("SRNetwork", load_denoising(name, denoise, progress=bar))
    finally:
        bar.close()
