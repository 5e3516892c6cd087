"""One call of an Upscaler: where pixels come from and where finished pieces go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from esrgan_ext.errors import OptionError, OutOfMemory
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.engine import Engine
from esrgan_ext.inference.progress import Meter, Progress
from esrgan_ext.inference.result_memory import copy_by_threads
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.inference.windows import ARRAY_STEPS, Piece, Steps, WindowGeometry, window_pieces
from esrgan_ext.ops.eager import OnWork

OnTile = Callable[[Any, tuple[int | slice, ...]], None]
"""Called as on_tile(piece, slices): ``result[slices]`` is now ``piece``, a tensor where the result
is one, else an array."""


@dataclass(frozen=True)
class Call:
    """Arguments of `Upscaler.__call__` that travel together."""

    progress: Progress | None = None
    on_tile: OnTile | None = None
    out: np.ndarray | None = None
    start: tuple[float, float] | None = None
    region: Rect | None = None
    return_std: bool = False


@dataclass(frozen=True)
class ImageJob:
    """One call of an Upscaler: what comes in, where it goes.

    `region` is the part of each image that is upscaled, `result_layout` the axes and the size of
    its result, which is `out`'s; `result_size` is that of a whole image. `converted`: the engine
    takes and gives pixels as they are stored, not as the network sees them. `std`: where the
    spread goes, if it is wanted. `steps` are those of the image's kind.
    """

    steps: ClassVar[Steps] = ARRAY_STEPS

    image: np.ndarray
    out: np.ndarray
    layout: Layout
    region: Rect
    result_size: tuple[int, int]
    result_layout: Layout
    values: ValueMap
    on_tile: OnTile | None
    meter: Meter
    start: tuple[float, float] | None = None
    converted: bool = False
    consistent: bool = False
    std: np.ndarray | None = None

    @property
    def reserved_bytes(self) -> int:
        """Bytes of the results, which fill their memory only as they are written."""
        return self.out.nbytes + (0 if self.std is None else self.std.nbytes)

    def read(self, members: list[tuple[int, ...]], rect: Rect) -> np.ndarray:
        """Part of some images as (N, channels, h, w), without a copy where it is one image."""
        planes = [self.layout.read(self.image, index, rect) for index in members]
        if self.converted:  # channels side by side, as most images have them
            shape = (len(planes), rect.height, rect.width, self.layout.channels_per_image)
            window = np.moveaxis(np.empty(shape, self.image.dtype), -1, 1)
            for copy, read in zip(window, planes, strict=True):
                copy[:] = read
            return window
        return planes[0][None] if len(planes) == 1 else np.stack(planes)

    def pieces(
        self, engine: Engine, window: np.ndarray, geometry: WindowGeometry, on_work: OnWork
    ) -> Iterator[Piece]:
        """Finished pieces out of a window that was read; see `window_pieces`."""
        return window_pieces(
            engine,
            window,
            geometry,
            self.values,
            on_work,
            converted=self.converted,
            consistent=self.consistent,
            spread=self.std is not None,
            steps=self.steps,
        )

    def write(self, members: list[tuple[int, ...]], piece: Piece) -> None:
        """Put a finished piece of some images into the result and hand it out."""
        result_region = self.region.scaled(
            (self.layout.height, self.layout.width), self.result_size
        )
        rect = piece.rect.shifted(-result_region.y0, -result_region.x0)
        for number, index in enumerate(members):
            slices = self.result_layout.slices(index, rect)
            arranged = self._arranged(piece.pixels[number])
            self._put(slices, arranged)
            if self.std is not None and piece.std is not None:
                self.std[slices] = self._arranged(piece.std[number])
            if self.on_tile is not None:
                self.on_tile(arranged, slices)

    def _put(self, slices: tuple[int | slice, ...], arranged: np.ndarray) -> None:
        """Write into the result."""
        if self.converted:
            copy_by_threads(self.out[slices], arranged)
        else:
            self.out[slices] = arranged

    def _arranged(self, channels: np.ndarray) -> np.ndarray:
        """Channels first to the axes of the result."""
        return self.result_layout.arrange(channels)


def result_array(
    shape: tuple[int, ...], dtype: np.dtype, given: np.ndarray | None = None
) -> np.ndarray:
    """The array that a result is written to: the one given by the caller, or a new one.

    Raises
    ------
    OptionError
        The given one is of another shape or dtype.
    OutOfMemory
        There is not enough memory for a new one.
    """
    if given is not None:
        if given.shape != shape or given.dtype != dtype:
            raise OptionError(
                f"out must have shape {shape} and dtype {dtype}, "
                f"not {given.shape} and {given.dtype}"
            )
        return given
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        gigabytes = math.prod(shape) * dtype.itemsize / 1e9
        raise OutOfMemory(
            f"the result of shape {shape} needs {gigabytes:.1f} GB, more than there is: "
            "give a smaller outscale, or a memory-mapped array as out"
        ) from error
