"""The loop over an image's tiles: their size, their order, and what if memory runs out."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from esrgan_ext.errors import OutOfMemory, UpscaleCancelled
from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.engine import Engine, is_out_of_memory
from esrgan_ext.inference.job import ImageJob
from esrgan_ext.inference.tiles import Rect, even_tile, nearest_first, split, window
from esrgan_ext.inference.windows import WindowGeometry

# Below this a tile is nearly all overlap; if it does not fit, nothing useful will.
SMALLEST_TILE = 16

# Planes of a stack run as one batch up to this many pixels. On a CPU a batch saves the fixed cost
# of a call: measured with the compiled 6-block model on two cores, 16 planes of 8x8 took 0.7 of the
# time, fours of 32x32 0.65. A GPU is not filled by small planes at all.
_CPU_BATCH_PIXELS = 64 * 64
_GPU_BATCH_PIXELS = 512 * 512


Members = list[tuple[int, ...]]
"""Images of a stack, by their indices, that go through the network together."""


class _Stopped(UpscaleCancelled):
    """The work of one engine ended because another's did."""


class _Work:
    """The tiles of a job that are still to be done; several engines take from it."""

    def __init__(self, fresh: Iterator[tuple[Members, Rect]]) -> None:
        self._fresh = fresh
        self._again: list[tuple[Members, Rect]] = []
        self._lock = threading.Lock()
        self._stopped = False
        self.writing = threading.Lock()  # held by the one that hands a piece to the caller

    def take(self) -> tuple[Members, Rect] | None:
        with self._lock:
            return self._again.pop() if self._again else next(self._fresh, None)

    def give_back(self, parts: list[tuple[Members, Rect]]) -> None:
        """Put back a tile to be done in smaller parts; they are next."""
        with self._lock:
            self._again += reversed(parts)

    def stop(self) -> None:
        """One engine failed, or the caller wants no more."""
        self._stopped = True

    def check(self) -> None:
        """Raise where the others stopped."""
        if self._stopped:
            raise _Stopped("another device stopped the work")


class TileLoop:
    """Runs jobs tile by tile, through one engine or several that share them.

    Parameters
    ----------
    engines : sequence of Engine
        Engines with copies of one network; each takes the next tile when it is done with one. They
        may be on one device, but may share no copy.
    overlap : int
        In pixels of the image.
    """

    def __init__(self, engines: Sequence[Engine], overlap: int) -> None:
        self.engines, self._engine, self._overlap = tuple(engines), engines[0], overlap

    def run(self, job: ImageJob, tile: int | None) -> None:
        """Do a job; what does not fit into memory is halved, and so is all that follows there.

        Parameters
        ----------
        job : ImageJob
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
        images = layout.images()
        batch = min(self.batch(largest), -(-len(images) // len(self.engines)))
        chunks = [images[first : first + batch] for first in range(0, len(images), batch)]
        work = _Work((chunk, core) for chunk in chunks for core in cores)
        workers = self.engines[: len(chunks) * len(cores)]
        if len(workers) == 1:
            self._do(workers[0], work, job, tile)
        else:
            self._share(workers, work, job, tile)

    def _share(self, workers: Sequence[Engine], work: _Work, job: ImageJob, tile: int) -> None:
        """Several engines, each in a thread; those on the CPU share its threads."""
        on_cpu = sum(engine.device.is_cpu for engine in workers)
        threads = max(1, torch.get_num_threads() // max(1, on_cpu))

        def work_on(engine: Engine) -> None:
            if engine.device.is_cpu:
                torch.set_num_threads(threads)  # of this thread
            try:
                self._do(engine, work, job, tile)
            except BaseException:
                work.stop()
                raise

        with ThreadPoolExecutor(len(workers), "device") as pool:
            try:
                futures = [pool.submit(work_on, engine) for engine in workers]
                errors = [future.exception() for future in futures]
            except BaseException:  # Ctrl-C while waiting
                work.stop()
                raise
        # Those that were stopped by another's failure say nothing of their own.
        found = [error for error in errors if error is not None]
        for error in sorted(found, key=lambda error: isinstance(error, _Stopped)):
            raise error

    def _do(self, engine: Engine, work: _Work, job: ImageJob, tile: int) -> None:
        """Do tiles until there are none left."""
        most = len(job.layout.images())  # members of a batch
        while (item := work.take()) is not None:
            members, core = item
            # Memory may have run out since the tiles were cut, here or on another device.
            if max(core.height, core.width) > tile:
                work.give_back([(members, part) for part in split(core, tile)])
                continue
            if len(members) > most:
                work.give_back([([member], core) for member in members])
                continue
            if self._try_tile(engine, work, job, members, core):
                job.meter.core_done(core.pixels * len(members))
                continue
            engine.release_memory()
            if len(members) > 1:
                most = 1
                work.give_back([item])
                continue
            device = engine.device
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
                stacklevel=4,
            )
            work.give_back([item])

    def window(self, core: Rect, layout: Layout) -> Rect:
        """The source window of a tile."""
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
        fits = []
        for engine in self.engines:
            free = engine.device.free_memory()
            if engine.device.is_cpu:
                free -= reserved
            need = engine.bytes_per_pixel(layout.channels_per_image, spread=spread)
            fits.append(max(0, free) // need)
        pixels = min(fits)
        return even_tile(layout.height, layout.width, pixels, self._overlap, SMALLEST_TILE)

    def batch(self, window_pixels: int) -> int:
        """How many planes of a stack run together."""
        limit = _CPU_BATCH_PIXELS if self._engine.device.is_cpu else _GPU_BATCH_PIXELS
        return max(1, limit // window_pixels)

    def _try_tile(
        self, engine: Engine, work: _Work, job: ImageJob, members: Members, core: Rect
    ) -> bool:
        """Do one tile of a batch of images; False where memory ran out."""
        try:
            self._do_tile(engine, work, job, members, core)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False  # after this the traceback, and with it the tensors, can be freed
        return True

    def _do_tile(
        self, engine: Engine, work: _Work, job: ImageJob, members: Members, core: Rect
    ) -> None:
        layout = job.layout
        source_window, size = self.window(core, layout), (layout.height, layout.width)
        runs = 8 if job.std is not None else 1
        height, width = source_window.height, source_window.width
        macs = engine.macs(height, width, layout.channels_per_image) * len(members)
        report = job.meter.watch(macs * runs, core.pixels * len(members))

        def on_work(count: int) -> None:
            work.check()
            report(count)

        geometry = WindowGeometry(
            source_window, core.scaled(size, job.result_size), size, job.result_size
        )
        window = job.read(members, source_window)
        for piece in job.pieces(engine, window, geometry, on_work):
            with work.writing:
                job.write(members, piece)


def _ordered(job: ImageJob, tile: int) -> list[Rect]:
    cores = split(job.region, tile)
    return cores if job.start is None else nearest_first(cores, job.start)
