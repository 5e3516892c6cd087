"""`denoise="auto"`: the strength that an image's own noise asks for, one for all of it."""

from __future__ import annotations

from typing import Any

from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.noise import NoiseEstimate, denoise_strength, estimate_noise
from esrgan_ext.inference.samples import channel_samples
from esrgan_ext.weights.catalogue import FOLLOWS_NOISE


def follows_noise(model: str, denoise: Any) -> bool:
    """Whether a model's strength is left to the image: `denoise="auto"`, and a model that can."""
    return isinstance(denoise, str) and model in FOLLOWS_NOISE


def noise_of(array: Any, layout: Layout) -> list[NoiseEstimate]:
    """Noise of each channel of an array (NumPy, zarr or dask), alpha left out.

    Planes of a stack are looked at together, up to 16 of them, evenly spread.
    """
    return [estimate_noise(planes) for planes in channel_samples(array, layout)]


def strength_for(array: Any, layout: Layout) -> float:
    """Strength for an array (NumPy, zarr or dask): the largest that a channel asks for."""
    return max(denoise_strength(found) for found in noise_of(array, layout))
