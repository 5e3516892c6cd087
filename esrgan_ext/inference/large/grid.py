"""Cuts a result into chunks, and finds what of the source the network has to see for each.

Pure integer geometry. What a chunk holds depends on its place in the whole image alone, so that
it does not matter who computes it, when, and beside which others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.tiles import Rect, even_side, window

# Sides of the stored chunks that a chunk of work is divided into: a viewer reads 1 to 8 MB at a
# time, and a folder of 10^5 files is still one that a file system likes.
STORED_SIDE = 1024


@dataclass(frozen=True)
class Chunk:
    """One piece of work.

    Attributes
    ----------
    image : tuple of int
        Index of the image along the axes that are not its own, as in `Layout.images`.
    row, column : int
        Place in the grid.
    """

    image: tuple[int, ...]
    row: int
    column: int


@dataclass(frozen=True)
class Grid:
    """The chunks of a result.

    Attributes
    ----------
    layout : Layout
        Axes and size of the whole source.
    result_size : (int, int)
        Height and width of the result of the whole source.
    result_region : Rect
        The part of that result which is wanted.
    side : int
        Side of a chunk, in pixels of the result; the last ones may be smaller.
    scale, overlap, alignment : int
        The network's; overlap in pixels of the source.
    """

    layout: Layout
    result_size: tuple[int, int]
    result_region: Rect
    side: int
    scale: int
    overlap: int
    alignment: int

    @property
    def rows(self) -> int:
        return -(-self.result_region.height // self.side)

    @property
    def columns(self) -> int:
        return -(-self.result_region.width // self.side)

    def __len__(self) -> int:
        stack = math.prod(self.layout.shape[axis] for axis in self.layout.stack_axes)
        return stack * self.rows * self.columns

    @cached_property
    def result_layout(self) -> Layout:
        """The layout of what is wanted."""
        return self.layout.resized(self.result_region.height, self.result_region.width)

    def chunk(self, number: int) -> Chunk:
        """The chunk of that number: image by image, row by row."""
        stack = [self.layout.shape[axis] for axis in self.layout.stack_axes]
        *image, row, column = np.unravel_index(number, (*stack, self.rows, self.columns))
        return Chunk(tuple(int(k) for k in image), int(row), int(column))

    def chunks(self) -> Iterator[Chunk]:
        """All of them, in the order of their numbers."""
        return (self.chunk(number) for number in range(len(self)))

    def store_rect(self, chunk: Chunk) -> Rect:
        """Where a chunk lies in what is wanted."""
        top, left = chunk.row * self.side, chunk.column * self.side
        return Rect(
            top,
            min(top + self.side, self.result_region.height),
            left,
            min(left + self.side, self.result_region.width),
        )

    def result_rect(self, chunk: Chunk) -> Rect:
        """Where a chunk lies in the result of the whole source."""
        return self.store_rect(chunk).shifted(self.result_region.y0, self.result_region.x0)

    def source_window(self, chunk: Chunk) -> Rect:
        """The pixels of the source that the network sees for a chunk."""
        result_rect = self.result_rect(chunk)
        height, width = self.layout.height, self.layout.width
        y_reach = self._resampling_reach(height, self.result_size[0])
        x_reach = self._resampling_reach(width, self.result_size[1])
        core = Rect(
            max(result_rect.y0 * height // self.result_size[0] - y_reach, 0),
            min(-(-result_rect.y1 * height // self.result_size[0]) + y_reach, height),
            max(result_rect.x0 * width // self.result_size[1] - x_reach, 0),
            min(-(-result_rect.x1 * width // self.result_size[1]) + x_reach, width),
        )
        return window(core, self.overlap, height, width, self.alignment)

    def _resampling_reach(self, source: int, target: int) -> int:
        """Pixels of the source that resampling looks beyond its own: the cubic kernel reaches 2
        pixels of the network's result, or of the final one where that is coarser."""
        network_size = source * self.scale
        if network_size == target:
            return 0
        return math.ceil((2 * max(1.0, network_size / target) + 1) / self.scale)


def chunk_side(result_region: Rect, largest: int, multiple: int) -> tuple[int, int]:
    """Sides of the chunks of work and of the stored chunks within them.

    Chunks of work are evened out, so that the last row and column are not mere slivers, which
    would be nearly all overlap.

    Parameters
    ----------
    result_region : Rect
        The rectangle to cover, in pixels of the result.
    largest : int
        The largest side.
    multiple : int
        Divisor of a stored chunk's side, where the region is not smaller: the factor of the result,
        so that chunks begin at whole pixels of the source.

    Returns
    -------
    (int, int)
        The first is a multiple of the second.
    """
    side = even_side((result_region.height, result_region.width), largest=largest)
    parts = -(-side // STORED_SIDE)
    stored = -(-side // parts)
    stored += -stored % multiple
    return stored * parts, stored
