"""Tensors on a GPU: what `windows`, `ranges` and `samples` do to arrays, without the host.

The pixels stay where they are. What crosses is what a decision needs: a few flags and extremes per
window, masks of missing and of transparent pixels where there are some (the search for the nearest
pixel is OpenCV's), and the neighbourhoods of single pixels that lie far beyond the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import ImageError, OutOfMemory
from esrgan_ext.inference import arrays, hot_pixels, ranges
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.devices import Device
from esrgan_ext.inference.engine import Engine, is_out_of_memory
from esrgan_ext.inference.hot_pixels import OFFSETS, HotPixels
from esrgan_ext.inference.job import ImageJob
from esrgan_ext.inference.ranges import DataRange
from esrgan_ext.inference.resample import PieceResampler
from esrgan_ext.inference.tensor_values import NUMPY_DTYPES, normalise, restore, wide
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.inference.windows import NORMALISED_PIXELS, Piece, Steps, WindowGeometry
from esrgan_ext.ops.eager import OnWork


def stays(image: Tensor, devices: Sequence[Device]) -> bool:
    """Whether a tensor need not leave its GPU to be upscaled on these devices."""
    return (
        image.device.type == "cuda"
        and (image.dtype in NUMPY_DTYPES or image.dtype == torch.bfloat16)
        and all(device.device.type == "cuda" for device in devices)
    )


def finish_work(devices: Iterable[torch.device]) -> None:
    """Wait for all that is enqueued there, on any stream."""
    for device in set(devices):
        torch.cuda.synchronize(device)


def check_finite(image: Tensor) -> int:
    """`arrays.check_finite`: count the NaN; infinities raise ImageError."""
    if not image.is_floating_point() or bool(image.isfinite().all()):
        return 0
    if bool(image.isinf().any()):
        raise ImageError(
            "the image holds infinite values; replace them first (NaN is allowed and kept)"
        )
    return int(image.isnan().sum())


def value_map(image: Tensor, data_range: DataRange, layout: Layout) -> ValueMap:
    """`ranges.value_map`, for every range but that of percentiles."""
    ranges.check_range(data_range)
    dtype = NUMPY_DTYPES[image.dtype]
    if not ranges.follows_data(dtype, data_range, layout.channels_per_image):
        return ranges.fixed_map(dtype, data_range)
    values = wide(image)
    if not values.is_floating_point():
        low, high = values.amin(), values.amax()
    else:
        check_finite(values)
        missing = values.isnan()
        low = values.masked_fill(missing, math.inf).amin()
        high = values.masked_fill(missing, -math.inf).amax()
    found = float(low), float(high)
    return ValueMap(dtype, *(found if found[0] <= found[1] else (0.0, 1.0)))


def has_empty_channel(image: Tensor, layout: Layout) -> bool:
    """`samples.has_empty_channel`, of all pixels."""
    axis = layout.channel_axis
    if layout.channels_per_image not in (arrays.RGB, arrays.RGBA) or axis is None:
        return False
    colours = wide(image).narrow(axis, 0, arrays.RGB).movedim(axis, 0).flatten(1)
    even: list[bool] = (colours == colours[:, :1]).all(1).cpu().tolist()
    return any(even) and not all(even)


def allocated(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for a result.

    Raises
    ------
    OutOfMemory
        There is not so much.
    """
    try:
        return torch.empty(shape, dtype=dtype, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        gigabytes = math.prod(shape) * dtype.itemsize / 1e9
        raise OutOfMemory(
            f"the result of shape {shape} needs {gigabytes:.1f} GB on {device}, more than there "
            "is: give a smaller outscale, or an array in main memory"
        ) from error


class _TensorResampler(PieceResampler):
    """A `PieceResampler` of rows on a device."""

    def _weighted_sum(
        self, values: Any, positions: np.ndarray, weights: np.ndarray, axis: int
    ) -> Any:
        at = torch.from_numpy(positions).to(values.device)
        by = torch.from_numpy(weights).to(values.device)
        shape = [1] * values.ndim
        shape[axis] = -1
        total: Tensor | None = None
        for tap in np.flatnonzero(weights.any(0)).tolist():
            term = values.index_select(axis, at[:, tap]).mul_(by[:, tap].reshape(shape))
            total = term if total is None else total.add_(term)
        assert total is not None  # the weights of each position add up to 1
        return total

    def _joined(self, above: Any, below: Any) -> Any:
        return torch.cat((above, below), 1)


class TensorSteps(Steps):
    """The steps of a window for tensors on a device. Between them nothing crosses to the host but
    what a decision needs."""

    resampler = _TensorResampler

    def without_missing(self, window: Tensor) -> tuple[Tensor, Tensor | None]:
        """Each plane with its missing pixels from the nearest others; zeros where all are."""
        if not check_finite(window):
            return window, None
        missing = window.isnan()
        filled = window.masked_fill(missing, 0).flatten(0, 1)
        for plane, mask in zip(filled, missing.flatten(0, 1).cpu().numpy(), strict=True):
            if mask.any() and not mask.all():
                plane.copy_(plane.flatten()[_nearest(mask, plane.device)])
        return filled.reshape(window.shape), missing

    def all_missing(self, missing: Tensor) -> bool:
        return bool(missing.all())

    def lost(self, window: Tensor, rect: Rect, values: ValueMap, spread: bool) -> Piece:
        pixels = window.new_full((*window.shape[:2], rect.height, rect.width), math.nan)
        return Piece(rect, pixels, pixels.float() if spread else None)

    def without_hidden(self, window: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        if window.shape[1] not in (arrays.GRAY_ALPHA, arrays.RGBA):
            return window, None
        window = _with_hidden_filled(window)
        alpha = wide(window[:, -1])
        first = alpha[:, :1, :1]
        return window, ((alpha == first).flatten(1).all(1)[:, None, None], first)

    def find_hot(self, window: Tensor, values: ValueMap) -> HotPixels | None:
        limits = hot_pixels.limits_of(values)
        if limits is None or not window.numel():
            return None
        low, high = limits
        pixels = wide(window)
        # Like NumPy's, the comparison is exact: of integers with a double.
        compared = pixels if pixels.is_floating_point() else pixels.double()
        beyond = (compared > high) | (compared < low)
        count = int(beyond.sum())
        if not count:
            return None
        span = values.high - values.low
        if count > hot_pixels.MANY * beyond.numel():
            beyond &= _steep(pixels, hot_pixels.BEYOND * span)

        def look_at(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            own, around = _around(pixels, torch.from_numpy(places).to(pixels.device))
            return own.cpu().numpy(), around.cpu().numpy()

        found = beyond.nonzero().cpu().numpy()
        return hot_pixels.hot_among(found, look_at, tuple(window.shape), span)

    def without_hot(self, window: Tensor, hot: HotPixels) -> Tensor:
        copy = wide(window).clone()
        filled = hot.filled if copy.is_floating_point() else np.rint(hot.filled)
        where = tuple(
            torch.from_numpy(np.ascontiguousarray(places)).to(copy.device)
            for places in (hot.image, hot.channel, hot.row, hot.column)
        )
        copy[where] = torch.from_numpy(filled).to(copy.device, copy.dtype)
        return copy

    def normalised(self, window: Tensor, values: ValueMap, on_work: OnWork) -> Tensor:
        """In strips, so that what is computed in double takes little memory."""
        height, width = window.shape[2:]
        planes = torch.empty(window.shape, dtype=torch.float32, device=window.device)
        rows = max(1, NORMALISED_PIXELS // max(width, 1))
        for top in range(0, height, rows):
            planes[:, :, top : top + rows] = normalise(window[:, :, top : top + rows], values)
            on_work(0)
        return planes

    def rows(
        self, engine: Engine, planes: Tensor, on_work: OnWork, spread: bool
    ) -> Iterator[tuple[int, Tensor]]:
        return (engine.tensor_spread if spread else engine.tensor_rows)(planes, on_work)

    def with_hot(
        self, piece: Tensor, hot: HotPixels, rect: Rect, geometry: WindowGeometry
    ) -> Tensor:
        whole = piece.clone()
        for where, spread in hot.spreads(
            rect, geometry.source_window, geometry.size, geometry.result_size
        ):
            whole[where] += torch.from_numpy(spread).to(whole.device, whole.dtype)
        return whole

    def restored(self, piece: Tensor, values: ValueMap) -> Tensor:
        return restore(piece, values)

    def finished(
        self, pixels: Tensor, alpha: tuple[Tensor, Tensor] | None, dtype: torch.dtype
    ) -> Tensor:
        if alpha is not None:
            even, value = alpha
            pixels = wide(pixels).clone()
            pixels[:, -1] = torch.where(even, value.to(pixels.dtype), pixels[:, -1])
        return pixels.to(dtype)

    def scaled(self, std: Tensor, values: ValueMap) -> Tensor:
        return std * (values.high - values.low)

    def put_back(
        self,
        missing: Tensor,
        geometry: WindowGeometry,
        rect: Rect,
        pixels: Tensor,
        std: Tensor | None,
    ) -> None:
        origin = (geometry.source_window.y0, geometry.source_window.x0)
        rows, columns = arrays.nearest_indices(geometry.size, geometry.result_size, rect, origin)
        device = missing.device
        lost = missing[:, :, torch.from_numpy(rows).to(device)]
        lost = lost[..., torch.from_numpy(columns).to(device)]
        pixels.masked_fill_(lost, math.nan)
        if std is not None:
            std.masked_fill_(lost, math.nan)


class TensorJob(ImageJob):
    """An `ImageJob` whose image and results are tensors on a GPU, C, H, W or N, C, H, W."""

    steps = TensorSteps()

    def read(self, members: list[tuple[int, ...]], rect: Rect) -> Any:
        image: Any = self.image
        planes = [image[self.layout.slices(index, rect)] for index in members]
        return planes[0][None] if len(planes) == 1 else torch.stack(planes)

    def _arranged(self, channels: Any) -> Any:
        return channels


def _with_hidden_filled(window: Tensor) -> Tensor:
    """`arrays.fill_hidden`: transparent pixels get the colours of the nearest that show."""
    hidden = wide(window[:, -1]) <= 0
    some = hidden.flatten(1).any(1) & ~hidden.flatten(1).all(1)
    chosen: list[bool] = some.cpu().tolist()
    if not any(chosen):
        return window
    window = window.clone()
    for image, mask, wanted in zip(window, hidden, chosen, strict=True):
        if wanted:
            colours = image[:-1].flatten(1)
            places = _nearest(mask.cpu().numpy(), image.device)
            image[:-1] = wide(colours)[:, places].to(image.dtype)
    return window


def _nearest(mask: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(arrays.nearest_places(mask)).to(device)


def _around(window: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Values at some places, and the 24 around each; NaN beyond the window's edge."""
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


def _steep(window: Tensor, height: float) -> Tensor:
    """`hot_pixels._steep`: pixels most of whose eight neighbours lie far below, or far above."""
    rows, columns = window.shape[2:]
    own = window.float()
    padded = torch.nn.functional.pad(own, (1, 1, 1, 1), value=math.nan)
    least = float(np.float32((1 - hot_pixels.SHARE) * height))
    below = torch.zeros(own.shape, dtype=torch.int8, device=own.device)
    above = below.clone()
    for dy, dx in (OFFSETS[k] for k in hot_pixels.NEAR):
        step = own - padded[..., 1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]
        outside = step.isnan()
        below += (step > least) | outside
        above += (step < -least) | outside
    return torch.maximum(below, above) >= 8 - hot_pixels.HOT_NEIGHBOURS
