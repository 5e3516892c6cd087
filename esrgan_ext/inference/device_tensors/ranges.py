"""`inference.ranges` of tensors on a GPU: the same values to the bit."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import ImageError
from esrgan_ext.inference import ranges
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.device_tensors.hot_pixels import lone_pixels
from esrgan_ext.inference.ranges import DataRange, RegularSample
from esrgan_ext.inference.tensor_values import NUMPY_DTYPES, percentiles, wide
from esrgan_ext.inference.tiles import Rect


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
    """`ranges.value_map`."""
    ranges.check_range(data_range)
    dtype = NUMPY_DTYPES[image.dtype]
    if not ranges.follows_data(dtype, data_range, layout.channels_per_image):
        return ranges.fixed_map(dtype, data_range)
    extent = _extent(image)
    if data_range == "minmax":
        return ValueMap(dtype, *extent)
    low, high = _robust(image, layout, dtype) or extent
    return ValueMap(dtype, *((low, high) if low < high else extent))


def _extent(image: Tensor) -> tuple[float, float]:
    """Minimum and maximum; (0, 1) where there are none."""
    values = wide(image)
    if check_finite(values):
        missing = values.isnan()
        low = values.masked_fill(missing, math.inf).amin()
        high = values.masked_fill(missing, -math.inf).amax()
    else:
        low, high = values.amin(), values.amax()
    found = float(low), float(high)
    return found if found[0] <= found[1] else (0.0, 1.0)


def _robust(image: Tensor, layout: Layout, dtype: np.dtype) -> tuple[float, float] | None:
    """The percentiles of `RobustRange`; None where there are no values."""
    counted = dtype.kind in "bui" and dtype.itemsize <= 2
    first = int(np.iinfo(dtype).min) if dtype.kind == "i" else 0
    whole = Rect(0, layout.height, 0, layout.width)
    counts: Tensor | int = 0
    sample = RegularSample()
    for index in layout.images():
        block: Tensor = layout.read(image, index, whole)  # type: ignore[arg-type, assignment]
        block = wide(block)
        lone = lone_pixels(block)
        if counted:
            counts = counts + _counts(block, first, dtype)
            if lone is not None:
                counts = counts - _counts(block[tuple(lone.T)], first, dtype)
            continue
        if lone is not None or check_finite(block):
            kept = ~block.isnan()
            if lone is not None:
                kept[tuple(lone.T)] = False
            values = block[kept]
        else:
            values = block.flatten()
        if len(values):
            sample.add(values[:: sample.step].double())
    if isinstance(counts, Tensor):
        order = counts.cumsum(0)
        places = torch.from_numpy(ranges.ranks(int(order[-1]))).to(order.device)
        low, high = torch.searchsorted(order.double(), places, right=True).cpu().tolist()
        return float(low + first), float(high + first)
    if not sample.parts:
        return None
    ordered = torch.cat(sample.parts).sort().values
    low, high = percentiles(ordered[None], ranges.PERCENTILES)[0].cpu().tolist()
    return low, high


def _counts(values: Tensor, first: int, dtype: np.dtype) -> Tensor:
    """How often each value of an integer type of up to 16 bits is there."""
    return torch.bincount(values.flatten().int() - first, minlength=1 << 8 * dtype.itemsize)
