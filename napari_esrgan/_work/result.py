"""Where a result grows: an array in memory, or a zarr store where it would not fit.

Both show as a pyramid when they are large; a level is every second pixel of the one before, so
that a finished piece is in all levels at once. Not the pyramid of `inference.large.store`, which
outlives the run and so takes means, level after level when the one before is complete.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from esrgan_ext.errors import OutOfMemory
from napari_esrgan._work.stores import make_store

# A plane above this shows as a pyramid: napari redraws the visible level only, and no graphics
# card takes textures above 16384.
MULTISCALE_SIDE = 4096
_COARSEST_SIDE = 1024

# A chunk of a store is what napari reads at a time: 2 to 8 MB in the types that images have.
CHUNK_SIDE = 1024

Index = tuple[int | slice, ...]


class Result(Protocol):
    """An array that is written piece by piece.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    path : Path or None
        The store on disk.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    path: Path | None

    @property
    def levels(self) -> Any:
        """Data of a layer: an array, or a list of arrays from fine to coarse."""

    def view(self, index: Index) -> np.ndarray | None:
        """Memory to write into directly; None where pieces must go through `write`."""

    def write(self, index: Index, piece: np.ndarray) -> None:
        """Put a piece in place. The slices of `index` have non-negative starts and stops."""

    def discard(self) -> None:
        """Give up: delete what is on disk."""


def level_steps(height: int, width: int) -> list[int]:
    """Subsampling steps of the pyramid: [1] where the plane needs none."""
    steps = [1]
    if max(height, width) > MULTISCALE_SIDE:
        while max(height, width) / steps[-1] > _COARSEST_SIDE:
            steps.append(steps[-1] * 2)
    return steps


class MemoryResult:
    """A NumPy array; coarser levels are strided views of it."""

    path: Path | None = None

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, y: int, x: int) -> None:
        try:
            self.array = np.empty(shape, dtype)
        except MemoryError as error:
            gigabytes = math.prod(shape) * dtype.itemsize / 1e9
            raise OutOfMemory(
                f"the result needs {gigabytes:.1f} GB of memory, more than there is: choose a "
                "smaller output scale or region, or lower the memory budget in the preferences "
                "so that results go to disk"
            ) from error
        self.shape, self.dtype = shape, dtype
        self._y, self._x = y, x

    @property
    def levels(self) -> Any:
        steps = level_steps(self.shape[self._y], self.shape[self._x])
        if len(steps) == 1:
            return self.array
        return [self.array[_strided(len(self.shape), self._y, self._x, step)] for step in steps]

    def view(self, index: Index) -> np.ndarray:
        return self.array[index]

    def write(self, index: Index, piece: np.ndarray) -> None:
        self.array[index] = piece

    def discard(self) -> None:
        pass


class ZarrResult:
    """A zarr group on disk with one array a level ("0" is the finest)."""

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype, y: int, x: int, folder: Path | None
    ) -> None:
        import zarr

        self.path: Path | None = make_store(folder)
        self.shape, self.dtype = shape, dtype
        self._y, self._x = y, x
        self._steps = level_steps(shape[y], shape[x])
        group = zarr.open_group(str(self.path), mode="w")
        self._arrays = []
        for number, step in enumerate(self._steps):
            level_shape = list(shape)
            chunks = [1] * len(shape)
            for axis in (y, x):
                level_shape[axis] = -(-shape[axis] // step)
                chunks[axis] = min(CHUNK_SIDE, level_shape[axis])
            if len(shape) > max(y, x) + 1 and shape[-1] in (3, 4):
                chunks[-1] = shape[-1]
            self._arrays.append(
                group.create_array(
                    str(number), shape=tuple(level_shape), chunks=tuple(chunks), dtype=dtype
                )
            )

    @property
    def levels(self) -> Any:
        return self._arrays if len(self._arrays) > 1 else self._arrays[0]

    def view(self, index: Index) -> None:
        return None

    def write(self, index: Index, piece: np.ndarray) -> None:
        for array, step in zip(self._arrays, self._steps, strict=True):
            target: list[int | slice] = list(index)
            source: list[slice] = []
            for axis, part in enumerate(index):
                if isinstance(part, slice):
                    if axis in (self._y, self._x):
                        start, stop, _ = part.indices(self.shape[axis])
                        first, last = -(-start // step), -(-stop // step)
                        target[axis] = slice(first, last)
                        source.append(slice(first * step - start, None, step))
                    else:
                        source.append(slice(None))
            thinned = piece[tuple(source)]
            if thinned.size:
                array[tuple(target)] = thinned

    def discard(self) -> None:
        assert self.path is not None
        shutil.rmtree(self.path, ignore_errors=True)


def make_result(
    shape: tuple[int, ...],
    dtype: np.dtype,
    y: int,
    x: int,
    budget_bytes: float,
    folder: Path | None,
) -> Result:
    """Memory where the budget allows it, else a store in `folder` (`stores.default_folder` if
    None)."""
    if math.prod(shape) * dtype.itemsize <= budget_bytes:
        return MemoryResult(shape, dtype, y, x)
    return ZarrResult(shape, dtype, y, x, folder)


def _strided(ndim: int, y: int, x: int, step: int) -> tuple[slice, ...]:
    return tuple(slice(None, None, step if axis in (y, x) else None) for axis in range(ndim))
