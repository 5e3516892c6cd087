"""Denoise strength: the mix of two models that differ in how much noise they take away.

Real-ESRGAN's "dn": which models come in such a pair is in the catalogue.
"""

from __future__ import annotations

import os

from torch import nn

from esrgan_ext.errors import OptionError
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights.catalogue import CATALOGUE
from esrgan_ext.weights.download import Progress
from esrgan_ext.weights.interpolation import interpolate
from esrgan_ext.weights.loading import load_model
from esrgan_ext.weights.search import find_model


def load_denoising(
    model: str | os.PathLike[str] | nn.Module,
    denoise: float | str | None,
    *,
    progress: Progress | None = None,
) -> SRNetwork:
    """Load a network with a strength of denoising.

    Parameters
    ----------
    model : str, path or nn.Module
        As for `load_model`. With a strength it must be one of a pair (`ModelInfo.denoise`), by name
        or as a copy of the published file.
    denoise : float, 'auto' or None
        0 is the pair's weaker model, 1 the stronger, between them their mix. None is the model as
        it stands, and so is 'auto', for whoever looks at the image's noise then.
    progress : callable, optional
        See `load_model`.

    Returns
    -------
    SRNetwork
        As `load_model`. At 0 and 1 only that one model is loaded.

    Raises
    ------
    OptionError
        The strength is not a number from 0 to 1, or the model is not one of a pair.
    ModelError, DownloadError
        See `load_model`.

    Examples
    --------
    >>> from esrgan_ext.weights import load_denoising
    >>> load_denoising("lite-micro-x4", 0.5).info.name
    'lite-micro-x4+lite-micro-denoise-x4@0.50'
    """
    if denoise is None or denoise == "auto":
        return load_model(model, progress=progress)
    pair = check_denoise(model, denoise)  # type: ignore[arg-type]  # a word is refused there
    assert not isinstance(model, nn.Module)
    own = find_model(model).name
    weak, strong = (model if name == own else name for name in pair)
    if denoise in (0, 1):
        return load_model(strong if denoise else weak, progress=progress)
    networks = [load_model(part, progress=progress) for part in (weak, strong)]
    return interpolate(networks[0], networks[1], float(denoise))


def check_denoise(
    model: str | os.PathLike[str] | nn.Module, denoise: float, option: str = "denoise"
) -> tuple[str, str]:
    """The pair that a model belongs to, checked without loading anything.

    Parameters
    ----------
    model, denoise
        See `load_denoising`.
    option : str
        How messages name the strength.

    Raises
    ------
    OptionError
        See `load_denoising`.
    ModelError
        There is no such model.
    """
    if isinstance(denoise, bool) or not isinstance(denoise, int | float) or not 0 <= denoise <= 1:
        raise OptionError(f"{option} must be a number from 0 to 1, not {denoise!r}")
    if isinstance(model, nn.Module):
        raise OptionError(
            f"{option} needs the model's name: networks in memory are mixed by interpolate()"
        )
    info = find_model(model)
    if info.denoise is None:
        able = ", ".join(entry.name for entry in CATALOGUE.values() if entry.denoise)
        raise OptionError(
            f"{option} is a mix of two models, and {info.name} has no other to mix with; "
            f"these have: {able}"
        )
    return info.denoise
