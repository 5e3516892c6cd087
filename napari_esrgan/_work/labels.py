"""Labels enlarged to the grid of a result: by the nearest pixel, since between two labels there is
none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.messages import Cancelled, stop_if
from napari_esrgan._work.result import Result, make_result


def nearest(source: int, target: int) -> np.ndarray:
    """For each of `target` pixels the one of `source` pixels that its centre lies in."""
    return ((np.arange(target) + 0.5) * source / target).astype(np.intp)


def enlarge_labels(
    data: Any,
    axes: Axes,
    region: Rect,
    plane: tuple[int, ...] | None,
    size: tuple[int, int],
    budget_bytes: float,
    folder: Path | None,
    cancelled: Cancelled,
) -> Result:
    """Labels of a part of a source on the grid of the result of that part.

    Parameters
    ----------
    data : array-like
        Integers.
    axes : Axes
        Axes of `data`; without colours.
    region : Rect
    plane : tuple of int or None
        Along `axes.outer`, the only plane; None is all of them.
    size : (int, int)
        Height and width of the result.
    budget_bytes : float
        Larger ones go to disk.
    folder : Path or None
        Where to; None is `stores.default_folder`.
    cancelled : callable

    Raises
    ------
    UpscaleCancelled
    """
    shape = list(data.shape)
    shape[axes.y], shape[axes.x] = size
    if plane is not None:
        for axis in axes.outer:
            shape[axis] = 1
    dtype = np.dtype(data.dtype)
    rows, columns = nearest(region.height, size[0]), nearest(region.width, size[1])
    result = make_result(tuple(shape), dtype, axes.y, axes.x, budget_bytes, folder)
    planes = axes.planes(data.shape) if plane is None else [plane]
    try:
        for one in planes:
            stop_if(cancelled)
            part = np.asarray(data[axes.index(one, region.rows, region.columns)])
            if axes.transposed:
                part = np.swapaxes(part, 0, 1)
            target = one if plane is None else (0,) * len(one)
            for top in range(0, size[0], 1024):
                stop_if(cancelled)
                bottom = min(top + 1024, size[0])
                band = part[rows[top:bottom]][:, columns]
                index = axes.index(target, slice(top, bottom), slice(0, size[1]))
                result.write(index, np.swapaxes(band, 0, 1) if axes.transposed else band)
    except BaseException:
        result.discard()
        raise
    return result
