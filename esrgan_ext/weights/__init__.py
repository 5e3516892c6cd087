"""Named models, weight file formats, key layouts, network interpolation, export.

Importing this package imports no torch: its names are loaded on first use. The catalogue, the
search and the downloader below it are torch-free too.

Words: a *weights file* is any file with a network's tensors (`files`); a *key layout* is a way of
naming them (`layouts`), of which the one of `esrgan_ext.models` is the *canonical* one. A
checkpoint is the state of a training run and belongs to `esrgan_ext.training`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esrgan_ext.weights.denoise import load_denoising
    from esrgan_ext.weights.export import export_model, save_model
    from esrgan_ext.weights.info import ModelInfo
    from esrgan_ext.weights.interpolation import (
        InterpolatedModel,
        interpolate,
        interpolate_many,
    )
    from esrgan_ext.weights.loading import info_of, load_model
    from esrgan_ext.weights.search import find_model, list_models

_HOME = {
    "InterpolatedModel": "interpolation",
    "ModelInfo": "info",
    "export_model": "export",
    "find_model": "search",
    "info_of": "loading",
    "interpolate": "interpolation",
    "interpolate_many": "interpolation",
    "list_models": "search",
    "load_denoising": "denoise",
    "load_model": "loading",
    "save_model": "export",
}

__all__ = [
    "InterpolatedModel",
    "ModelInfo",
    "export_model",
    "find_model",
    "info_of",
    "interpolate",
    "interpolate_many",
    "list_models",
    "load_denoising",
    "load_model",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
