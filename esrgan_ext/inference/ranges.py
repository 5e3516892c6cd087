"""Which values of an image become black and white: the type's, the user's, or the data's own.

A range that follows the data is robust against hot pixels, and one for many planes: what parts of
an image say of their values merges, so that an array in memory, a dask array and a store on many
machines come to the same range.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from esrgan_ext.errors import ImageError, OptionError
from esrgan_ext.inference.arrays import GRAY_ALPHA, RGBA, Extent, Layout, ValueMap
from esrgan_ext.inference.hot_pixels import lone_pixels
from esrgan_ext.inference.tiles import Rect

DataRange = tuple[float, float] | Literal["auto", "type", "minmax"] | None

_KNOWN = "(low, high), 'auto', 'type', 'minmax' or None"

# A single hot pixel undoes minimum and maximum: measured on microscopy images it turns 1.8 dB
# above bicubic into 0.7 below, while these percentiles lose nothing. What lies beyond them is
# not clipped.
PERCENTILES = (0.1, 99.9)

# Of types whose values cannot be counted one by one, so many are looked at.
_SAMPLES = 1 << 21


class RegularSample:
    """Every so many-th of values that come one after another: at most two million, however many
    there are.

    Attributes
    ----------
    parts : list of ndarray or Tensor, 1-D, float64
    step : int
        One value of so many is kept; a power of two.
    """

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.step = 1
        self._kept = 0  # counted on: a stack may have more planes than time to count them anew

    def add(self, values: Any) -> None:
        """Take in the next values, of which the first and every `step`-th one are given."""
        self.parts.append(values)
        self._kept += len(values)
        self._thin_out()

    def merge(self, other: RegularSample) -> None:
        """Take in what was kept elsewhere: the finer sample is thinned out."""
        step = max(self.step, other.step)
        self.parts = [part[:: step // self.step] for part in self.parts]
        self.parts += [part[:: step // other.step] for part in other.parts]
        self.step = step
        self._kept = sum(map(len, self.parts))
        self._thin_out()

    def _thin_out(self) -> None:
        while self._kept > _SAMPLES:
            self.parts = [part[::2] for part in self.parts]
            self._kept = sum(map(len, self.parts))
            self.step *= 2


class RobustRange:
    """Collects planes and says which of their values are black and white.

    Pixels that stand alone far beyond the others (`hot_pixels.lone_pixels`) count for the extent
    only, so that in small images, too, no hot pixel becomes white.

    Integers of up to 16 bits are counted, so the result is exact. Of wider types a regular sample
    of up to two million values is kept, whatever the number of planes; their minimum and maximum
    are exact.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)
        self._first = 0  # the value that the first count is of
        self._sample = RegularSample()
        self._extent = Extent()

    def add(self, plane: np.ndarray) -> None:
        """Look at planes (..., H, W), or at values of any shape, always of one dtype; NaN does not
        count.

        Raises
        ------
        ImageError
            If a value is infinite.
        """
        values = plane.ravel()
        if values.dtype.kind == "f":
            if np.isinf(values).any():
                raise ImageError(
                    "the image holds infinite values; replace them first (NaN is allowed and kept)"
                )
            values = values[~np.isnan(values)]
        if not values.size:
            return
        self._extent.add(values)
        lone = tuple(lone_pixels(plane).T)
        if values.dtype.kind in "bui" and values.dtype.itemsize <= 2:
            self._count(values, plane[lone] if lone else values[:0])
        else:
            if lone and lone[0].size:
                kept = np.ones(plane.shape, bool)
                kept[lone] = False
                values = plane[kept]
                values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
            self._sample.add(values[:: self._sample.step].astype(np.float64))

    def _count(self, values: np.ndarray, without: np.ndarray) -> None:
        signed = values.dtype.kind == "i"
        self._first = int(np.iinfo(values.dtype).min) if signed else 0
        found = np.bincount(values.astype(np.int32) - self._first)
        if without.size:
            found -= np.bincount(without.astype(np.int32) - self._first, minlength=found.size)
        if found.size > self._counts.size:
            found[: self._counts.size] += self._counts
            self._counts = found
        else:
            self._counts[: found.size] += found

    def merge(self, other: RobustRange) -> None:
        """Take in what was collected elsewhere, of values of the same dtype."""
        self._extent.merge(other._extent)
        if other._counts.size:
            self._first = other._first
            found = np.zeros(max(self._counts.size, other._counts.size), np.int64)
            found[: self._counts.size] += self._counts
            found[: other._counts.size] += other._counts
            self._counts = found
        self._sample.merge(other._sample)

    @property
    def extent(self) -> tuple[float, float]:
        """Minimum and maximum; (0, 1) where there are no values."""
        return self._extent.values

    @property
    def range(self) -> tuple[float, float]:
        """Low and high; equal where all values are, (0, 1) where there are none.

        The percentiles, or minimum and maximum where the percentiles say nothing because nearly
        all values are one.
        """
        if not self._sample.parts and not self._counts.size:
            return self.extent
        if self._sample.parts:
            low, high = np.percentile(np.concatenate(self._sample.parts), PERCENTILES)
        else:
            order = np.cumsum(self._counts)
            low, high = np.searchsorted(order, ranks(order[-1]), side="right") + self._first
        return (float(low), float(high)) if low < high else self.extent


