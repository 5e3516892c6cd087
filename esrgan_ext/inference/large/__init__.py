"""Images larger than memory, on one machine or many: dask arrays and zarr stores through a network.

`upscale_lazy` makes a dask array; `upscale_store` makes an OME-Zarr store, chunk by chunk, in a
run that can be killed and run again to continue. The names load on first use.

Words: a *chunk* is what one task computes; its *store rect* is where it lies in the array that is
written, its result rect where it lies in the result of the whole image. They differ where only a
region is upscaled, whose result is the *result region*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.lazy import lazy_names

if TYPE_CHECKING:
    from esrgan_ext.inference.large.array import upscale_lazy
    from esrgan_ext.inference.large.store.run import upscale_store

_HOME = {
    "upscale_lazy": "esrgan_ext.inference.large.array",
    "upscale_store": "esrgan_ext.inference.large.store.run",
}

__all__ = ["upscale_lazy", "upscale_store"]

__getattr__ = lazy_names(
    __name__,
    _HOME,
    requirements=("dask", "distributed", "zarr", "ome_zarr"),
    extra="distributed",
)
