"""Projects a result onto what was measured, so that averaging it down gives the image back.

A pixel of a detector is the mean over its area. Of all results whose blocks of f x f pixels have
the image's pixels as their means, the projection is the one nearest to the network's: each block is
shifted by the difference of the two means,

    y' = y + U (x - A y),

A the mean over blocks and U its repetition, since A A^T = 1 / f^2 and U = f^2 A^T. An image of
integers is known to half a level only: there the mean is moved no further than to within half a
level. Where the shift would leave the values that the type can hold, the nearest result within them
is a shift that is clipped, found by bisection. What the image was averaged from lies in the set of
these results too, which is convex: projecting takes no result further away from it. Rounding is
done so that the means stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from esrgan_ext.errors import OptionError
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.tiles import Rect

# Halvings of the interval that a clipped shift lies in: 2^-40 of the range, far below rounding.
HALVINGS = 40


def block_factor(size: tuple[int, int], result_size: tuple[int, int]) -> int:
    """Pixels of the result along a side of a pixel of the image.

    Raises
    ------
    OptionError
        It is no whole number, or not the same along both sides.
    """
    factor = result_size[0] // size[0]
    if factor < 1 or (size[0] * factor, size[1] * factor) != tuple(result_size):
        raise OptionError(
            "consistent needs a whole number of output pixels per input pixel: give a whole "
            f"outscale ({size[1]} x {size[0]} pixels become {result_size[1]} x {result_size[0]})"
        )
    return factor


class Arithmetic(NamedTuple):
    """Operations that `projected` asks of arrays.

    Attributes
    ----------
    joined : callable
        ``joined(pieces, axis)`` puts them side by side.
    consistent : callable
        ``consistent(result, measured, factor, values)`` projects whole blocks, from and to [0, 1].
    """

    joined: Callable[..., Any]
    consistent: Callable[[Any, Any, int, ValueMap], Any]


def projected(
    pieces: Iterator[tuple[Rect, np.ndarray]],
    window: np.ndarray,
    source_window: Rect,
    size: tuple[int, int],
    result_size: tuple[int, int],
    values: ValueMap,
    arithmetic: Arithmetic,
) -> Iterator[tuple[Rect, np.ndarray]]:
    """Project finished pieces, in whole blocks.

    Parameters
    ----------
    pieces : iterator of (Rect, ndarray of shape (N, C or 2 C, h, w))
        From the top down, as wide as what is wanted; channels beyond C are passed on as they are.
    window : ndarray, shape (N, C, source_window.height, source_window.width)
        The image's pixels as they are stored, without NaN.
    source_window : Rect
        Where they lie in the image.
    size, result_size : (int, int)
        Height and width of the whole image and of its result.
    values : ValueMap
    arithmetic : Arithmetic
        That of the pieces: `NUMPY`, or `device_tensors.consistency.TORCH`.

    Yields
    ------
    (Rect, ndarray)
        In [0, 1] of `values`; integers rounded to whole levels.
    """
    factor = block_factor(size, result_size)
    channels = window.shape[1]
    joined, consistent = arithmetic
    waiting: Any = None
    top = 0
    for rect, piece in pieces:
        if waiting is None:
            waiting, top = piece, rect.y0
        else:
            waiting = joined((waiting, piece), 2)
        whole = waiting.shape[2] // factor * factor
        if not whole:
            continue
        block, waiting = waiting[:, :, :whole], waiting[:, :, whole:]
        rows = slice(top // factor - source_window.y0, (top + whole) // factor - source_window.y0)
        columns = slice(rect.x0 // factor - source_window.x0, rect.x1 // factor - source_window.x0)
        result = consistent(block[:, :channels], window[:, :, rows, columns], factor, values)
        if block.shape[1] > channels:
            result = joined((result, block[:, channels:]), 1)
        yield Rect(top, top + whole, rect.x0, rect.x1), result
        top += whole


def _consistent(
    result: np.ndarray, measured: np.ndarray, factor: int, values: ValueMap
) -> np.ndarray:
    """Project in the image's own values, from and to [0, 1] of `values`."""
    span = (values.high - values.low) or 1.0
    measured = measured.astype(np.float64)
    levels = result.astype(np.float64) * span + values.low
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        levels = project(levels, measured, factor, limits.min, limits.max, slack=0.5)
        levels = _rounded(levels, measured, factor, limits.min, limits.max)
    else:
        levels = project(levels, measured, factor, -np.inf, np.inf)
    return (levels - values.low) / span


