"""Cuts an image into tiles: which pixels each tile writes, and which ones the network sees.

Pure integer geometry; knows nothing of networks or arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rect:
    """Rows y0..y1 and columns x0..x1 of an image, end exclusive."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def rows(self) -> slice:
        return slice(self.y0, self.y1)

    @property
    def columns(self) -> slice:
        return slice(self.x0, self.x1)

    def clipped(self, height: int, width: int) -> Rect | None:
        """The part inside an image of that size; None where there is none."""
        y0, y1 = max(self.y0, 0), min(self.y1, height)
        x0, x1 = max(self.x0, 0), min(self.x1, width)
        return Rect(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None

    def shifted(self, rows: int, columns: int) -> Rect:
        """Moved by so many rows and columns."""
        return Rect(self.y0 + rows, self.y1 + rows, self.x0 + columns, self.x1 + columns)

    def times(self, factor: int) -> Rect:
        """The same part of an image whose sides are so many times as long."""
        return Rect(self.y0 * factor, self.y1 * factor, self.x0 * factor, self.x1 * factor)

    def scaled(self, size: tuple[int, int], new_size: tuple[int, int]) -> Rect:
        """The same part of an image that has another height and width; neighbours share edges."""
        (height, width), (new_height, new_width) = size, new_size
        return Rect(
            round(self.y0 * new_height / height),
            round(self.y1 * new_height / height),
            round(self.x0 * new_width / width),
            round(self.x1 * new_width / width),
        )


def split(region: Rect, tile: int) -> list[Rect]:
    """Cut into cores of ``tile`` x ``tile`` pixels, row by row; the last may be smaller."""
    return [
        Rect(y, min(y + tile, region.y1), x, min(x + tile, region.x1))
        for y in range(region.y0, region.y1, tile)
        for x in range(region.x0, region.x1, tile)
    ]


def nearest_first(cores: list[Rect], point: tuple[float, float]) -> list[Rect]:
    """Order tiles by the distance of their centres from a point (row, column)."""

    def squared_distance(core: Rect) -> float:
        y, x = (core.y0 + core.y1) / 2, (core.x0 + core.x1) / 2
        return (y - point[0]) ** 2 + (x - point[1]) ** 2

    return sorted(cores, key=squared_distance)


def window(core: Rect, overlap: int, height: int, width: int, alignment: int = 1) -> Rect:
    """The pixels that the network sees for a core: ``overlap`` more on each side.

    Clipped at the image's border, where the network's own zero padding is wanted; the top
    left corner is moved outwards to a multiple of ``alignment``.
    """
    y0, x0 = max(core.y0 - overlap, 0), max(core.x0 - overlap, 0)
    return Rect(
        y0 - y0 % alignment,
        min(core.y1 + overlap, height),
        x0 - x0 % alignment,
        min(core.x1 + overlap, width),
    )


def largest_tile(window_pixels: int, overlap: int) -> int:
    """The side of the largest tile whose window has at most so many pixels; may be negative."""
    return math.isqrt(max(window_pixels, 0)) - 2 * overlap


def even_side(lengths: Iterable[int], *, largest: int = 0, smallest: int = 0) -> int:
    """The side of tiles that cut each length into even parts.

    Else the last row and column would be mere slivers, which are nearly all overlap.

    Parameters
    ----------
    lengths : iterable of int
    largest : int
        As few parts as can be, none larger than this.
    smallest : int
        In its place: as many parts as can be, none smaller than this but for rounding, and one
        where the length is smaller.
    """
    return max(
        -(-length // (-(-length // largest) if largest else max(1, length // smallest)))
        for length in lengths
    )


def even_tile(height: int, width: int, window_pixels: int, overlap: int, smallest: int) -> int:
    """The tile to cut an image into, so that no window has more than ``window_pixels`` pixels:
    as few tiles as can be, of the least overlap in all."""
    if height * width <= window_pixels:
        return max(height, width)
    return even_side((height, width), largest=max(largest_tile(window_pixels, overlap), smallest))
