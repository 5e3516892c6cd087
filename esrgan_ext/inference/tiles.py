"""Cuts an image into tiles: which pixels each tile writes, and which ones the network sees.

Pure integer geometry; knows nothing of networks or arrays.
"""

from __future__ import annotations

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


def split(area: Rect, tile: int) -> list[Rect]:
    """Cut an area into cores of at most ``tile`` x ``tile`` pixels, row by row.

    The cores are as equal as whole pixels allow, so that no sliver is left at the end.
    """
    rows = _cuts(area.y0, area.y1, tile)
    columns = _cuts(area.x0, area.x1, tile)
    return [Rect(y0, y1, x0, x1) for y0, y1 in rows for x0, x1 in columns]


def _cuts(start: int, stop: int, tile: int) -> list[tuple[int, int]]:
    length = stop - start
    count = -(-length // tile)
    edges = [start + length * k // count for k in range(count + 1)]
    return [(edges[k], edges[k + 1]) for k in range(count)]


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


def largest_tile(window_pixels: int, overlap: int, smallest: int) -> int:
    """The largest tile whose square window has at most ``window_pixels`` pixels."""
    side = int(max(window_pixels, 0) ** 0.5) - 2 * overlap
    return max(side, smallest)
