"""Images larger than memory, on one machine or many: dask arrays and zarr stores through a network.

`upscale_lazy` makes a dask array; `upscale_store` makes an OME-Zarr store, chunk by chunk, in a
run that can be killed and run again to continue. The names load on first use.

Words: a *chunk* is what one task computes; its *store rect* is where it lies in the array that is
written, its result rect where it lies in the result of the whole image. They differ where only a
region is upscaled, whose result is the *result region*.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esrgan_ext.inference.large.array import upscale_lazy
    from esrgan_ext.inference.large.store.run import upscale_store

_HOME = {"upscale_lazy": "array", "upscale_store": "store.run"}

__all__ = ["upscale_lazy", "upscale_store"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("dask", "distributed", "zarr", "ome_zarr"):
            raise
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install 'esrgan-ext[distributed]'", name=error.name
        ) from error
