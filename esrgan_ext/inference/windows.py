"""One window of an image through the network, to finished pieces of the result.

The one way there: images in memory, chunks of stores and of dask arrays, live layers and previews.
NaN and hot pixels are filled for the network and put back, colours that nobody sees are filled,
pixels go to [0, 1] and back, and what is asked for beside (consistency, spread) is done here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from esrgan_ext.inference import arrays
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.consistency import projected
from esrgan_ext.inference.engine import Engine
from esrgan_ext.inference.hot_pixels import HotPixels, find_hot_pixels
from esrgan_ext.inference.pieces import finished_pieces
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.ops.eager import OnWork

# Pixels brought to [0, 1] between two heartbeats: some 20 ms.
NORMALISED_PIXELS = 1 << 20


@dataclass(frozen=True)
class WindowGeometry:
    """Where a window lies.

    Attributes
    ----------
    source_window : Rect
        The window, in pixels of the image.
    result_rect : Rect
        The rectangle that is computed, in pixels of the image's result.
    size, result_size : (int, int)
        Height and width of the whole image and of its result.
    """

    source_window: Rect
    result_rect: Rect
    size: tuple[int, int]
    result_size: tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """A finished piece of the result.

    Attributes
    ----------
    rect : Rect
        In pixels of the image's result.
    pixels : ndarray, shape (N, C, h, w), of the image's dtype
    std : ndarray, shape (N, C, h, w), float32, or None
        The spread, in the image's units.
    """

    rect: Rect
    pixels: np.ndarray
    std: np.ndarray | None = None


def window_pieces(
    engine: Engine,
    window: np.ndarray,
    geometry: WindowGeometry,
    values: ValueMap,
    on_work: OnWork,
    *,
    converted: bool = False,
    consistent: bool = False,
    spread: bool = False,
) -> Iterator[Piece]:
    """Compute what is wanted of a window.

    Parameters
    ----------
    engine : Engine
    window : ndarray, shape (N, C, source_window.height, source_window.width)
        Pixels as they are stored, of one window of N images, C as `Engine.groups` takes it.
    geometry : WindowGeometry
    values : ValueMap
    on_work : callable
        Called with multiply-accumulates, several times a second; may raise to stop.
    converted : bool
        The engine takes and gives pixels as they are stored (`Engine.converts`).
    consistent : bool
        Project onto what was measured, see `consistency`.
    spread : bool
        Give the spread over flips and rotations too.

    Raises
    ------
    ImageError
        The pixels hold infinities, or the network's result is not finite.
    OptionError
        The result cannot be consistent, see `consistency`.
    """
    window, masks = _filled(window)
    if masks is not None and all(mask is not None and mask.all() for mask in masks):
        shape = (*window.shape[:2], geometry.result_rect.height, geometry.result_rect.width)
        lost = np.full(shape, np.nan, values.dtype)
        yield Piece(geometry.result_rect, lost, lost.astype(np.float32) if spread else None)
        return
    if window.shape[1] in (arrays.GRAY_ALPHA, arrays.RGBA):
        window = np.stack([arrays.fill_hidden(image) for image in window])
        alpha = window[:, -1].reshape(len(window), -1)
        # A network is not exact to the last level; opaque stays opaque.
        constant = {n: row[0] for n, row in enumerate(alpha) if (row == row[0]).all()}
    else:
        constant = {}
    scale, channels = engine.scale, window.shape[1]
    hot = find_hot_pixels(window, values)
    if converted and hot is None:
        rows = engine.converted_rows(window, values, on_work)
        for rect, piece in _cut(rows, geometry, scale):
            for number, value in constant.items():
                piece[number, -1] = value
            yield Piece(rect, piece)
        return
    planes = _normalised(window if hot is None else hot.without(window), values, on_work)
    rows = engine.spread_rows(planes, on_work) if spread else engine.rows(planes, on_work)
    pieces = _cut(rows, geometry, scale)
    if hot is not None:
        pieces = _with_hot(pieces, hot, geometry)
    if consistent:
        pieces = projected(
            pieces, window, geometry.source_window, geometry.size, geometry.result_size, values
        )
    for rect, piece in pieces:
        restored = values.restore(piece[:, :channels])
        for number, value in constant.items():
            restored[number, -1] = value
        std = None
        if spread:
            std = (piece[:, channels:] * np.float32(values.high - values.low)).astype(np.float32)
        if masks is not None:
            _put_back(masks, geometry, rect, restored, std)
        yield Piece(rect, restored, std)


def _cut(
    rows: Iterator[tuple[int, np.ndarray]], geometry: WindowGeometry, scale: int
) -> Iterator[tuple[Rect, np.ndarray]]:
    return finished_pieces(
        rows,
        geometry.source_window,
        geometry.result_rect,
        scale,
        geometry.size,
        geometry.result_size,
    )


def _with_hot(
    pieces: Iterator[tuple[Rect, np.ndarray]], hot: HotPixels, geometry: WindowGeometry
) -> Iterator[tuple[Rect, np.ndarray]]:
    for rect, piece in pieces:
        whole = piece.copy()  # may be a view of the engine's rows
        hot.add(rect, whole, geometry.source_window, geometry.size, geometry.result_size)
        yield rect, whole


def _filled(window: np.ndarray) -> tuple[np.ndarray, list[np.ndarray | None] | None]:
    """The window without NaN, and where it was in each plane; None where there was none."""
    if not arrays.check_finite(window):
        return window, None
    filled = [arrays.fill_nan(plane) for plane in window.reshape(-1, *window.shape[2:])]
    planes = np.stack([plane for plane, _ in filled]).reshape(window.shape)
    return planes, [mask for _, mask in filled]


def _put_back(
    masks: list[np.ndarray | None],
    geometry: WindowGeometry,
    rect: Rect,
    pixels: np.ndarray,
    std: np.ndarray | None,
) -> None:
    """NaN at the pixels of the result that are nearest to NaN of the image."""
    origin = (geometry.source_window.y0, geometry.source_window.x0)
    for number, mask in enumerate(masks):
        if mask is None:
            continue
        lost = arrays.nearest_mask(mask, geometry.result_size, rect, geometry.size, origin)
        index = divmod(number, pixels.shape[1])
        pixels[index][lost] = np.nan
        if std is not None:
            std[index][lost] = np.nan


def _normalised(window: np.ndarray, values: ValueMap, on_work: OnWork) -> np.ndarray:
    """The window as the network wants it; in strips with a heartbeat after each, since a large
    image takes seconds."""
    height, width = window.shape[2:]
    planes = np.empty(window.shape, np.float32)
    rows = max(1, NORMALISED_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        planes[:, :, strip] = values.normalise(window[:, :, strip])
        on_work(0)
    return planes
