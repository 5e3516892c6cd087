"""An array whose chunks are upscaled when somebody reads them: the fine level of a live layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_esrgan._work import models
from napari_esrgan._work.axes import Axes

if TYPE_CHECKING:
    from esrgan_ext import Upscaler

# Source pixels along a chunk: large against the overlap on both sides, small enough that a
# chunk is there within seconds.
CHUNK = 192


class LiveSource:
    """Computes chunks of the fine level; called from whichever threads dask has.

    Parameters
    ----------
    data : array-like
    axes : Axes
    upscaler : Upscaler
        At the network's own scale.
    ranges : list
        The value range of each channel.
    on_error : callable
        Gets what went wrong in a chunk, which then shows the nearest pixels: an error in a
        viewer's slicing would take the whole layer down.

    Attributes
    ----------
    computed : int
        How many chunks the network has done.
    """

    def __init__(
        self,
        data: Any,
        axes: Axes,
        upscaler: Upscaler,
        ranges: list[Any],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._data, self._axes, self._on_error = data, axes, on_error
        self._upscaler, self._ranges = upscaler, ranges
        self._scale = upscaler.scale
        self.computed = 0

    def array(self) -> Any:
        """The fine level as a dask array."""
        import dask.array as da

        axes, scale, shape = self._axes, self._scale, list(self._data.shape)
        chunks: list[tuple[int, ...] | int] = [1] * len(shape)
        for axis in (axes.y, axes.x):
            length = shape[axis]
            parts = [min(CHUNK, length - start) for start in range(0, length, CHUNK)]
            chunks[axis] = tuple(part * scale for part in parts)
            shape[axis] = length * scale
        if axes.rgb:
            chunks[-1] = shape[-1]
        # The type is given, so dask does not try the function on an empty array.
        return da.map_blocks(
            self.chunk,
            chunks=da.core.normalize_chunks(tuple(chunks), tuple(shape), dtype=self._data.dtype),
            dtype=self._data.dtype,
            meta=np.empty((0,) * len(shape), self._data.dtype),
        )

    def chunk(self, block_info: Any = None) -> np.ndarray:
        """One chunk, computed with the overlap that the model needs around it."""
        location = block_info[None]["array-location"]
        axes, scale = self._axes, self._scale
        plane = tuple(location[axis][0] for axis in axes.outer)
        window, inner = [], []
        for axis in (axes.y, axes.x):
            start, stop = (edge // scale for edge in location[axis])
            first = max(start - self._upscaler.overlap, 0)
            first -= first % self._upscaler.network.alignment
            last = min(stop + self._upscaler.overlap, self._data.shape[axis])
            window.append(slice(first, last))
            inner.append(slice((start - first) * scale, (stop - first) * scale))
        pixels = np.asarray(self._data[axes.index(plane, *window)])
        if axes.transposed:
            pixels = np.swapaxes(pixels, 0, 1)
        with models.INFERENCE:  # dask and napari call from several threads at once
            values = self._ranges[axes.channel_of(plane)]
            try:
                result = self._upscaler(pixels, data_range=values)[inner[0], inner[1]]
            except Exception as error:
                self._on_error(error)
                result = np.repeat(np.repeat(pixels, scale, 0), scale, 1)[inner[0], inner[1]]
        self.computed += 1
        if axes.transposed:
            result = np.swapaxes(result, 0, 1)
        shape = [stop - start for start, stop in location]
        return result.reshape(shape)
