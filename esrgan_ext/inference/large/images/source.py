"""Large images on disk as arrays that every process opens for itself: zarr, and TIFF by tiles."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from esrgan_ext.errors import ImageFileError
from esrgan_ext.forks import in_forked_child
from esrgan_ext.inference.formats import tiff

# Open files a process keeps: the level that is upscaled, and that of a run before.
_KEPT = 2

Index = tuple[int | slice, ...]


@dataclass(frozen=True)
class Source:
    """An array on disk. A few hundred bytes, to be sent with tasks; the pixels stay where they are.

    Indexed with integers and slices it reads from disk and gives an ndarray.

    Attributes
    ----------
    kind : {'zarr', 'tiff'}
    path : str
        Absolute path of the store or the file.
    component : str
        The array within a store; the pyramid level of a TIFF.
    order : tuple of int
        For each axis, its number in the file.
    shape : tuple of int
        In the order of the axes here.
    dtype : str
    modified : int
        When the file, or the array's metadata, was changed last (ns): a resumed run must find the
        same.
    series : int
        The number of the image in a TIFF that holds several.
    """

    kind: Literal["zarr", "tiff"]
    path: str
    component: str
    order: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    modified: int = 0
    series: int = 0

    def __getitem__(self, index: Index) -> np.ndarray:
        array = opened(self)
        spans = [slice(part, part + 1) if isinstance(part, int) else part for part in index]
        stored: list[slice] = [slice(None)] * len(spans)
        for axis, number in enumerate(self.order):
            stored[number] = spans[axis]
        try:
            pixels = np.asarray(array[tuple(stored)])
        except (MemoryError, FileNotFoundError):
            raise
        except Exception as error:  # codecs raise whatever damaged bytes make them
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ImageFileError(
                f"{self.path}: {self.component} cannot be read at {describe(index)}: {reason[0]}"
            ) from error
        pixels = pixels.transpose(self.order)
        return pixels[tuple(0 if isinstance(part, int) else slice(None) for part in index)]

    def missing_chunks(self) -> tuple[int, int]:
        """How many stored chunks are missing, and how many there should be."""
        if self.kind == "tiff":
            return 0, 0
        array = opened(self)
        return int(array.nchunks - array.nchunks_initialized), int(array.nchunks)

    @property
    def fill_value(self) -> Any:
        return opened(self).fill_value


_guard = threading.Lock()
_open: OrderedDict[tuple[Source, int], Any] = OrderedDict()


def opened(source: Source) -> Any:
    """The array behind a source, opened once a process.

    A TIFF's file handle is shared with a forked parent, and so is its position: the process is
    part of the key.
    """
    key = (source, os.getpid())
    with _guard:
        if key not in _open:
            _open[key] = _opened(source)
        _open.move_to_end(key)
        while len(_open) > _KEPT:
            _open.popitem(last=False)
        return _open[key]


def _opened(source: Source) -> Any:
    try:
        if source.kind == "zarr":
            return zarr.open_array(source.path, path=source.component, mode="r")
        file = tiff.opened(Path(source.path))
        store = tiff.images_of(file)[source.series].aszarr(level=int(source.component))
        return zarr.open_array(store, mode="r", zarr_format=2)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ImageFileError(f"{source.path}: cannot be opened: {reason[0]}") from error


def describe(index: Index) -> str:
    """An index for people: 0, 3, 512:1024, 0:512."""
    parts = []
    for part in index:
        if isinstance(part, int):
            parts.append(str(part))
        else:
            parts.append(
                f"{'' if part.start is None else part.start}:"
                f"{'' if part.stop is None else part.stop}"
            )
    return ", ".join(parts)


def _start_anew() -> None:
    global _guard
    _guard = threading.Lock()
    _open.clear()


in_forked_child(_start_anew)
