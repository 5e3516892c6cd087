"""Named models, weight file formats, key layouts, network interpolation, export.

Importing this package imports no torch: its names are loaded on first use. The catalogue, the
search and the downloader below it are torch-free too.

Words: a *weights file* is any file with a network's tensors (`files`); a *key layout* is a way of
naming them (`layouts`), of which the one of `esrgan_ext.models` is the *canonical* one. A
checkpoint is the state of a training run and belongs to `esrgan_ext.training`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.lazy import lazy_names

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
    "InterpolatedModel": "esrgan_ext.weights.interpolation",
    "ModelInfo": "esrgan_ext.weights.info",
    "export_model": "esrgan_ext.weights.export",
    "find_model": "esrgan_ext.weights.search",
    "info_of": "esrgan_ext.weights.loading",
    "interpolate": "esrgan_ext.weights.interpolation",
    "interpolate_many": "esrgan_ext.weights.interpolation",
    "list_models": "esrgan_ext.weights.search",
    "load_denoising": "esrgan_ext.weights.denoise",
    "load_model": "esrgan_ext.weights.loading",
    "save_model": "esrgan_ext.weights.export",
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

__getattr__ = lazy_names(__name__, _HOME)
