"""One window of an image through the network, to one chunk of the result.

Unlike `Upscaler.__call__` nothing here depends on free memory: a tile halved on one machine and
not on another would make results that differ in their last digit.
"""

from __future__ import annotations

import numpy as np

from esrgan_ext.errors import OutOfMemory
from esrgan_ext.inference import arrays
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.engine import Engine, is_out_of_memory, release_memory
from esrgan_ext.inference.pieces import finished_pieces
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.ops.eager import OnWork


def upscale_window(
    engine: Engine,
    pixels: np.ndarray,
    seen: Rect,
    wanted: Rect,
    size: tuple[int, int],
    result_size: tuple[int, int],
    values: ValueMap,
    on_work: OnWork = lambda macs: None,
) -> np.ndarray:
    """Compute one chunk of a result.

    Parameters
    ----------
    engine : Engine
    pixels : ndarray, shape (C, seen.height, seen.width)
        The channels of one image, C as `Engine.groups` takes it.
    seen : Rect
        Where these pixels lie in the image.
    wanted : Rect
        What to compute, in pixels of the image's result.
    size, result_size : (int, int)
        Height and width of the whole image and its result.
    values : ValueMap
    on_work : callable
        Called several times a second; may raise to stop. Chunks are what progress is counted in.

    Returns
    -------
    ndarray, shape (C, wanted.height, wanted.width), of the dtype of `values`
        NaN pixels come back as NaN.

    Raises
    ------
    ImageError
        The pixels hold infinities, or the network's result is not finite.
    OutOfMemory
        The window does not fit into the device's memory.
    """
    result = np.empty((len(pixels), wanted.height, wanted.width), values.dtype)
    masks: list[np.ndarray | None] = [None] * len(pixels)
    if arrays.check_finite(pixels):
        filled = [arrays.fill_nan(plane) for plane in pixels]
        masks = [mask for _, mask in filled]
        if all(mask is not None and mask.all() for mask in masks):
            result.fill(np.nan)
            return result
        pixels = np.stack([plane for plane, _ in filled])
    try:
        rows = engine.rows(values.normalise(pixels)[None], on_work)
        for area, piece in finished_pieces(rows, seen, wanted, engine.scale, size, result_size):
            restored = values.restore(piece[0])
            for channel, mask in enumerate(masks):
                if mask is not None:
                    lost = arrays.nearest_mask(mask, result_size, area, size, (seen.y0, seen.x0))
                    restored[channel][lost] = np.nan
            result[:, area.y0 - wanted.y0 : area.y1 - wanted.y0] = restored
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        release_memory(engine.device)
        raise OutOfMemory(
            f"a window of {seen.height} x {seen.width} pixels does not fit into the memory of "
            f"{engine.device.name}: choose a smaller tile or memory limit"
        ) from error
    return result
