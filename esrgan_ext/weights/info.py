"""`ModelInfo`: what is known about a model without running it. Torch-free on purpose, so that
tables and help texts stay quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["faithful", "photo", "drawing"]
"""A model's role: measuring (trained for the smallest error, it invents nothing), photos and
drawings (trained to look right, it draws detail)."""

# Context that a tile needs on each side where nobody has measured it: what the largest
# measured model (Real-ESRGAN x4plus) needs for an 8-bit result within one level.
_DEFAULT_OVERLAP = 64


def default_overlap(config: object) -> int:
    """Context that tiles of a network of this configuration get where nobody measured it.

    All that it sees where the configuration says how far that is (compact networks see little),
    else 64 in pixels of its trunk.
    """
    reach = getattr(config, "reach", None)
    return _DEFAULT_OVERLAP * getattr(config, "unshuffle", 1) if reach is None else reach


def overlap_for(network: Any) -> int:
    """Context that a tile of a network needs on each side, in input pixels.

    The measured figure of its `ModelInfo`, else `default_overlap`; never more than the network
    sees.

    Parameters
    ----------
    network : SRNetwork
    """
    info = network.info
    overlap = default_overlap(network.config) if info is None else info.overlap
    return min(overlap, network.reach)


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be loaded.

    Attributes
    ----------
    name : str
        Catalogue name, path or name of its own, as `load_model` takes it.
    scale : int
        Output pixels per input pixel along each axis.
    blocks : int
        RRDBs, residual blocks of an SRResNet, or convolutions of a compact network.
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
    architecture : str
        'RRDBNet', 'SRResNet' or 'SRVGGNetCompact'.
    denoise : tuple of (str, str) or None
        Names of two models that differ in how much noise they take away, the weaker first, one of
        which this is. `denoise` from 0 to 1 mixes them.
    role : 'faithful', 'photo', 'drawing' or None
        None where nobody says: a file of the user's.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> info = esr.load_model("lite-psnr-x4").info
    >>> info.name, info.scale, info.license, info.role
    ('lite-psnr-x4', 4, 'Apache-2.0', 'faithful')
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
    architecture: str = "RRDBNet"
    denoise: tuple[str, str] | None = None
    role: Role | None = None
