"""The loop over an image's tiles: their size, their order, and what if memory runs out."""

from __future__ import annotations

import warnings

from esrgan_ext.errors import OutOfMemory
from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.engine import Engine, is_out_of_memory
from esrgan_ext.inference.job import Job
from esrgan_ext.inference.tiles import Rect, even_tile, nearest_first, split, window
from esrgan_ext.inference.windows import Place, window_pieces

# Below this a tile is nearly all overlap; if it does not fit, nothing useful will.
SMALLEST_TILE = 16

# Planes of a stack run as one batch up to this many pixels. On a CPU a batch saves the fixed cost
# of a call: measured with the 6-block model on two cores, 16 planes of 8x8 took 0.7 of the time
# compiled and 0.25 in pure torch, fours of 32x32 0.65 and 0.9; in pure torch larger batches were
# slower again. A GPU is not filled by small planes at all.
_CPU_BATCH_PIXELS = 64 * 64
_GPU_BATCH_PIXELS = 512 * 512


class TileLoop:
    """Runs jobs through an engine, tile by tile.

    Parameters
    ----------
    engine : Engine
    overlap : int
        In pixels of the image.
    """

    def __init__(self, engine: Engine, overlap: int) -> None:
        self._engine, self._overlap = engine, overlap

    def run(self, job: Job, tile: int | None) -> None:
        """Do a job; what does not fit into memory is halved, and so is all that follows.

        Parameters
        ----------
        job : Job
        tile : int or None
            The side of the tiles in pixels of the image; None for what fits into memory.

        Raises
        ------
        OutOfMemory
            Not even the smallest tile fits.
        """
        layout = job.layout
        tile = tile or self.auto_tile(
            layout, reserved=job.reserved_bytes, spread=job.std is not None
        )
        cores = _ordered(job, tile)
        largest = max(self.window(core, layout).pixels for core in cores)
        batch = self.batch(largest)
        images = layout.images()
        for first in range(0, len(images), batch):
            chunk = images[first : first + batch]
            # The tile may have shrunk since the first chunk.
            todo = [(chunk, core) for core in reversed(_ordered(job, tile))]
            while todo:
                members, core = todo.pop()
                if max(core.height, core.width) > tile:
                    todo += [(members, part) for part in reversed(split(core, tile))]
                    continue
                if self._try_tile(job, members, core):
                    job.meter.core_done(core.pixels * len(members))
                    continue
                self._engine.release_memory()
                if len(members) > 1:
                    batch = 1
                    todo += [([member], core) for member in reversed(members)]
                    continue
                device = self._engine.device
                side = max(core.height, core.width)
                if side <= SMALLEST_TILE:
                    raise OutOfMemory(
                        f"not enough memory on {device.name} even for a tile of {side} pixels "
                        f"with {self._overlap} pixels of overlap: close other programs, or choose "
                        "a smaller model or another device"
                    )
                tile = max(SMALLEST_TILE, -(-side // 2))
                warnings.warn(
                    f"out of memory on {device.name}: going on with tiles of {tile} pixels",
                    RuntimeWarning,
                    stacklevel=3,
                )
                todo.append((members, core))

    def window(self, core: Rect, layout: Layout) -> Rect:
        """What the network sees for a tile."""
        alignment = self._engine.network.alignment
        return window(core, self._overlap, layout.height, layout.width, alignment)

    def auto_tile(self, layout: Layout, reserved: int, spread: bool = False) -> int:
        """The side of tiles whose windows fit into the memory that is free.

        Parameters
        ----------
        layout : Layout
        reserved : int
            Bytes of the results, which are allocated but fill their memory only as they are
            written.
        spread : bool
            Whether the spread over flips and rotations is wanted too.
        """
        device = self._engine.device
        free = device.free_memory()
        if device.is_cpu:
            free -= reserved
        pixels = max(0, free) // self._engine.bytes_per_pixel(
            layout.channels_per_image, spread=spread
        )
        return even_tile(layout.height, layout.width, pixels, self._overlap, SMALLEST_TILE)

    def batch(self, window_pixels: int) -> int:
        """How many planes of a stack run together."""
        limit = _CPU_BATCH_PIXELS if self._engine.device.is_cpu else _GPU_BATCH_PIXELS
        return max(1, limit // window_pixels)

    def _try_tile(self, job: Job, members: list[tuple[int, ...]], core: Rect) -> bool:
        """Do one tile of a batch of images; False where memory ran out."""
        try:
            self._do_tile(job, members, core)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False  # after this the traceback, and with it the tensors, can be freed
        return True

    def _do_tile(self, job: Job, members: list[tuple[int, ...]], core: Rect) -> None:
        layout = job.layout
        seen, size = self.window(core, layout), (layout.height, layout.width)
        runs = 8 if job.std is not None else 1
        macs = self._engine.macs(seen.height, seen.width, layout.channels_per_image) * len(members)
        on_work = job.meter.watch(macs * runs, core.pixels * len(members))
        pieces = window_pieces(
            self._engine,
            job.read(members, seen),
            Place(seen, core.scaled(size, job.result_size), size, job.result_size),
            job.values,
            on_work,
            converted=job.converted,
            consistent=job.consistent,
            spread=job.std is not None,
        )
        for piece in pieces:
            job.write(members, piece)


def _ordered(job: Job, tile: int) -> list[Rect]:
    cores = split(job.area, tile)
    return cores if job.start is None else nearest_first(cores, job.start)
