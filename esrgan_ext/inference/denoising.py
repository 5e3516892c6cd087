"""`denoise="auto"`: the strength that an image's own noise asks for, one for all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.noise import PLANES, NoiseEstimate, denoise_strength, estimate_noise
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.weights.catalogue import FOLLOWS_NOISE

# Of a large plane the middle is looked at: 2048 x 2048 pixels tell as much as all of it.
_SIDE = 2048


def follows_noise(model: str, denoise: Any) -> bool:
    """Whether a model's strength is left to the image: `denoise="auto"`, and a model that can."""
    return isinstance(denoise, str) and model in FOLLOWS_NOISE


def noise_of(array: Any, layout: Layout) -> list[NoiseEstimate]:
    """Noise of each channel of an array (NumPy, zarr or dask), alpha left out.

    Planes of a stack are looked at together, up to 16 of them, evenly spread.
    """
    return [estimate_noise(planes) for planes in _channels(array, layout)]


def strength_for(array: Any, layout: Layout) -> float:
    """Strength for an array (NumPy, zarr or dask): the largest that a channel asks for."""
    return max(denoise_strength(found) for found in noise_of(array, layout))


def _channels(array: Any, layout: Layout) -> list[Iterator[np.ndarray]]:
    """For each channel of colour, planes of the stack."""
    images = layout.images()
    spread = np.linspace(0, len(images) - 1, min(len(images), PLANES)).round().astype(int)
    top, left = max(0, (layout.height - _SIDE) // 2), max(0, (layout.width - _SIDE) // 2)
    part = Rect(
        top, min(layout.height, top + _SIDE), left, min(layout.width, left + _SIDE)
    )  # fmt: skip
    together = layout.channels_per_image
    colours = together - 1 if together in (2, 4) else together
    windows = [np.asarray(layout.read(array, images[k], part)) for k in spread]
    return [iter([window[channel] for window in windows]) for channel in range(colours)]
