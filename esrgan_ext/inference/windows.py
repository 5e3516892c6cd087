"""One window of an image through the network, to finished pieces of the result.

The one way there: images in memory or on a GPU, chunks of stores and of dask arrays, live layers
and previews. NaN and hot pixels are filled for the network and put back, colours that nobody sees
are filled, pixels go to [0, 1] and back, and what is asked for beside (consistency, spread) is done
here. `Steps` are what differs between kinds of arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from esrgan_ext.inference import arrays
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.consistency import NUMPY, Arithmetic, projected
from esrgan_ext.inference.engine import Engine
from esrgan_ext.inference.hot_pixels import find_hot_pixels
from esrgan_ext.inference.pieces import finished_pieces
from esrgan_ext.inference.resample import PieceResampler
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
    pixels : ndarray or Tensor, shape (N, C, h, w), of the image's dtype
    std : ndarray or Tensor, shape (N, C, h, w), float32, or None
        The spread, in the image's units.
    """

    rect: Rect
    pixels: Any
    std: Any = None


class Steps:
    """The operations of `window_pieces` on pixels: for NumPy arrays; `device_tensors.TensorSteps`
    has them for tensors.

    Windows and pieces are (N, C, h, w). What `without_missing` and `without_hidden` give beside the
    window, and what `find_hot` gives, is for the other steps alone.
    """

    resampler: type[PieceResampler] = PieceResampler
    arithmetic: Arithmetic = NUMPY

    def without_missing(self, window: Any) -> tuple[Any, Any]:
        """The window without NaN, and where it was in each plane; None where there was none."""
        if not arrays.check_finite(window):
            return window, None
        filled = [arrays.fill_nan(plane) for plane in window.reshape(-1, *window.shape[2:])]
        planes = np.stack([plane for plane, _ in filled]).reshape(window.shape)
        return planes, [mask for _, mask in filled]

    def all_missing(self, missing: Any) -> bool:
        """Whether the window is NaN throughout."""
        return all(mask is not None and mask.all() for mask in missing)

    def lost(self, window: Any, rect: Rect, values: ValueMap, spread: bool) -> Piece:
        """The result of a window that is NaN throughout."""
        pixels = np.full((*window.shape[:2], rect.height, rect.width), np.nan, values.dtype)
        return Piece(rect, pixels, pixels.astype(np.float32) if spread else None)

    def without_hidden(self, window: Any) -> tuple[Any, Any]:
        """The window without the colours of transparent pixels, and the alpha of those images where
        it is one value throughout."""
        if window.shape[1] not in (arrays.GRAY_ALPHA, arrays.RGBA):
            return window, {}
        window = np.stack([arrays.fill_hidden(image) for image in window])
        alpha = window[:, -1].reshape(len(window), -1)
        return window, {n: row[0] for n, row in enumerate(alpha) if (row == row[0]).all()}

    def find_hot(self, window: Any, values: ValueMap) -> Any:
        """`hot_pixels.find_hot_pixels`."""
        return find_hot_pixels(window, values)

    def without_hot(self, window: Any, hot: Any) -> Any:
        """A copy of the window with hot pixels filled."""
        return hot.without(window)

    def normalised(self, window: Any, values: ValueMap, on_work: OnWork) -> Any:
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

    def rows(
        self, engine: Engine, planes: Any, on_work: OnWork, spread: bool
    ) -> Iterator[tuple[int, Any]]:
        """Rows of the network's result, with the spread in as many channels more if it is asked
        for."""
        return engine.spread_rows(planes, on_work) if spread else engine.rows(planes, on_work)

    def with_hot(self, piece: Any, hot: Any, rect: Rect, geometry: WindowGeometry) -> Any:
        """A copy of a piece with the heights of hot pixels added again."""
        whole = piece.copy()  # may be a view of the engine's rows
        hot.add(rect, whole, geometry.source_window, geometry.size, geometry.result_size)
        return whole

    def restored(self, piece: Any, values: ValueMap) -> Any:
        """From [0, 1] to the image's values."""
        return values.restore(piece)

    def finished(self, pixels: Any, alpha: Any, dtype: Any) -> Any:
        """Pixels in the image's dtype, with constant alpha as it was: a network is not exact to the
        last level, and opaque stays opaque."""
        for number, value in alpha.items():
            pixels[number, -1] = value
        return pixels

    def scaled(self, std: Any, values: ValueMap) -> Any:
        """A spread in [0, 1] in the image's units, float32."""
        return (std * np.float32(values.high - values.low)).astype(np.float32)

    def put_back(
        self, missing: Any, geometry: WindowGeometry, rect: Rect, pixels: Any, std: Any
    ) -> tuple[Any, Any]:
        """Pixels and spread with NaN where the pixel of the image that is nearest is NaN."""
        origin = (geometry.source_window.y0, geometry.source_window.x0)
        for number, mask in enumerate(missing):
            if mask is None:
                continue
            lost = arrays.nearest_mask(mask, geometry.result_size, rect, geometry.size, origin)
            index = divmod(number, pixels.shape[1])
            pixels[index][lost] = np.nan
            if std is not None:
                std[index][lost] = np.nan
        return pixels, std


