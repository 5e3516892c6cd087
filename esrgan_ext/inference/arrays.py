"""How an image array is read and written: axes, values, NaN.

The one place that knows dtypes and channel layouts. An array is a grid of *images*, each with
one to four channels that belong together (or one channel of many that do not); the network
sees float32 planes in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from esrgan_ext.errors import ImageError, OptionError
from esrgan_ext.inference.tiles import Rect

GRAY, GRAY_ALPHA, RGB, RGBA = 1, 2, 3, 4
# An axis so short behind two so long is not taken for the width of strips without being told.
_FEW, _MANY = 8, 16


@dataclass(frozen=True)
class Layout:
    """Which axes of an array are space, channels and stack.

    Attributes
    ----------
    shape : tuple of int
        Shape of the whole array.
    y_axis, x_axis : int
    channel_axis : int or None
    channels_per_image : int
        Channels of one image: 1 to 4. With more than four channels along `channel_axis`
        every channel is an image of its own and this is 1.
    """

    shape: tuple[int, ...]
    y_axis: int
    x_axis: int
    channel_axis: int | None
    channels_per_image: int

    @property
    def height(self) -> int:
        return self.shape[self.y_axis]

    @property
    def width(self) -> int:
        return self.shape[self.x_axis]

    @property
    def _joined_axes(self) -> set[int]:
        """The axes that run within one image."""
        joined = {self.y_axis, self.x_axis}
        channels = self.channel_axis
        if channels is not None and self.channels_per_image == self.shape[channels]:
            joined.add(channels)
        return joined

    @property
    def stack_axes(self) -> tuple[int, ...]:
        """The axes along which images are stacked."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self._joined_axes)

    def images(self) -> list[tuple[int, ...]]:
        """The index of every image along the axes that are not its own, in C order."""
        return list(np.ndindex(*(self.shape[axis] for axis in self.stack_axes)))

    def slices(self, image: tuple[int, ...], rect: Rect) -> tuple[int | slice, ...]:
        """The full index of a rectangle of one image in an array of this layout."""
        remaining = iter(image)
        index: list[int | slice] = []
        for axis in range(len(self.shape)):
            if axis == self.y_axis:
                index.append(slice(rect.y0, rect.y1))
            elif axis == self.x_axis:
                index.append(slice(rect.x0, rect.x1))
            elif axis in self._joined_axes:
                index.append(slice(None))
            else:
                index.append(next(remaining))
        return tuple(index)

    def read(self, array: np.ndarray, image: tuple[int, ...], rect: Rect) -> np.ndarray:
        """A rectangle of one image as a view of shape (channels_per_image, h, w); of a tensor it is
        a tensor."""
        block = array[self.slices(image, rect)]
        if self.channel_axis is None or self.channel_axis not in self._joined_axes:
            return block[None]
        for axis in range(self._channel_position, 0, -1):
            block = block.swapaxes(axis - 1, axis)
        return block

    def arrange(self, channels: np.ndarray) -> np.ndarray:
        """The inverse of `read`: channels in the axis order of the array, as a view."""
        if self.channel_axis is None or self.channel_axis not in self._joined_axes:
            return channels[0]
        for axis in range(self._channel_position):
            channels = channels.swapaxes(axis, axis + 1)
        return channels

    @property
    def _channel_position(self) -> int:
        """Where the channel axis stands among the three axes of one image."""
        assert self.channel_axis is not None
        return sum(axis < self.channel_axis for axis in (self.y_axis, self.x_axis))

    def by_channel(self) -> Layout:
        """The same array, each of its channels an image of its own."""
        return replace(self, channels_per_image=1)

    def channel_of(self, image: tuple[int, ...]) -> int:
        """Which channel an image of `images` is; 0 where it holds all of them."""
        axis = self.channel_axis
        return image[self.stack_axes.index(axis)] if axis in self.stack_axes else 0

    def resized(self, height: int, width: int) -> Layout:
        """The layout of the result."""
        shape = list(self.shape)
        shape[self.y_axis], shape[self.x_axis] = height, width
        return replace(self, shape=tuple(shape))


