"""One call of an Upscaler: where pixels come from and where finished pieces go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.progress import Meter
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.inference.windows import Piece

OnTile = Callable[[np.ndarray, tuple[int | slice, ...]], None]
"""Called as on_tile(piece, slices): ``result[slices]`` is now ``piece``."""


@dataclass(frozen=True)
class Job:
    """One call of an Upscaler: what comes in, where it goes.

    `area` is the part of each image that is wanted, `result_layout` the axes and the size of its
    result, which is `out`'s; `result_size` is that of a whole image. `converted`: the engine takes
    and gives pixels as they are stored, not as the network sees them. `std`: where the spread
    goes, if it is wanted.
    """

    image: np.ndarray
    out: np.ndarray
    layout: Layout
    area: Rect
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
        """What the results take, which fill their memory only as they are written."""
        return self.out.nbytes + (0 if self.std is None else self.std.nbytes)

    def read(self, members: list[tuple[int, ...]], area: Rect) -> np.ndarray:
        """An area of some images as (N, channels, h, w), without a copy where it is one image."""
        planes = [self.layout.read(self.image, index, area) for index in members]
        if self.converted:  # channels side by side, as most images have them
            shape = (len(planes), area.height, area.width, self.layout.channels_per_image)
            window = np.moveaxis(np.empty(shape, self.image.dtype), -1, 1)
            for place, read in zip(window, planes, strict=True):
                place[:] = read
            return window
        return planes[0][None] if len(planes) == 1 else np.stack(planes)

    def write(self, members: list[tuple[int, ...]], piece: Piece) -> None:
        """Put a finished piece of some images into the result and hand it out."""
        wanted = self.area.scaled((self.layout.height, self.layout.width), self.result_size)
        place = piece.area.shifted(-wanted.y0, -wanted.x0)
        for number, index in enumerate(members):
            slices = self.result_layout.slices(index, place)
            arranged = self.result_layout.arrange(piece.pixels[number])
            self.out[slices] = arranged
            if self.std is not None and piece.std is not None:
                self.std[slices] = self.result_layout.arrange(piece.std[number])
            if self.on_tile is not None:
                self.on_tile(arranged, slices)
