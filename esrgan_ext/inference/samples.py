"""Looks at a part of an array to say what kind of image it is: the same part whether it lies in
memory, in a store or is a dask array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from esrgan_ext.inference.arrays import GRAY_ALPHA, RGB, RGBA, Layout
from esrgan_ext.inference.noise import PLANES
from esrgan_ext.inference.tiles import Rect

# Of a large plane the middle is looked at: 2048 x 2048 pixels tell as much as all of it.
_SIDE = 2048


def channel_samples(
    array: Any, layout: Layout, taken: Callable[[Any], Any] = np.asarray
) -> list[list[Any]]:
    """For each channel of colour, without alpha, planes of an array (NumPy, zarr or dask).

    Planes of a stack are evenly spread, up to 16 of them.

    Parameters
    ----------
    array : array of any kind
    layout : Layout
    taken : callable
        Makes of a part that was read what is looked at.
    """
    images = layout.images()
    spread = np.linspace(0, len(images) - 1, min(len(images), PLANES)).round().astype(int)
    top, left = max(0, (layout.height - _SIDE) // 2), max(0, (layout.width - _SIDE) // 2)
    part = Rect(
        top, min(layout.height, top + _SIDE), left, min(layout.width, left + _SIDE)
    )  # fmt: skip
    channels = layout.channels_per_image
    colours = channels - 1 if channels in (GRAY_ALPHA, RGBA) else channels
    windows = [taken(layout.read(array, images[k], part)) for k in spread]
    return [[window[channel] for window in windows] for channel in range(colours)]


def has_empty_channel(array: Any, layout: Layout) -> bool:
    """Whether one of red, green and blue is of one value throughout and another is not: stains, one
    or two, drawn in colour. No photo is like that."""
    if layout.channels_per_image not in (RGB, RGBA):
        return False
    even = []
    for planes in channel_samples(array, layout):
        first = planes[0].flat[0]
        even.append(all(bool((plane == first).all()) for plane in planes))
    return any(even) and not all(even)