def layout_of(shape: tuple[int, ...], channel_axis: int | bool | None) -> Layout:
    """Find the axes of an image array.

    Parameters
    ----------
    shape : tuple of int
        At least two axes, none of length 0.
    channel_axis : int, None or False
        None: 2-D is gray, 3-D whose last axis is 1, 3 or 4 is gray, RGB or RGBA, more axes with a
        last one of 1 are gray too, everything else is a stack of planes over the last two axes,
        and refused where those would be strips of a few pixels. An axis number names the channels
        (1 gray, 2 gray + alpha, 3 RGB, 4 RGBA, more: each by itself). False: always a stack of
        planes.

    Raises
    ------
    ImageError
        If the array has fewer than two axes or no pixels.
    OptionError
        If `channel_axis` is not an axis of the array or leaves fewer than two, or has to be given.
    """
    ndim = len(shape)
    if ndim < 2:
        raise ImageError(f"an image has at least two axes, this array has shape {shape}")
    if 0 in shape:
        raise ImageError(f"the image has no pixels: its shape is {shape}")
    if channel_axis is True or not (
        channel_axis is None or channel_axis is False or isinstance(channel_axis, int | np.integer)
    ):
        raise OptionError(
            f"channel_axis must be an axis number, None or False, not {channel_axis!r}"
        )
    if channel_axis is None and (
        (ndim == 3 and shape[-1] in (GRAY, RGB, RGBA)) or (ndim > 3 and shape[-1] == GRAY)
    ):
        channel_axis = ndim - 1
    if channel_axis is None and ndim > 2 and _looks_like_channels(shape):
        raise OptionError(
            f"the last axis of an array of shape {shape} has {shape[-1]} entries: pass "
            "channel_axis=-1 if they are channels, channel_axis=False if planes are so narrow"
        )
    if channel_axis is None or channel_axis is False:
        return Layout(shape, ndim - 2, ndim - 1, None, 1)
    axis = int(channel_axis)
    if not -ndim <= axis < ndim or ndim < 3:
        raise OptionError(
            f"channel_axis={axis} does not leave two axes of an array of shape {shape}"
        )
    axis %= ndim
    y_axis, x_axis = [k for k in range(ndim) if k != axis][-2:]
    channels_per_image = shape[axis] if shape[axis] <= RGBA else 1
    return Layout(shape, y_axis, x_axis, axis, channels_per_image)


def _looks_like_channels(shape: tuple[int, ...]) -> bool:
    """Whether the last axis is no side of a plane, as far as sizes tell."""
    return shape[-1] <= _FEW and min(shape[-3:-1]) >= _MANY


@dataclass(frozen=True)
class ValueMap:
    """The linear map between an array's values and the network's [0, 1].

    Attributes
    ----------
    dtype : numpy dtype
        The array's, and the result's.
    low, high : float
        The values that become 0 and 1. Equal for a constant image, which stays constant.
    """

    dtype: np.dtype
    low: float
    high: float

    def normalise(self, values: np.ndarray) -> np.ndarray:
        """Array values to float32 in [0, 1] (beyond it where they lie outside the range)."""
        span = self.high - self.low or 1.0
        if self.dtype.kind in "bu" and self.dtype.itemsize <= 2 and self.low == 0:
            return values.astype(np.float32) * np.float32(1 / span)
        # In double first: float32 would lose the low bits of a large offset.
        return ((values.astype(np.float64) - self.low) / span).astype(np.float32)

    def restore(self, values: np.ndarray) -> np.ndarray:
        """Network output back to the array's dtype and range.

        Integers are rounded half to even and clipped to the type's range, bool is cut at 1/2,
        floats are not clipped.
        """
        span = self.high - self.low
        if self.dtype.kind == "b":
            return values >= 0.5
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            if self.dtype.itemsize > 2 or self.low != 0:  # more digits than float32 has
                values = values.astype(np.float64)
            scaled = np.rint(values * span + self.low)
            if self.dtype.itemsize == 8:  # the type's largest value is no double: stay below it
                return np.clip(
                    scaled, float(limits.min), np.nextafter(float(limits.max), 0)
                ).astype(self.dtype)
            return np.clip(scaled, limits.min, limits.max).astype(self.dtype)
        if self.low == 0 and span == 1:
            return values.astype(self.dtype)
        return (values.astype(np.float64) * span + self.low).astype(self.dtype)


class Extent:
    """Minimum and maximum of the finite values of arrays that are read one after another."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Look at an array of any shape."""
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if values.size:
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))

    def merge(self, other: Extent) -> None:
        """Take in what was collected elsewhere."""
        self._low, self._high = min(self._low, other._low), max(self._high, other._high)

    @property
    def empty(self) -> bool:
        """Whether there was no finite value."""
        return self._low > self._high

    @property
    def values(self) -> tuple[float, float]:
        """Minimum and maximum; (0, 1) where there are none."""
        return (0.0, 1.0) if self.empty else (self._low, self._high)


