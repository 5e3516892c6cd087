"""`ValueMap`, and percentiles, of torch tensors on any device: NumPy's numbers to the bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.inference.arrays import ValueMap

# torch has few operations for the wider unsigned types; uint64 fits into no type that has them.
_WIDE = {torch.uint16: torch.int32, torch.uint32: torch.int64}

NUMPY_DTYPES = {
    torch.bool: np.dtype(bool),
    torch.uint8: np.dtype(np.uint8),
    torch.uint16: np.dtype(np.uint16),
    torch.uint32: np.dtype(np.uint32),
    torch.int8: np.dtype(np.int8),
    torch.int16: np.dtype(np.int16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
    torch.float16: np.dtype(np.float16),
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
_TORCH_DTYPES = {kind: dtype for dtype, kind in NUMPY_DTYPES.items()}


def normalise(window: Tensor, values: ValueMap) -> Tensor:
    """`ValueMap.normalise`, to the bit."""
    span = values.high - values.low or 1.0
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2 and values.low == 0:
        return window.float() * float(np.float32(1 / span))
    return ((window.double() - values.low) / span).float()


def restore(rows: Tensor, values: ValueMap) -> Tensor:
    """`ValueMap.restore`, to the bit; types that torch knows little of come in a wider one."""
    span, kind = values.high - values.low, values.dtype
    dtype = _TORCH_DTYPES[kind]
    dtype = _WIDE.get(dtype, dtype)
    if kind.kind == "b":
        return rows >= 0.5
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        if kind.itemsize > 2 or values.low != 0:  # more digits than float32 has
            rows = rows.double()
        scaled = (rows * span + values.low).round_()
        low, high = float(limits.min), float(limits.max)
        if kind.itemsize == 8:  # the type's largest value is no double: stay below it
            high = float(np.nextafter(high, 0))
        return scaled.clamp_(low, high).to(dtype)
    if values.low == 0 and span == 1:
        return rows.to(dtype)
    return (rows.double() * span + values.low).to(dtype)


def wide(values: Tensor) -> Tensor:
    """In a type that torch computes with."""
    return values.to(_WIDE[values.dtype]) if values.dtype in _WIDE else values


def percentiles(ordered: Tensor, percents: Sequence[float]) -> Tensor:
    """`numpy.percentile` of rows of ordered values, to the bit.

    Parameters
    ----------
    ordered : Tensor, shape (P, n)
        Each row from the least to the largest; NaN at its end does not count.
    percents : sequence of float
        0 to 100.

    Returns
    -------
    Tensor of float64, shape (P, number of percents)
        NaN where a row holds nothing else.
    """
    if not ordered.is_floating_point():
        ordered = ordered.double()
    count = (~ordered.isnan()).sum(1, keepdim=True)
    shares = torch.from_numpy(np.asarray(percents) / 100).to(ordered.device)
    places = (count - 1).clamp(min=0) * shares
    below = places.floor().long()
    above = torch.minimum(below + 1, (count - 1).clamp(min=0))
    low, high = ordered.gather(1, below), ordered.gather(1, above)
    step, part = (high - low).double(), places - below
    return torch.where(part < 0.5, low + step * part, high - step * (1 - part))