NUMPY = Arithmetic(np.concatenate, _consistent)


def project(
    result: np.ndarray,
    measured: np.ndarray,
    factor: int,
    low: float,
    high: float,
    slack: float = 0.0,
) -> np.ndarray:
    """The nearest result whose blocks have the measured means.

    Parameters
    ----------
    result : ndarray, shape (..., factor * h, factor * w)
    measured : ndarray, shape (..., h, w)
        Within `low` and `high`.
    factor : int
        Side of a block.
    low, high : float
        Bounds of the result's values; infinite for none.
    slack : float
        How far from the measured ones the means may be.

    Returns
    -------
    ndarray, float64, of the result's shape
    """
    *front, height, width = measured.shape
    blocks = result.astype(np.float64).reshape(*front, height, factor, width, factor)
    inside = np.clip(blocks, low, high).mean((-3, -1))
    means = np.clip(inside, measured - slack, measured + slack)
    means = np.clip(means, low, high)
    shifted = blocks + (means[..., None, :, None] - blocks.mean((-3, -1), keepdims=True))
    outside = ((shifted < low) | (shifted > high)).any((-3, -1))
    if outside.any():
        chosen = np.moveaxis(blocks, -3, -2)[outside].reshape(-1, factor * factor)
        shifted = np.moveaxis(shifted, -3, -2)
        shifted[outside] = _clipped_shift(chosen, means[outside], low, high).reshape(
            -1, factor, factor
        )
        shifted = np.moveaxis(shifted, -2, -3)
    return shifted.reshape(result.shape)


def _clipped_shift(blocks: np.ndarray, means: np.ndarray, low: float, high: float) -> np.ndarray:
    """Shift each row of `blocks` so that it has its mean after it is clipped."""
    least = low - blocks.max(1, keepdims=True)
    most = high - blocks.min(1, keepdims=True)
    means = means[:, None]
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        below = np.clip(blocks + middle, low, high).mean(1, keepdims=True) < means
        least, most = np.where(below, middle, least), np.where(below, most, middle)
    return np.clip(blocks + (least + most) / 2, low, high)


def _rounded(
    result: np.ndarray, measured: np.ndarray, factor: int, low: int, high: int
) -> np.ndarray:
    """Round to whole levels; where that takes a block's mean more than half a level away, as many
    pixels as it needs are rounded the other way, those first that lose least by it."""
    *front, height, width = measured.shape
    blocks = result.reshape(*front, height, factor, width, factor)
    whole = np.rint(blocks)
    off = whole.mean((-3, -1)) - measured
    bad = np.abs(off) > 0.5
    if bad.any():
        exact = np.moveaxis(blocks, -3, -2)[bad].reshape(-1, factor * factor)
        turned = np.moveaxis(whole, -3, -2)
        levels = turned[bad].reshape(exact.shape)
        step = -np.sign(off[bad])[:, None]
        count = np.ceil((np.abs(off[bad]) - 0.5) * factor * factor - 1e-9)[:, None]
        gain = (exact - levels) * step
        gain[(levels + step < low) | (levels + step > high)] = -np.inf
        rank = np.argsort(np.argsort(-gain, 1, kind="stable"), 1, kind="stable")
        turned[bad] = np.where(rank < count, levels + step, levels).reshape(-1, factor, factor)
        whole = np.moveaxis(turned, -2, -3)
    return whole.reshape(result.shape)
