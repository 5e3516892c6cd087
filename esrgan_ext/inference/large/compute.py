"""One window of an image through the network, to one chunk of the result.

Unlike `Upscaler.__call__` nothing here depends on free memory: a tile halved on one machine and
not on another would make results that differ in their last digit.
"""

from __future__ import annotations

import numpy as np

from esrgan_ext.errors import OutOfMemory
from esrgan_ext.inference import model_cache
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.engine import is_out_of_memory, release_memory
from esrgan_ext.inference.large.grid import Chunk, Grid
from esrgan_ext.inference.model_cache import Settings
from esrgan_ext.inference.windows import WindowGeometry, window_pieces
from esrgan_ext.ops.eager import OnWork


def compute_chunk(
    pixels: np.ndarray,
    settings: tuple[Settings, ...],
    grid: Grid,
    values: ValueMap,
    chunk: Chunk,
    on_work: OnWork = lambda macs: None,
) -> np.ndarray:
    """One chunk of the result out of the pixels that `Grid.source_window` names.

    Parameters
    ----------
    pixels : ndarray, shape (C, h, w)
        The channels of one image, C as `Engine.groups` takes it.
    settings : tuple of Settings
        One, or one for each channel.
    grid : Grid
    values : ValueMap
    chunk : Chunk
    on_work : callable
        Called several times a second; may raise to stop. Chunks are what progress is counted in.

    Returns
    -------
    ndarray, shape (C, H, W), of the dtype of `values`
        NaN pixels come back as NaN.

    Raises
    ------
    ImageError
        The pixels hold infinities, or the network's result is not finite.
    OutOfMemory
        The window does not fit into the device's memory.
    """
    own = settings[grid.layout.channel_of(chunk.image) if len(settings) > 1 else 0]
    upscaler = model_cache.upscaler(own)
    engine = upscaler.engine
    source_window, result_rect = grid.source_window(chunk), grid.result_rect(chunk)
    geometry = WindowGeometry(
        source_window, result_rect, (grid.layout.height, grid.layout.width), grid.result_size
    )
    result = np.empty((len(pixels), result_rect.height, result_rect.width), values.dtype)
    with model_cache.inference(upscaler.device.device):
        try:
            for piece in window_pieces(
                engine,
                pixels[None],
                geometry,
                values,
                on_work,
                consistent=own.options.consistent,
            ):
                top = piece.rect.y0 - result_rect.y0
                result[:, top : top + piece.rect.height] = piece.pixels[0]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            release_memory(engine.device)
            raise OutOfMemory(
                f"a window of {source_window.height} x {source_window.width} pixels does not fit "
                f"into the memory of {engine.device.name}: choose a smaller tile or memory limit"
            ) from error
    return result
