"""Which values of a layer are black and white for the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

RangeKind = Literal["data", "type", "limits", "minmax", "own"]
RANGE_LABELS: dict[RangeKind, str] = {
    "data": "Follow the data",
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
    kind : {'data', 'type', 'limits', 'minmax', 'own'}
        Follow the data: of each channel, over the whole layer (never of a plane by itself, or a
        time series would flicker), without the few darkest and brightest values; see
        `esrgan_ext.inference.ranges`. By type: the type's range for integers, 0 to 1 for floats.
        Contrast limits and own: `values`, the same for all channels. Min to max: as follow the
        data, with every value.
    values : (float, float) or None
    """

    kind: RangeKind
    values: tuple[float, float] | None = None


def default_kind(dtype: np.dtype, lazy: bool) -> RangeKind:
    """A layer's default range: microscopes rarely fill 16 bits, lazy data is costly to scan."""
    if dtype.kind == "b" or dtype == np.uint8:
        return "type"
    return "limits" if lazy else "data"


def is_lazy(data: Any) -> bool:
    """Whether reading values means computing or disk access (dask, zarr, h5py, ...)."""
    return not isinstance(data, np.ndarray) or isinstance(data, np.memmap)


def data_range(extent: tuple[float, float]) -> tuple[float, float] | Literal["auto"]:
    """The `data_range` option for an extent; a constant image has none that is a range."""
    return extent if extent[0] < extent[1] else "auto"
