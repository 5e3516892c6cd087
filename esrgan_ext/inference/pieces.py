"""Finished pieces of a result out of a network's rows: cropped to what is wanted, or resampled.

The network's rows come from one window of an image; what is handed out is placed in the result
of the whole image, whether that image is in memory or not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from esrgan_ext.inference.resample import PieceResampler
from esrgan_ext.inference.tiles import Rect


def finished_pieces(
    rows: Iterator[tuple[int, np.ndarray]],
    source_window: Rect,
    result_rect: Rect,
    scale: int,
    size: tuple[int, int],
    result_size: tuple[int, int],
    resampler_class: type[PieceResampler] = PieceResampler,
) -> Iterator[tuple[Rect, np.ndarray]]:
    """Cut the wanted part out of a window's rows.

    Parameters
    ----------
    rows
        First row within the window's result, and rows of shape (N, C, n, w), w `scale` times the
        window's width.
    source_window : Rect
        The window, in pixels of the image.
    result_rect : Rect
        The rectangle to hand out, in pixels of the image's result.
    scale : int
        The network's.
    size, result_size : (int, int)
        Height and width of the whole image and of its result. Where the result is not `scale`
        times the image, the rows are resampled.
    resampler_class : type
        For rows that are no NumPy arrays, one that takes them.

    Yields
    ------
    (Rect, ndarray of shape (N, C, h, w), float32)
        The place in the result, and its pixels. All of `rows` is consumed.
    """
    network_size = (size[0] * scale, size[1] * scale)
    if network_size == result_size:
        for top, strip in rows:
            top += source_window.y0 * scale
            y0, y1 = max(top, result_rect.y0), min(top + strip.shape[2], result_rect.y1)
            if y0 < y1:
                x0 = result_rect.x0 - source_window.x0 * scale
                crop = strip[:, :, y0 - top : y1 - top, x0 : x0 + result_rect.width]
                yield Rect(y0, y1, result_rect.x0, result_rect.x1), crop
        return
    if result_rect.pixels == 0:
        for _ in rows:  # a tile that no output pixel falls into; its work still counts
            pass
        return
    available = source_window.times(scale)
    resampler = resampler_class(network_size, result_size, available, result_rect)
    for _, strip in rows:
        n, channels = strip.shape[:2]
        for rect, piece in resampler.feed(strip.reshape(n * channels, *strip.shape[2:])):
            yield rect, piece.reshape(n, channels, rect.height, rect.width)
