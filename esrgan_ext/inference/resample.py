"""Antialiased bicubic resampling: of a whole 8-bit image, or piece by piece.

Keys' cubic kernel with a = -0.5, widened by the ratio when shrinking and normalised, pixel
centres at half-integers, the image mirrored at its border: MATLAB's imresize. Each output
pixel depends on its position in the whole image only, so pieces computed apart fit together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from esrgan_ext.errors import ImageError
from esrgan_ext.inference.tiles import Rect


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' piecewise cubic with a = -0.5 (IEEE TASSP 29(6), 1981)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def taps(source: int, target: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Source positions and weights of the output positions ``start``..``stop``.

    Parameters
    ----------
    source, target : int
        Length of the whole axis before and after resampling.
    start, stop : int
        The output positions wanted, end exclusive.

    Returns
    -------
    positions, weights : ndarray, shape (stop - start, taps)
        int64 indices into the source axis (mirrored at its ends) and float64 weights that
        add up to 1 for each output position.
    """
    ratio = source / target
    widening = max(ratio, 1.0)
    centre = (np.arange(start, stop) + 0.5) * ratio - 0.5
    reach = 2 * widening
    first = np.floor(centre - reach).astype(np.int64) + 1
    positions = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    weights = cubic((positions - centre[:, None]) / widening)
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.mod(positions, 2 * source)
    return np.where(mirrored < source, mirrored, 2 * source - 1 - mirrored), weights


def imresize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample an 8-bit image exactly as MATLAB's ``imresize(image, size)`` does.

    The axis that shrinks most goes first (the rows where both shrink alike), and the values
    are rounded and clipped to 8 bit after each of the two passes. This is how the LR images of
    Set5, Set14 and DIV2K were made, and what "bicubic" means in tables of PSNR.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C), uint8
    size : (int, int)
        Height and width of the result; at least 1.

    Returns
    -------
    ndarray, uint8, of that size and as many channels

    Raises
    ------
    ImageError
        Another shape or dtype, no pixels, or a size below 1.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape[:2]:
        raise ImageError(
            f"imresize takes uint8 pixels of shape H,W or H,W,C, not {image.dtype} of shape "
            f"{','.join(map(str, image.shape))}"
        )
    if min(size) < 1:
        raise ImageError(f"an image cannot be resized to {size[1]} x {size[0]} pixels")
    factors = (size[0] / image.shape[0], size[1] / image.shape[1])
    for axis in sorted((0, 1), key=factors.__getitem__):
        source, target = image.shape[axis], size[axis]
        if source == target:
            continue
        positions, weights = taps(source, target, 0, target)
        values = _weighted_sum(image.astype(np.float64), positions, weights, axis)
        image = np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
    return image.copy() if factors == (1, 1) else image


def bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`imresize` for pixels of any type: 8 bits as MATLAB, others rounded once, at the end.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C)
        Integers or floats.
    size : (int, int)
        Height and width of the result; at least 1.

    Returns
    -------
    ndarray
        The resized image in its dtype; integers are clipped to their type's range.
    """
    if image.dtype == np.uint8:
        return imresize(image, size)
    values = image.astype(np.float64)
    for axis in (0, 1):
        positions, weights = taps(image.shape[axis], size[axis], 0, size[axis])
        values = _weighted_sum(values, positions, weights, axis)
    if image.dtype.kind in "iu":
        limits = np.iinfo(image.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(image.dtype)


class PieceResampler:
    """Resamples one window of an image whose rows arrive from the top in strips.

    Parameters
    ----------
    source_size, target_size : (int, int)
        Height and width of the whole image before and after.
    available : Rect
        The pixels of the source image that will arrive. Taps outside of it take its nearest
        pixel; that happens only where a caller asks for less overlap than the kernel reaches.
    wanted : Rect
        The pixels of the target image to make.
    """

    def __init__(
        self,
        source_size: tuple[int, int],
        target_size: tuple[int, int],
        available: Rect,
        wanted: Rect,
    ) -> None:
        rows, row_weights = taps(source_size[0], target_size[0], wanted.y0, wanted.y1)
        columns, column_weights = taps(source_size[1], target_size[1], wanted.x0, wanted.x1)
        self._rows = np.clip(rows, available.y0, available.y1 - 1) - available.y0
        self._columns = np.clip(columns, available.x0, available.x1 - 1) - available.x0
        self._row_weights = row_weights.astype(np.float32)
        self._column_weights = column_weights.astype(np.float32)
        self._last_needed = np.maximum.accumulate(self._rows.max(1))
        self._oldest_needed = np.minimum.accumulate(self._rows.min(1)[::-1])[::-1]
        self._wanted = wanted
        self._next = 0  # the next target row, counted within `wanted`
        self._buffer: np.ndarray | None = None  # source rows, already resampled in x
        self._buffer_top = 0

    def feed(self, rows: np.ndarray) -> Iterator[tuple[Rect, np.ndarray]]:
        """Take the next source rows and yield the target rows that are now complete.

        Parameters
        ----------
        rows : ndarray, shape (C, h, available.width), float32

        Yields
        ------
        (Rect, ndarray of shape (C, n, wanted.width), float32)
        """
        narrowed = self._weighted_sum(rows, self._columns, self._column_weights, 2)
        if self._buffer is None:
            self._buffer = narrowed
        else:
            self._buffer = self._joined(self._buffer, narrowed)
        held = self._buffer_top + self._buffer.shape[1]
        ready = int(np.searchsorted(self._last_needed, held, side="left"))
        if ready <= self._next:
            return
        chosen = slice(self._next, ready)
        piece = self._weighted_sum(
            self._buffer, self._rows[chosen] - self._buffer_top, self._row_weights[chosen], 1
        )
        where = Rect(
            self._wanted.y0 + self._next, self._wanted.y0 + ready, self._wanted.x0, self._wanted.x1
        )
        self._next = ready
        if ready < len(self._oldest_needed):
            drop = int(self._oldest_needed[ready]) - self._buffer_top
            if drop > 0:
                self._buffer = self._buffer[:, drop:]
                self._buffer_top += drop
        yield where, piece

    def _weighted_sum(
        self, values: np.ndarray, positions: np.ndarray, weights: np.ndarray, axis: int
    ) -> np.ndarray:
        return _weighted_sum(values, positions, weights, axis)

    def _joined(self, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.concatenate((above, below), 1)


def _weighted_sum(
    values: np.ndarray, positions: np.ndarray, weights: np.ndarray, axis: int
) -> np.ndarray:
    """Sum of values at ``positions`` times ``weights`` along an axis, one tap at a time."""
    shape = [1] * values.ndim
    shape[axis] = -1
    total: np.ndarray | None = None
    for tap in range(positions.shape[1]):
        weight = weights[:, tap]
        if not weight.any():  # the ends of the kernel's support fall on its zeros
            continue
        term = np.take(values, positions[:, tap], axis=axis)
        term *= weight.reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None  # the weights of each position add up to 1
    return total