def finite_extent(array: np.ndarray) -> tuple[float, float]:
    """Minimum and maximum of the finite values; (0, 1) where there are none.

    Parameters
    ----------
    array : ndarray
        bool, any integer type or floating point.
    """
    extent = Extent()
    for plane in array.reshape(-1, *array.shape[-2:]) if array.ndim > 2 else [array]:
        extent.add(plane)
    return extent.values


def check_finite(image: np.ndarray) -> int:
    """Count the NaN of an array; infinities raise ImageError."""
    if image.dtype.kind != "f":
        return 0
    if np.isinf(image).any():
        raise ImageError(
            "the image holds infinite values; replace them first (NaN is allowed and kept)"
        )
    return int(np.isnan(image).sum())


def fill_nan(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Fill the NaN pixels of a plane from the nearest valid pixel.

    Parameters
    ----------
    plane : ndarray, shape (H, W), floating point

    Returns
    -------
    filled : ndarray, shape (H, W)
        The plane itself where it holds no NaN; zeros where it holds nothing else.
    mask : ndarray of bool, shape (H, W), or None
        True where NaN was; None where there was none.
    """
    mask = np.isnan(plane)
    if not mask.any():
        return plane, None
    if mask.all():
        return np.zeros_like(plane), mask
    return from_nearest(plane[None], mask)[0], mask


def fill_hidden(channels: np.ndarray) -> np.ndarray:
    """Give fully transparent pixels the colour of the nearest one that shows.

    Drawing programs store (0, 0, 0, 0) around what they draw: a network would see a black edge
    there, and draw it.

    Parameters
    ----------
    channels : ndarray, shape (C, H, W)
        The last one is alpha; transparent is 0 or below.

    Returns
    -------
    ndarray, shape (C, H, W)
        The array itself where all of it shows, or nothing.
    """
    hidden = channels[-1] <= 0
    if not hidden.any() or hidden.all():
        return channels
    return np.concatenate([from_nearest(channels[:-1], hidden), channels[-1:]])


def from_nearest(planes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fill what a mask covers from the nearest pixel that it does not cover.

    Parameters
    ----------
    planes : ndarray, shape (C, H, W)
    mask : ndarray of bool, shape (H, W)
        True somewhere, but not everywhere.
    """
    return planes.reshape(len(planes), -1)[:, nearest_places(mask)]


def nearest_places(mask: np.ndarray) -> np.ndarray:
    """For each pixel, the nearest one that a mask does not cover; itself where that is so.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        True somewhere, but not everywhere.

    Returns
    -------
    ndarray of int64, shape (H, W)
        Places in the flattened plane.
    """
    # Each valid pixel is a zero of the distance transform with a label of its own; every
    # other pixel gets the label of the nearest one.
    _, labels = cv2.distanceTransformWithLabels(
        mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    place_of = np.zeros(labels.max() + 1, np.int64)
    place_of[labels[~mask]] = np.flatnonzero(~mask)
    return place_of[labels]


def nearest_mask(
    mask: np.ndarray,
    target_size: tuple[int, int],
    rect: Rect,
    size: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """A rectangle of a boolean mask resized to `target_size` by the nearest pixel; for the
    parameters see `nearest_indices`.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)

    Returns
    -------
    ndarray of bool, shape (rect.height, rect.width)
    """
    rows, columns = nearest_indices(size or mask.shape, target_size, rect, origin)
    return mask[np.ix_(rows, columns)]


def nearest_indices(
    size: tuple[int, ...],
    target_size: tuple[int, int],
    rect: Rect,
    origin: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a window that are nearest to those of a rectangle of the result.

    Parameters
    ----------
    size, target_size : (int, int)
        Height and width of the whole image and of its result.
    rect : Rect
        In pixels of the result.
    origin : (int, int)
        Row and column of the image at which the window begins.

    Returns
    -------
    rows, columns : ndarray of int
    """
    rows = ((np.arange(rect.y0, rect.y1) + 0.5) * size[0] / target_size[0]).astype(np.intp)
    columns = ((np.arange(rect.x0, rect.x1) + 0.5) * size[1] / target_size[1]).astype(np.intp)
    return rows - origin[0], columns - origin[1]
