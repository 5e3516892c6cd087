"""An array whose chunks are upscaled when somebody reads them: the fine level of a live layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from esrgan_ext.inference.tiles import Rect, window
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
    upscalers : sequence of Upscaler
        One, or one for each channel, at the network's own scale.
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
        upscalers: Sequence[Upscaler],
        ranges: list[Any],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._data, self._axes, self._on_error = data, axes, on_error
        self._upscalers, self._ranges = upscalers, ranges
        self._scale = upscalers[0].scale
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
        from esrgan_ext.inference.model_cache import inference

        location = block_info[None]["array-location"]
        axes, scale = self._axes, self._scale
        plane = tuple(location[axis][0] for axis in axes.outer)
        channel = axes.channel_of(plane)
        upscaler = self._upscalers[channel if len(self._upscalers) > 1 else 0]
        core = Rect(*(edge // scale for axis in (axes.y, axes.x) for edge in location[axis]))
        height, width = self._data.shape[axes.y], self._data.shape[axes.x]
        source_window = window(core, upscaler.overlap, height, width, upscaler.network.alignment)
        inside = core.shifted(-source_window.y0, -source_window.x0)
        pixels = axes.read(self._data, plane, source_window)
        values = self._ranges[channel]
        try:
            with inference(upscaler.device.device):  # dask and napari call from several threads
                result = upscaler(pixels, data_range=values, region=inside)
        except Exception as error:
            self._on_error(error)
            shown = pixels[inside.rows, inside.columns]
            result = np.repeat(np.repeat(shown, scale, 0), scale, 1)
        self.computed += 1
        return axes.turned(result).reshape([stop - start for start, stop in location])
