"""Which values of a layer are black and white for the network. No Qt, no napari, no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from esrgan_ext.errors import ImageError, UpscaleCancelled

RangeKind = Literal["type", "limits", "minmax", "own"]
RANGE_LABELS: dict[RangeKind, str] = {
    "type": "By type",
    "limits": "Contrast limits",
    "minmax": "Min to max",
    "own": "Own",
}


@dataclass(frozen=True)
class RangeChoice:
    """How the range is found.

    Attributes
    ----------
    kind : {'type', 'limits', 'minmax', 'own'}
        By type: the type's range for integers, 0 to 1 for floats. Contrast limits and own:
        `values`, the same for all channels. Min to max: of each channel, over the whole layer
        (never of a plane by itself, or a time series would flicker).
    values : (float, float) or None
    """

    kind: RangeKind
    values: tuple[float, float] | None = None


def default_kind(dtype: np.dtype, lazy: bool) -> RangeKind:
    """What suits a layer: microscopes rarely fill 16 bits, and lazy data is costly to scan."""
    if dtype.kind == "b" or dtype == np.uint8:
        return "type"
    return "limits" if lazy else "minmax"


def is_lazy(data: Any) -> bool:
    """Whether reading values means computing or disk access (dask, zarr, h5py, ...)."""
    return not isinstance(data, np.ndarray) or isinstance(data, np.memmap)


def finite_extent_of(
    planes: Iterable[np.ndarray], cancelled: Callable[[], bool]
) -> tuple[float, float]:
    """Minimum and maximum of the finite values of planes read one after another.

    Returns (0, 1) where there is none.

    Raises
    ------
    ImageError
        If a value is infinite.
    UpscaleCancelled
        If `cancelled` says so between two planes.
    """
    low, high = np.inf, -np.inf
    for plane in planes:
        if cancelled():
            raise UpscaleCancelled("upscaling was cancelled")
        if plane.dtype.kind == "f":
            finite = plane[np.isfinite(plane)]
            if finite.size < plane.size and np.isinf(plane).any():
                raise ImageError(
                    "the image holds infinite values; replace them first (NaN is allowed and kept)"
                )
            plane = finite
        if plane.size:
            low, high = min(low, float(plane.min())), max(high, float(plane.max()))
    return (low, high) if low <= high else (0.0, 1.0)


def data_range(extent: tuple[float, float]) -> tuple[float, float] | Literal["auto"]:
    """The `data_range` option for an extent; a constant image has none that is a range."""
    return extent if extent[0] < extent[1] else "auto"
