"""One call of an Upscaler: where pixels come from and where finished pieces go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from esrgan_ext.inference import arrays
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.progress import Meter
from esrgan_ext.inference.tiles import Rect

OnTile = Callable[[np.ndarray, tuple[int | slice, ...]], None]
"""Called as on_tile(piece, slices): ``result[slices]`` is now ``piece``."""

# Pixels brought to [0, 1] between two heartbeats: some 20 ms.
NORMALISED_PIXELS = 1 << 20


@dataclass(frozen=True)
class Job:
    """One call of an Upscaler: what comes in, where it goes.

    `converted`: the engine takes and gives pixels as they are stored, not as the network sees
    them.
    """

    image: np.ndarray
    out: np.ndarray
    layout: Layout
    result_layout: Layout
    values: ValueMap
    has_nan: bool
    on_tile: OnTile | None
    meter: Meter
    start: tuple[float, float] | None = None
    converted: bool = False


class JobImage:
    """One image of a job: gives windows as the engine wants them, takes finished pieces."""

    def __init__(self, job: Job, index: tuple[int, ...]) -> None:
        self._job = job
        self._index = index
        self._filled: np.ndarray | None = None  # (channels, H, W) without NaN
        self._masks: list[np.ndarray | None] = []
        if job.has_nan:
            area = Rect(0, job.layout.height, 0, job.layout.width)
            planes = job.layout.read(job.image, index, area)
            filled = [arrays.fill_nan(plane) for plane in planes]
            self._filled = np.stack([plane for plane, _ in filled])
            self._masks = [mask for _, mask in filled]

    def blank(self, area: Rect) -> bool:
        """Whether nothing but NaN is there in the whole image, so that there is no work."""
        return bool(self._masks) and all(m is not None and m.all() for m in self._masks)

    def read_into(self, window: np.ndarray, area: Rect, heartbeat: Callable[[], None]) -> None:
        """Fill ``window`` (channels, h, w) with an area: float32 as the network wants it, or the
        pixels as they are where the job's are converted later.

        In pieces, with a heartbeat after each: a large image takes seconds.
        """
        if self._filled is None:
            planes = self._job.layout.read(self._job.image, self._index, area)
        else:
            planes = self._filled[:, area.y0 : area.y1, area.x0 : area.x1]
        rows = max(1, NORMALISED_PIXELS // area.width)
        for top in range(0, area.height, rows):
            piece = slice(top, top + rows)
            read = planes[:, piece]
            window[:, piece] = read if self._job.converted else self._job.values.normalise(read)
            heartbeat()

    def write(self, area: Rect, piece: np.ndarray | None) -> None:
        """Put a finished piece into the result and hand it out; None writes NaN."""
        job = self._job
        if piece is None:
            restored = np.full(
                (job.layout.together, area.height, area.width), np.nan, job.out.dtype
            )
        else:
            restored = piece if job.converted else job.values.restore(piece)
            size = (job.result_layout.height, job.result_layout.width)
            for channel, mask in enumerate(self._masks):
                if mask is not None:
                    restored[channel][arrays.nearest_mask(mask, size, area)] = np.nan
        slices = job.result_layout.slices(self._index, area)
        arranged = job.result_layout.arrange(restored)
        job.out[slices] = arranged
        if job.on_tile is not None:
            job.on_tile(arranged, slices)
