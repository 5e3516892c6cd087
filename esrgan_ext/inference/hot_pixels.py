"""Hot pixels: single pixels far beyond all others, kept away from the network.

A network spreads a pixel that is many times brighter than white over all that it sees of the
image. So a pixel that stands alone, far beyond the range of the data, is filled from its
neighbours first, and what was taken off is added to the result by linear interpolation: it stays
where it was measured, and nothing rings. Found out of each pixel's neighbourhood, so that tiles
find the same ones. Real spots of light are wider than a pixel, and pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.tiles import Rect

#: How far beyond black or white, and above or below its neighbours, as a share of the range. Up to
#: here a network loses less by a hot pixel than by real specks being taken for one: of an image of
#: worms, with specks 1.6 times the range above their neighbours, 1.8 dB.
BEYOND = 2.0

#: Of eight neighbours so many may be hot too; a neighbour is, that has this share of the
#: pixel's height above the median of 5x5. Of a spot of light that a lens draws (standard deviation
#: of 0.85 pixels, sampled at the limit) all four nearest have half of it.
HOT_NEIGHBOURS, SHARE = 2, 0.25

# With a larger share of pixels beyond the range all are looked at quickly first.
MANY = 0.01

# Neighbourhoods looked at together: some 10 MB.
TOGETHER = 1 << 16

# Percentiles of a plane are read off so many of its rows. Planes with shorter sides, the colours of
# a pixel among them, are taken as they are.
ROWS, SMALLEST = 256, 5

OFFSETS = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if dy or dx]
NEAR = [k for k, (dy, dx) in enumerate(OFFSETS) if max(abs(dy), abs(dx)) == 1]


@dataclass(frozen=True)
class HotPixels:
    """Where they are in a window, and what was taken off.

    Attributes
    ----------
    image, channel, row, column : ndarray of int64, shape (K,)
        Rows and columns are the window's.
    filled : ndarray, shape (K,), float64
        Values that stand there for the network, in the window's values.
    excess : ndarray, shape (K,), float64
        Height to be added again, as a share of the range.
    """

    image: np.ndarray
    channel: np.ndarray
    row: np.ndarray
    column: np.ndarray
    filled: np.ndarray
    excess: np.ndarray

    def without(self, window: np.ndarray) -> np.ndarray:
        """A copy of the window that they were found in, filled."""
        copy = window.copy()
        copy[self.image, self.channel, self.row, self.column] = (
            np.rint(self.filled) if copy.dtype.kind in "iu" else self.filled
        )
        return copy

    def add(
        self,
        rect: Rect,
        piece: np.ndarray,
        source_window: Rect,
        size: tuple[int, int],
        result_size: tuple[int, int],
    ) -> None:
        """Add what was taken off to a piece of the result.

        Parameters
        ----------
        rect : Rect
            In pixels of the result.
        piece : ndarray, shape (N, C or more, rect.height, rect.width)
            As shares of the range; changed in place.
        source_window : Rect
            Where the window lies in the image.
        size, result_size : (int, int)
            Height and width of the whole image and of its result.
        """
        tops = (self.row + source_window.y0 + 0.5) * result_size[0] / size[0]
        reach = 2 * max(1.0, result_size[0] / size[0])
        near = np.flatnonzero((tops > rect.y0 - reach) & (tops < rect.y1 + reach))
        rows = _weights(
            self.row[near] + source_window.y0, size[0], result_size[0], rect.y0, rect.y1
        )
        columns = _weights(
            self.column[near] + source_window.x0, size[1], result_size[1], rect.x0, rect.x1
        )
        for k, along_y, along_x in zip(near, rows, columns, strict=True):
            y, x = np.flatnonzero(along_y), np.flatnonzero(along_x)
            if y.size and x.size:
                down, across = slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)
                spread = np.outer(along_y[down], along_x[across]) * self.excess[k]
                piece[self.image[k], self.channel[k], down, across] += spread.astype(piece.dtype)


def lone_pixels(planes: np.ndarray) -> np.ndarray:
    """Pixels that stand alone, far beyond the percentiles 1 and 99 of their plane.

    For what is measured on an image before its range is known: range and noise are to be the same
    with hot pixels and without.

    Parameters
    ----------
    planes : ndarray, shape (..., H, W)
        NaN is passed over.

    Returns
    -------
    ndarray of int64, shape (K, number of axes)
        Their indices.
    """
    found = [np.zeros((0, planes.ndim), np.int64)]
    if planes.dtype.kind == "b" or planes.ndim < 2 or min(planes.shape[-2:]) < SMALLEST:
        return found[0]
    for index in np.ndindex(planes.shape[:-2]):
        plane = planes[index]
        sample = plane[:: max(1, plane.shape[0] // ROWS)]
        sample = sample[~np.isnan(sample)] if plane.dtype.kind == "f" else sample
        if not sample.size:
            continue
        low, high = (float(v) for v in np.percentile(sample, (1, 99)))
        height = BEYOND * (high - low)
        places = np.argwhere((plane > high + height) | (plane < low - height))
        if len(places):
            zeros = np.zeros((len(places), 2), np.int64)
            at, grid = np.concatenate((zeros, places), 1), plane[None, None]
            own = plane[tuple(places.T)].astype(np.float64)
            places = places[_alone(own, _around(grid, at, np.nan), height)]
            where = np.broadcast_to(np.array(index, np.int64), (len(places), len(index)))
            found.append(np.concatenate((where, places), 1))
    return np.concatenate(found)


def without_lone_pixels(plane: np.ndarray) -> np.ndarray:
    """A plane (H, W) with the median of the pixels around in place of each lone one; itself where
    there is none."""
    places = lone_pixels(plane)
    if not len(places):
        return plane
    around = _around(plane[None, None], np.pad(places, ((0, 0), (2, 0))), np.nan)
    copy = plane.copy()
    copy[tuple(places.T)] = np.nanmedian(around, 1)
    return copy


def find_hot_pixels(window: np.ndarray, values: ValueMap) -> HotPixels | None:
    """The hot pixels of a window, and dead ones far below black; None where there are none.

    Parameters
    ----------
    window : ndarray, shape (N, C, H, W)
        Pixels as they are stored, without NaN; each channel is looked at by itself.
    values : ValueMap
    """
    limits = limits_of(values)
    if limits is None or not window.size:
        return None
    span, (low, high) = values.high - values.low, limits
    smallest, largest = float(window.min()), float(window.max())
    if largest <= high and smallest >= low:
        return None
    beyond = np.zeros(window.shape, bool)
    if largest > high:
        beyond |= window > high
    if smallest < low:
        beyond |= window < low
    if beyond.mean() > MANY:
        beyond &= _steep(window, BEYOND * span)
    return _hot_among(np.argwhere(beyond), window, span)


def limits_of(values: ValueMap) -> tuple[float, float] | None:
    """Below and above which a pixel may be hot; None where nothing can lie there."""
    span = values.high - values.low
    if values.dtype.kind == "b" or not span > 0:
        return None
    low, high = values.low - BEYOND * span, values.high + BEYOND * span
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        if low <= limits.min and high >= limits.max:  # 8 bits
            return None
    return low, high


def _hot_among(found: np.ndarray, window: np.ndarray, span: float) -> HotPixels | None:
    """Those of the pixels far beyond a range that stand alone."""
    kept = []
    for k in range(0, len(found), TOGETHER):
        places = found[k : k + TOGETHER]
        own, around = window[tuple(places.T)].astype(np.float64), _around(window, places, np.nan)
        alone = _alone(own, around, BEYOND * span)
        kept.append((places[alone], own[alone], around[alone]))
    if not any(len(places) for places, _, _ in kept):
        return None
    hot, own, around = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    mask = np.zeros(window.shape, bool)
    mask[tuple(hot.T)] = True
    near = np.where(_around(mask, hot, True), np.nan, around)[:, NEAR]
    told = np.isfinite(near).any(1)
    hot, own, near = hot[told], own[told], near[told]
    if not len(hot):
        return None
    filled = np.nanmean(near, 1)
    image, channel, row, column = hot.T
    return HotPixels(image, channel, row, column, filled, (own - filled) / span)


def _steep(window: np.ndarray, height: float) -> np.ndarray:
    """Pixels that may stand alone, by how many of the eight nearest lie far below them, or above: a
    quick look at all of a window, which leaves few where a narrow range puts most of it beyond."""
    rows, columns = window.shape[2:]
    values = np.pad(window.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="constant")
    inner = np.zeros((1, 1, rows + 2, columns + 2), bool)
    inner[..., 1:-1, 1:-1] = True
    own = values[..., 1:-1, 1:-1]
    least = np.float32((1 - SHARE) * height)
    below, above = np.zeros(window.shape, np.int8), np.zeros(window.shape, np.int8)
    for dy, dx in (OFFSETS[k] for k in NEAR):
        where = (..., slice(1 + dy, 1 + dy + rows), slice(1 + dx, 1 + dx + columns))
        step, outside = own - values[where], ~inner[where]
        below += (step > least) | outside
        above += (step < -least) | outside
    return np.asarray(np.maximum(below, above) >= 8 - HOT_NEIGHBOURS)


def _alone(own: np.ndarray, around: np.ndarray, height: float) -> np.ndarray:
    """Which of these pixels stand alone, more than `height` above or below all around."""
    if not around.size:
        return np.zeros(0, bool)
    median = np.full(len(own), np.nan)
    some = np.isfinite(around).any(1)
    median[some] = np.nanmedian(around[some], 1)
    above = own - median
    as_high = (around[:, NEAR] - median[:, None]) * np.sign(above)[:, None]
    hot = (as_high > SHARE * np.abs(above)[:, None]).sum(1)
    few = 8 * hot <= HOT_NEIGHBOURS * np.isfinite(as_high).sum(1)  # fewer at the border
    return np.asarray((np.abs(above) > height) & few)


def _around(window: np.ndarray, places: np.ndarray, outside: float | bool) -> np.ndarray:
    """The 24 pixels around each place of a window, `outside` beyond its edge."""
    height, width = window.shape[2:]
    image, channel, row, column = places.T
    kind = bool if window.dtype == bool else np.float64
    around = np.full((len(places), len(OFFSETS)), outside, kind)
    for k, (dy, dx) in enumerate(OFFSETS):
        y, x = row + dy, column + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        around[inside, k] = window[image[inside], channel[inside], y[inside], x[inside]]
    return around


def _weights(places: np.ndarray, source: int, target: int, start: int, stop: int) -> np.ndarray:
    """Weight of each source position in each of the target's, by linear interpolation."""
    ratio = source / target
    widening = max(ratio, 1.0)
    centre = np.clip((np.arange(start, stop) + 0.5) * ratio - 0.5, 0, source - 1)
    distance = np.abs(centre[None] - places[:, None]) / widening
    return np.asarray(np.maximum(1 - distance, 0) / widening)