ARRAY_STEPS = Steps()


def window_pieces(
    engine: Engine,
    window: Any,
    geometry: WindowGeometry,
    values: ValueMap,
    on_work: OnWork,
    *,
    converted: bool = False,
    consistent: bool = False,
    spread: bool = False,
    steps: Steps = ARRAY_STEPS,
) -> Iterator[Piece]:
    """Compute what is wanted of a window.

    Parameters
    ----------
    engine : Engine
    window : ndarray or Tensor, shape (N, C, source_window.height, source_window.width)
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
    steps : Steps
        Those of the window's kind.

    Raises
    ------
    ImageError
        The pixels hold infinities, or the network's result is not finite.
    OptionError
        The result cannot be consistent, see `consistency`.
    """
    dtype, channels = window.dtype, window.shape[1]
    window, missing = steps.without_missing(window)
    if missing is not None and steps.all_missing(missing):
        yield steps.lost(window, geometry.result_rect, values, spread)
        return
    window, alpha = steps.without_hidden(window)
    hot = steps.find_hot(window, values)
    if converted and hot is None:
        rows = engine.converted_rows(window, values, on_work)
        for rect, piece in _cut(rows, geometry, engine.scale, steps):
            yield Piece(rect, steps.finished(piece, alpha, dtype))
        return
    planes = steps.normalised(
        window if hot is None else steps.without_hot(window, hot), values, on_work
    )
    pieces = _cut(steps.rows(engine, planes, on_work, spread), geometry, engine.scale, steps)
    if hot is not None:
        pieces = _with_hot(pieces, hot, geometry, steps)
    if consistent:
        pieces = projected(
            pieces,
            window,
            geometry.source_window,
            geometry.size,
            geometry.result_size,
            values,
            steps.arithmetic,
        )
    for rect, piece in pieces:
        pixels = steps.finished(steps.restored(piece[:, :channels], values), alpha, dtype)
        std = steps.scaled(piece[:, channels:], values) if spread else None
        if missing is not None:
            pixels, std = steps.put_back(missing, geometry, rect, pixels, std)
        yield Piece(rect, pixels, std)


def _cut(
    rows: Iterator[tuple[int, Any]], geometry: WindowGeometry, scale: int, steps: Steps
) -> Iterator[tuple[Rect, Any]]:
    return finished_pieces(
        rows,
        geometry.source_window,
        geometry.result_rect,
        scale,
        geometry.size,
        geometry.result_size,
        steps.resampler,
    )


def _with_hot(
    pieces: Iterator[tuple[Rect, Any]], hot: Any, geometry: WindowGeometry, steps: Steps
) -> Iterator[tuple[Rect, Any]]:
    for rect, piece in pieces:
        yield rect, steps.with_hot(piece, hot, rect, geometry)
