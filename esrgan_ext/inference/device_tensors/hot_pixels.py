"""`inference.hot_pixels` of tensors on a GPU: the same pixels, found, filled and put back there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.inference import hot_pixels
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.hot_pixels import NEAR, OFFSETS, TOGETHER
from esrgan_ext.inference.tensor_values import percentiles, wide
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.inference.windows import WindowGeometry

# Hot pixels put back together: each is spread over up to a few hundred pixels.
_PUT_BACK = 1 << 12


@dataclass(frozen=True)
class HotPixels:
    """Where they are in a window, and what was taken off; all on the device.

    Attributes
    ----------
    places : Tensor of int64, shape (K, 4)
        Image, channel, row and column in the window.
    filled : Tensor of float64, shape (K,)
        Values that stand there for the network, in the window's values.
    excess : Tensor of float64, shape (K,)
        Height to be added again, as a share of the range.
    """

    places: Tensor
    filled: Tensor
    excess: Tensor

    def without(self, window: Tensor) -> Tensor:
        """A copy of the window that they were found in, filled."""
        copy = wide(window).clone()
        filled = self.filled if copy.is_floating_point() else self.filled.round()
        copy[tuple(self.places.T)] = filled.to(copy.dtype)
        return copy

    def add(self, rect: Rect, piece: Tensor, geometry: WindowGeometry) -> None:
        """Add what was taken off to a piece of the result.

        Parameters
        ----------
        rect : Rect
            In pixels of the result.
        piece : Tensor, shape (N, C or more, rect.height, rect.width)
            As shares of the range; changed in place.
        geometry : WindowGeometry
            The window's.
        """
        source, size, result_size = geometry.source_window, geometry.size, geometry.result_size
        for k in range(0, len(self.places), _PUT_BACK):
            image, channel, row, column = self.places[k : k + _PUT_BACK].T[..., None, None]
            rows, along_y = _spread(row + source.y0, size[0], result_size[0], rect.y0, rect.y1)
            columns, along_x = _spread(
                column + source.x0, size[1], result_size[1], rect.x0, rect.x1
            )
            spread = along_y.mT * along_x * self.excess[k : k + _PUT_BACK, None, None]
            piece.index_put_(
                (image, channel, rows.mT, columns), spread.to(piece.dtype), accumulate=True
            )


def _spread(
    places: Tensor, source: int, target: int, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    """Where along an axis of a piece each place of the source counts, and how much, by linear
    interpolation: (K, 1, 1) to (K, 1, L) twice."""
    ratio = source / target
    widening = max(ratio, 1.0)
    length = math.ceil(2 * widening / ratio) + 3
    places = places.double()
    first = ((places + 0.5 - widening) / ratio - 0.5).floor().long()
    at = first + torch.arange(length, device=places.device)
    centre = ((at.double() + 0.5) * ratio - 0.5).clamp(0, source - 1)
    weights = (1 - (centre - places).abs() / widening).clamp(min=0) / widening
    weights = weights.masked_fill((at < start) | (at >= stop), 0)
    return (at - start).clamp(0, stop - start - 1), weights


def lone_pixels(planes: Tensor) -> Tensor | None:
    """`hot_pixels.lone_pixels`: pixels that stand alone, far beyond the percentiles of their plane.

    Parameters
    ----------
    planes : Tensor, shape (P, H, W)
        Pixels of a type that torch computes with. NaN is passed over.

    Returns
    -------
    Tensor of int64, shape (K, 3), or None
        Their indices; None where nothing lies beyond.
    """
    height, width = planes.shape[1:]
    if planes.dtype == torch.bool or min(height, width) < hot_pixels.SMALLEST:
        return None
    sample = planes[:, :: max(1, height // hot_pixels.ROWS)].flatten(1)
    low, high = percentiles(sample.sort(1).values, (1, 99)).T
    reach = hot_pixels.BEYOND * (high - low)
    beyond = _beyond(planes, (low - reach)[:, None, None], (high + reach)[:, None, None])
    if not bool(beyond.any()):
        return None
    found = beyond.nonzero()
    grid, alone = planes[None], []
    for places in found.split(TOGETHER):
        own, around = _around(grid, torch.nn.functional.pad(places, (1, 0)))
        alone.append(_alone(own, around, reach[places[:, 0]]))
    return found[torch.cat(alone)]


def without_lone_pixels(plane: Tensor) -> Tensor:
    """A plane (H, W) with the median of the pixels around in place of each lone one; itself where
    there is none."""
    places = lone_pixels(plane[None])
    if places is None or not len(places):
        return plane
    _, around = _around(plane[None, None], torch.nn.functional.pad(places, (1, 0)))
    copy = plane.clone()
    copy[tuple(places[:, 1:].T)] = _median(around).to(copy.dtype)
    return copy


def find_hot_pixels(window: Tensor, values: ValueMap) -> HotPixels | None:
    """`hot_pixels.find_hot_pixels`, for a window (N, C, H, W) without NaN."""
    limits = hot_pixels.limits_of(values)
    if limits is None or not window.numel():
        return None
    pixels = wide(window)
    beyond = _beyond(pixels, *limits)
    count = int(beyond.sum())
    if not count:
        return None
    span = values.high - values.low
    if count > hot_pixels.MANY * beyond.numel():
        beyond &= _steep(pixels, hot_pixels.BEYOND * span)
    return _hot_among(beyond.nonzero(), pixels, span)


def _beyond(pixels: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Like NumPy's, the comparison is in a float's own type, and of integers with a double."""
    if not pixels.is_floating_point():
        pixels = pixels.double()
    if isinstance(low, Tensor) and isinstance(high, Tensor):
        low, high = low.to(pixels.dtype), high.to(pixels.dtype)
    return (pixels > high) | (pixels < low)


