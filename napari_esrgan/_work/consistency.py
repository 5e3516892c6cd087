"""How far a result, reduced to the source's grid again, is from the source.

An upscaled image is an estimate. What can be checked is that averaging its pixels gives the
measured ones back: where the difference is large, the network has changed what was measured.
A small difference proves nothing about the detail in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from esrgan_ext.inference.arrays import Extent
from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.messages import stop_if


@dataclass(frozen=True)
class Consistency:
    """The comparison of one result.

    Attributes
    ----------
    difference : ndarray of float32
        Absolute difference in the source's units, of the shape of the upscaled part of the
        source; NaN where either is.
    rmse : float
        Root of the mean squared difference; NaN where nothing can be compared.
    value_range : float
        Maximum minus minimum of the finite source values: what the RMSE is to be seen against.
    """

    difference: np.ndarray
    rmse: float
    value_range: float


def reduced(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """A plane averaged over the area of each pixel of a smaller grid.

    Parameters
    ----------
    plane : ndarray, shape (H, W) or (H, W, colours)
    height, width : int
        Any size; each output pixel is the mean of the area it covers, parts of pixels weighted.

    Returns
    -------
    ndarray of float64, shape (height, width) or (height, width, colours)
    """
    values = plane.astype(np.float64)
    values = np.moveaxis(_reduced_rows(values, height), 0, 1)
    return np.moveaxis(_reduced_rows(values, width), 0, 1)


def _reduced_rows(values: np.ndarray, rows: int) -> np.ndarray:
    """Average along the first axis: differences of the running integral at the new edges."""
    integral = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    edges = np.linspace(0, values.shape[0], rows + 1)
    below = np.minimum(np.floor(edges).astype(np.intp), values.shape[0] - 1)
    fraction = (edges - below).reshape(-1, *[1] * (values.ndim - 1))
    at_edges = integral[below] + fraction * values[below]
    return np.diff(at_edges, axis=0) * (rows / values.shape[0])


def compare(
    source: Any,
    result: Any,
    axes: Axes,
    region: Rect,
    plane: tuple[int, ...] | None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Consistency:
    """Compare a result with the part of the source it was made from, plane by plane.

    Parameters
    ----------
    source, result : array-like
        Arrays of the same axes; the result's planes are larger.
    axes : Axes
    region : Rect
        The part of the source.
    plane : tuple of int or None
        The only plane that was upscaled, None for all.
    cancelled : callable
    """
    planes = axes.planes(source.shape) if plane is None else [plane]
    shape = list(source.shape)
    shape[axes.y], shape[axes.x] = region.height, region.width
    if plane is not None:
        for axis in axes.outer:
            shape[axis] = 1
    difference = np.empty(shape, np.float32)
    squares, count, extent = 0.0, 0, Extent()
    for index in planes:
        stop_if(cancelled)
        place = (0,) * len(index) if plane is not None else index
        wanted = axes.read(source, index, region).astype(np.float64)
        got = axes.read(result, place)
        # A running sum would carry one NaN into everything after it.
        missing = np.isnan(got)
        filled = np.where(missing, 0, got) if missing.any() else got
        delta = reduced(filled, region.height, region.width) - wanted
        if missing.any():
            delta[reduced(missing, region.height, region.width) > 1e-6] = np.nan
        part = difference[axes.index(place)]
        np.abs(axes.turned(delta), out=part, casting="unsafe")
        finite = np.isfinite(delta)
        squares += float(np.square(delta[finite]).sum())
        count += int(finite.sum())
        extent.add(wanted)
    low, high = extent.values
    return Consistency(
        difference,
        float(np.sqrt(squares / count)) if count else float("nan"),
        float("nan") if extent.empty else high - low,
    )
