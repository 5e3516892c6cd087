"""`ModelInfo`: what is known about a model without running it. Torch-free on purpose, so that
tables and help texts stay quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Context that a tile needs on each side where nobody has measured it: what the largest
# measured model (Real-ESRGAN x4plus) needs for an 8-bit result within one level.
DEFAULT_OVERLAP = 64


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be loaded.

    Attributes
    ----------
    name : str
        What `load_model` takes.
    scale : int
        Output pixels per input pixel along each axis.
    blocks : int
        RRDBs (or residual blocks of an SRResNet).
    in_channels, out_channels : int
        Channels of the image.
    purpose : str
        One phrase for a table: what the model is good at.
    license : str
        SPDX expression of the weights, ``"unknown"`` for a file that does not say.
    source : str
        Where the weights come from: a URL, a Python package or a path.
    sha256 : str or None
        Hash of the weights file (of the ``.bin`` for ncnn); None where it was not computed.
    size_bytes : int or None
        Size of that file.
    overlap : int
        Input pixels of context that a tile needs on each side.
    path : Path or None
        The file on this machine (the ``.param`` for ncnn); None where it must be downloaded
        first or where the model exists in memory only.
    """

    name: str
    scale: int
    blocks: int
    in_channels: int
    out_channels: int
    purpose: str
    license: str
    source: str
    sha256: str | None
    size_bytes: int | None
    overlap: int
    path: Path | None