def ranks(count: int) -> np.ndarray:
    """How many values lie below the percentiles, of so many that are counted one by one."""
    return np.rint(np.asarray(PERCENTILES) / 100 * (count - 1))


def robust_range(planes: Iterable[np.ndarray]) -> tuple[float, float]:
    """The range that follows the data, one for all planes; see `RobustRange`.

    Parameters
    ----------
    planes : iterable of ndarray
        Planes of one dtype; a single array is taken plane by plane along its first axis.

    Returns
    -------
    (float, float)
        Values that become black and white; equal where all values are.

    Raises
    ------
    ImageError
        If a value is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((100, 100), 300, np.uint16)
    >>> image[:50] = 200
    >>> image[7, 7] = 65535  # a hot pixel
    >>> robust_range(image)
    (200.0, 300.0)
    """
    found = RobustRange()
    for plane in planes:
        found.add(plane)
    return found.range


def check_range(data_range: Any) -> None:
    """Raise OptionError where a `data_range` is none."""
    if data_range is None or (isinstance(data_range, str)):
        if data_range in (None, "auto", "type", "minmax"):
            return
        raise OptionError(f"data_range must be {_KNOWN}, not {data_range!r}")
    try:
        low, high = (float(v) for v in data_range)
    except (TypeError, ValueError) as error:
        raise OptionError(f"data_range must be {_KNOWN}, not {data_range!r}") from error
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise OptionError(f"data_range needs two finite numbers, low < high, not ({low}, {high})")


def follows_data(dtype: np.dtype, data_range: DataRange, channels: int = 1) -> bool:
    """Whether a range has to be looked for in the data.

    Parameters
    ----------
    dtype : numpy dtype
    data_range : see `UpscaleOptions`
    channels : int
        That belong together. With alpha (2 or 4) None is the type's range: opaque is its end.

    Raises
    ------
    ImageError
        The dtype is none that can be upscaled.
    """
    _check_dtype(dtype)
    if data_range is None:
        narrow = dtype.kind in "biu" and dtype.itemsize == 1
        return channels not in (GRAY_ALPHA, RGBA) and not narrow
    return data_range in ("auto", "minmax")


def fixed_map(dtype: np.dtype, data_range: DataRange) -> ValueMap:
    """The map of a range that does not follow the data: the type's, or two numbers."""
    _check_dtype(dtype)
    check_range(data_range)
    if data_range is not None and not isinstance(data_range, str):
        low, high = (float(v) for v in data_range)
        return ValueMap(dtype, low, high)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return ValueMap(dtype, float(limits.min), float(limits.max))
    return ValueMap(dtype, 0.0, 1.0)


def value_map(array: np.ndarray, data_range: DataRange, layout: Layout | None = None) -> ValueMap:
    """The value range of an array.

    Parameters
    ----------
    array : ndarray
        bool, any integer type, float16, float32 or float64.
    data_range : (low, high), 'auto', 'type', 'minmax' or None
        See `UpscaleOptions`.
    layout : Layout, optional
        Its axes: alpha then does not count for the range of the colours.

    Raises
    ------
    ImageError
        If the dtype is none of these.
    OptionError
        If the range is not two finite numbers with low < high.
    """
    check_range(data_range)
    channels = 1 if layout is None else layout.channels_per_image
    if not follows_data(array.dtype, data_range, channels):
        return fixed_map(array.dtype, data_range)
    found = RobustRange()
    if layout is None:
        found.add(array)
    else:
        whole = Rect(0, layout.height, 0, layout.width)
        for index in layout.images():
            found.add(layout.read(array, index, whole))
    return data_map(array.dtype, data_range, found)


def part_range(part: np.ndarray) -> RobustRange:
    """Values of one part of an image, for the range of the whole."""
    found = RobustRange()
    found.add(part)
    return found


def data_map(dtype: np.dtype, data_range: DataRange, found: RobustRange) -> ValueMap:
    """The map of a range that follows the data."""
    return ValueMap(dtype, *(found.extent if data_range == "minmax" else found.range))


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ImageError(
            f"cannot upscale an array of dtype {dtype}; bool, integers and float16/32/64 work"
        )