def _hot_among(found: Tensor, window: Tensor, span: float) -> HotPixels | None:
    """Those of the pixels far beyond a range that stand alone."""
    kept = []
    for places in found.split(TOGETHER):
        own, around = _around(window, places)
        alone = _alone(own, around, hot_pixels.BEYOND * span)
        kept.append((places[alone], own[alone], around[alone]))
    hot, own, around = (torch.cat(parts) for parts in zip(*kept, strict=True))
    if not len(hot):
        return None
    mask = torch.zeros(window.shape, dtype=torch.bool, device=window.device)
    mask[tuple(hot.T)] = True
    _, hot_around = _around(mask, hot)
    near = _near(around.masked_fill(hot_around == 1, math.nan))
    finite = near.isfinite()
    told = finite.any(1)
    hot, own, near, finite = hot[told], own[told], near[told], finite[told]
    if not len(hot):
        return None
    total = torch.zeros_like(own)
    for column in near.masked_fill(~finite, 0).T:  # in this order, as NumPy adds them
        total = total + column
    filled = total / finite.sum(1)
    return HotPixels(hot, filled, (own - filled) / span)


def _around(window: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Values at some places (K, 4) of a window, and the 24 around each, NaN beyond its edge; as
    float64."""
    height, width = window.shape[2:]
    image, channel, row, column = places.T
    own = window[image, channel, row, column].double()
    around = []
    for dy, dx in OFFSETS:
        y, x = row + dy, column + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        there = window[image, channel, y.clamp(0, height - 1), x.clamp(0, width - 1)].double()
        around.append(there.masked_fill(~inside, math.nan))
    return own, torch.stack(around, 1)


def _near(around: Tensor) -> Tensor:
    """The eight nearest of the 24."""
    return torch.stack([around[:, k] for k in NEAR], 1)


def _median(around: Tensor) -> Tensor:
    """Of each row (K, n), NaN left out; NaN where there is nothing else."""
    ordered = around.sort(1).values  # NaN comes last
    count = (~around.isnan()).sum(1, keepdim=True)
    middle = torch.cat(((count - 1).clamp(min=0) // 2, count // 2), 1)
    found = ordered.gather(1, middle.clamp(max=around.shape[1] - 1))
    return (found[:, 0] + found[:, 1]) / 2


def _alone(own: Tensor, around: Tensor, height: Tensor | float) -> Tensor:
    """Which of these pixels stand alone, more than `height` above or below all around."""
    median = _median(around)
    above = own - median
    as_high = (_near(around) - median[:, None]) * above.sign()[:, None]
    hot = (as_high > hot_pixels.SHARE * above.abs()[:, None]).sum(1)
    few = 8 * hot <= hot_pixels.HOT_NEIGHBOURS * as_high.isfinite().sum(1)  # fewer at the border
    return (above.abs() > height) & few


def _steep(window: Tensor, height: float) -> Tensor:
    """Pixels most of whose eight neighbours lie far below, or far above."""
    rows, columns = window.shape[2:]
    own = window.float()
    padded = torch.nn.functional.pad(own, (1, 1, 1, 1), value=math.nan)
    least = float(np.float32((1 - hot_pixels.SHARE) * height))
    below = torch.zeros(own.shape, dtype=torch.int8, device=own.device)
    above = below.clone()
    for dy, dx in (OFFSETS[k] for k in NEAR):
        step = own - padded[..., 1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]
        outside = step.isnan()
        below += (step > least) | outside
        above += (step < -least) | outside
    return torch.maximum(below, above) >= 8 - hot_pixels.HOT_NEIGHBOURS
