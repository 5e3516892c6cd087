"""Upscales image arrays: the tile loop, progress, cancelling, and the public functions.

Axes and values are `arrays`' business, geometry `tiles`', the network `engine`'s.
"""

from __future__ import annotations

import copy
import math
import numbers
import os
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from esrgan_ext.errors import OptionError, OutOfMemory
from esrgan_ext.inference import arrays
from esrgan_ext.inference.arrays import DataRange, Layout
from esrgan_ext.inference.devices import Device, choose_device
from esrgan_ext.inference.engine import Engine, is_out_of_memory
from esrgan_ext.inference.job import Job, JobImage, OnTile
from esrgan_ext.inference.pieces import finished_pieces
from esrgan_ext.inference.plan import Plan
from esrgan_ext.inference.progress import Meter, Progress
from esrgan_ext.inference.tiles import Rect, even_tile, nearest_first, split, window
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights import load_denoising
from esrgan_ext.weights.info import default_overlap

Model = str | os.PathLike[str] | nn.Module
"""A catalogue name, a file, or a network."""

# Below this a tile is nearly all overlap; if it does not fit, nothing useful will.
SMALLEST_TILE = 16

# Planes of a stack run as one batch up to this many pixels. On a CPU a batch saves the fixed cost
# of a call: measured with the 6-block model on two cores, 16 planes of 8x8 took 0.7 of the time
# compiled and 0.25 in pure torch, fours of 32x32 0.65 and 0.9; in pure torch larger batches were
# slower again. A GPU is not filled by small planes at all.
CPU_BATCH_PIXELS = 64 * 64
GPU_BATCH_PIXELS = 512 * 512


class Upscaler:
    """Keeps a network ready and upscales one image after another.

    Parameters
    ----------
    model : str, path or SRNetwork
        A catalogue name (`esrgan_ext.list_models`), a file, or a network.
    outscale : float or None
        Output pixels per input pixel, any positive number; the network's own scale if None.
        Each side becomes round(side * outscale), by resampling the network's result.
    tile : int or 'auto'
        Side in input pixels of what is written at a time. 'auto' takes the whole image where
        free memory allows, else the largest tile that fits.
    overlap : int or 'auto'
        Context in input pixels around each tile; 'auto' takes what the model needs for tiles
        that differ from the untiled result by at most 1 in 255.
    device : str or torch.device
        'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
    precision : str
        'auto', 'fp32', 'fp16' or 'bf16'.
    data_range : (float, float), 'auto' or None
        The values that mean black and white. None: the type's range for integers, (0, 1) for
        floats. 'auto': minimum and maximum of the whole array.
    channel_axis : int, None or False
        None: 2-D is gray, 3-D whose last axis is 3 or 4 is RGB(A), else a stack of planes over
        the last two axes. A number names the axis: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA, more
        channels each by itself. False: always a stack of planes.
    ensemble : bool
        Average the 8 flips and rotations: 8 times the work for slightly better results.
    denoise : float or None
        Strength of denoising from 0 to 1, for models that come with a choice of it
        (`ModelInfo.denoise`), given by name. None: the model as it stands.

    Raises
    ------
    OptionError
        If an option has a value that cannot be used.
    ModelError
        If the model is unknown or cannot be read.
    DeviceError
        If the device is not on this machine.

    Attributes
    ----------
    network : SRNetwork
    device : Device
    scale : int
        The network's own scale.
    overlap : int
        The overlap in use, in input pixels.
    """

    def __init__(
        self,
        model: Model = "realesrgan-x4plus",
        outscale: float | None = None,
        tile: int | str = "auto",
        overlap: int | str = "auto",
        device: str | torch.device = "auto",
        precision: str = "auto",
        data_range: DataRange = None,
        channel_axis: int | bool | None = None,
        ensemble: bool = False,
        denoise: float | None = None,
    ) -> None:
        self._tile = whole_number("tile", tile, smallest=1)
        overlap_pixels = whole_number("overlap", overlap, smallest=0)
        if outscale is not None and not (
            isinstance(outscale, numbers.Real) and math.isfinite(outscale) and outscale > 0
        ):
            raise OptionError(f"outscale must be a positive number, not {outscale!r}")
        self.device: Device = choose_device(device, precision)
        self.network = _network(model, denoise)
        self.outscale = None if outscale is None else float(outscale)
        self.overlap = auto_overlap(self.network) if overlap_pixels is None else overlap_pixels
        self.data_range = data_range
        self.channel_axis = channel_axis
        self._engine = Engine(self.network, self.device, bool(ensemble))

    @property
    def scale(self) -> int:
        return self.network.scale

    @property
    def engine(self) -> Engine:
        """Runs the network over single windows, for callers that hold no whole image."""
        return self._engine

    def with_channel_axis(self, channel_axis: int | bool | None) -> Upscaler:
        """The same upscaler for arrays of other axes; it shares the network and the device."""
        other = copy.copy(self)
        other.channel_axis = channel_axis
        return other

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for an image of that size."""
        factor = self.scale if self.outscale is None else self.outscale
        return max(1, round(height * factor)), max(1, round(width * factor))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result for an array of that shape."""
        layout = arrays.layout_of(shape, self.channel_axis)
        return layout.resized(*self.output_size(layout.height, layout.width)).shape

    def plan(self, shape: tuple[int, ...], dtype: np.dtype) -> Plan:
        """What a run on an array of that shape and dtype would take, without running it.

        Raises
        ------
        ImageError, OptionError
            If the shape cannot be upscaled.
        """
        layout = arrays.layout_of(shape, self.channel_axis)
        self._engine.groups(layout.together)
        output_shape = self.output_shape(shape)
        output_bytes = math.prod(output_shape) * np.dtype(dtype).itemsize
        tile = self._tile or self._auto_tile(layout, reserved=output_bytes)
        cores = split(Rect(0, layout.height, 0, layout.width), tile)
        windows = [self._window(core, layout) for core in cores]
        macs = sum(self._engine.macs(w.height, w.width, layout.together) for w in windows)
        return Plan(
            output_shape=output_shape,
            output_bytes=output_bytes,
            tile=tile,
            tiles=len(layout.images()) * len(cores),
            macs=len(layout.images()) * macs,
            work_bytes=max(w.pixels for w in windows)
            * self._engine.bytes_per_pixel(layout.together),
        )

    def __call__(
        self,
        image: np.ndarray,
        progress: Progress | None = None,
        on_tile: OnTile | None = None,
        out: np.ndarray | None = None,
        start: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Upscale an image, or every image of a stack.

        Parameters
        ----------
        image : ndarray
            bool, integers or float16/32/64; see `channel_axis` for the axes.
        progress : callable, optional
            ``progress(done, total)`` in input pixels of work, at least every half second;
            returning False, or raising, stops the work.
        on_tile : callable, optional
            ``on_tile(piece, slices)`` with each finished piece of the result.
        out : ndarray, optional
            Where to write the result, of the right shape and dtype (a memory-mapped file,
            say); made if not given.
        start : (float, float), optional
            Row and column of the image that matter most: the tiles of each image are done
            from there outwards, instead of from the top left.

        Returns
        -------
        ndarray
            The input's dtype, axes and value range; NaN pixels come back as NaN.

        Raises
        ------
        ImageError
            If the array's dtype, shape or channels cannot be upscaled, or it holds infinities.
        UpscaleCancelled
            If `progress` asked to stop.
        OutOfMemory
            If not even the smallest tile fits into memory.
        """
        image = np.asarray(image)
        values = arrays.value_map(image, self.data_range)
        layout = arrays.layout_of(image.shape, self.channel_axis)
        self._engine.groups(layout.together)
        everything = Rect(0, layout.height, 0, layout.width)
        nan_count = sum(
            arrays.check_finite(layout.read(image, index, everything)) for index in layout.images()
        )
        if nan_count:
            warnings.warn(
                f"the image has {nan_count} NaN pixels; they are filled from their neighbours "
                "for the network and are NaN in the result",
                RuntimeWarning,
                stacklevel=2,
            )
        result_layout = layout.resized(*self.output_size(layout.height, layout.width))
        if out is None:
            out = _allocated(result_layout.shape, image.dtype)
        elif out.shape != result_layout.shape or out.dtype != image.dtype:
            raise OptionError(
                f"out must have shape {result_layout.shape} and dtype {image.dtype}, "
                f"not {out.shape} and {out.dtype}"
            )
        meter = Meter(progress, len(layout.images()) * everything.pixels)
        # A GPU converts pixels itself; where results are resampled, that comes after.
        native_size = result_layout.height == layout.height * self.scale
        native_size &= result_layout.width == layout.width * self.scale
        converted = native_size and self._engine.converts(image.dtype, layout.together)
        job = Job(
            image, out, layout, result_layout, values, bool(nan_count), on_tile, meter, start,
            converted,
        )  # fmt: skip
        self._run(job)
        meter.finish()
        return out

    def _run(self, job: Job) -> None:
        """The tile loop. What does not fit into memory is halved, and so is all that follows."""
        layout = job.layout
        tile = self._tile or self._auto_tile(layout, reserved=job.out.nbytes)
        everything = Rect(0, layout.height, 0, layout.width)
        cores = self._cores(everything, tile, job.start)
        largest = max(self._window(core, layout).pixels for core in cores)
        batch = self._batch(largest)
        images = layout.images()
        for first in range(0, len(images), batch):
            chunk = [JobImage(job, index) for index in images[first : first + batch]]
            # The tile may have shrunk since the first chunk.
            todo = [(chunk, core) for core in reversed(self._cores(everything, tile, job.start))]
            while todo:
                members, core = todo.pop()
                if max(core.height, core.width) > tile:
                    todo += [(members, part) for part in reversed(split(core, tile))]
                    continue
                if self._fits(job, members, core):
                    job.meter.core_done(core.pixels * len(members))
                    continue
                self._engine.release_memory()
                if len(members) > 1:
                    batch = 1
                    todo += [([member], core) for member in reversed(members)]
                    continue
                side = max(core.height, core.width)
                if side <= SMALLEST_TILE:
                    raise OutOfMemory(
                        f"not enough memory on {self.device.name} even for a tile of {side} pixels "
                        f"with {self.overlap} pixels of overlap: close other programs, or choose a "
                        "smaller model or another device"
                    )
                tile = max(SMALLEST_TILE, -(-side // 2))
                warnings.warn(
                    f"out of memory on {self.device.name}: going on with tiles of {tile} pixels",
                    RuntimeWarning,
                    stacklevel=3,
                )
                todo.append((members, core))

    @staticmethod
    def _cores(area: Rect, tile: int, start: tuple[float, float] | None) -> list[Rect]:
        cores = split(area, tile)
        return cores if start is None else nearest_first(cores, start)

    def _fits(self, job: Job, members: list[JobImage], core: Rect) -> bool:
        """Do one core of a batch of images; False where memory ran out."""
        try:
            self._do_core(job, members, core)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False  # after this the traceback, and with it the tensors, can be freed
        return True

    def _do_core(self, job: Job, members: list[JobImage], core: Rect) -> None:
        seen = self._window(core, job.layout)
        if all(member.blank(seen) for member in members):
            for member in members:
                member.write(self._target(core, job), None)
        else:
            macs = self._engine.macs(seen.height, seen.width, job.layout.together) * len(members)
            on_work = job.meter.watch(macs, core.pixels * len(members))
            shape = (len(members), job.layout.together, seen.height, seen.width)
            pixels = (
                _interleaved(shape, job.image.dtype)
                if job.converted
                else np.empty(shape, np.float32)
            )
            for planes, member in zip(pixels, members, strict=True):
                member.read_into(planes, seen, lambda: on_work(0))
            if job.converted:
                rows = self._engine.converted_rows(pixels, job.values, on_work)
            else:
                rows = self._engine.rows(pixels, on_work)
            for area, pieces in self._pieces(rows, core, seen, job):
                for member, piece in zip(members, pieces, strict=True):
                    member.write(area, piece)

    def _pieces(
        self, rows: Iterator[tuple[int, np.ndarray]], core: Rect, seen: Rect, job: Job
    ) -> Iterator[tuple[Rect, np.ndarray]]:
        size = (job.layout.height, job.layout.width)
        result_size = (job.result_layout.height, job.result_layout.width)
        target = self._target(core, job)
        return finished_pieces(rows, seen, target, self.scale, size, result_size)

    def _window(self, core: Rect, layout: Layout) -> Rect:
        return window(core, self.overlap, layout.height, layout.width, self.network.alignment)

    @staticmethod
    def _target(core: Rect, job: Job) -> Rect:
        """The pixels of the result that belong to a core; neighbours share the same edges."""
        height, width = job.layout.height, job.layout.width
        new_height, new_width = job.result_layout.height, job.result_layout.width
        return Rect(
            round(core.y0 * new_height / height),
            round(core.y1 * new_height / height),
            round(core.x0 * new_width / width),
            round(core.x1 * new_width / width),
        )

    def _auto_tile(self, layout: Layout, reserved: int) -> int:
        free = self.device.free_memory()
        if (
            self.device.is_cpu
        ):  # the result is allocated, but fills its memory only as it is written
            free -= reserved
        pixels = max(0, free) // self._engine.bytes_per_pixel(layout.together)
        return even_tile(layout.height, layout.width, pixels, self.overlap, SMALLEST_TILE)

    def _batch(self, window_pixels: int) -> int:
        limit = CPU_BATCH_PIXELS if self.device.is_cpu else GPU_BATCH_PIXELS
        return max(1, limit // window_pixels)


def upscale(
    image: np.ndarray,
    model: Model = "realesrgan-x4plus",
    outscale: float | None = None,
    tile: int | str = "auto",
    overlap: int | str = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    data_range: DataRange = None,
    channel_axis: int | bool | None = None,
    ensemble: bool = False,
    progress: Progress | None = None,
    on_tile: OnTile | None = None,
    denoise: float | None = None,
) -> np.ndarray:
    """Upscale one image or stack; see `Upscaler` for the options and `Upscaler.__call__`.

    Loads the model each time: for several images make an `Upscaler` once.
    """
    upscaler = Upscaler(
        model,
        outscale,
        tile,
        overlap,
        device,
        precision,
        data_range,
        channel_axis,
        ensemble,
        denoise,
    )
    return upscaler(image, progress=progress, on_tile=on_tile)


def auto_overlap(network: SRNetwork) -> int:
    """Context that a tile of this network needs on each side, in input pixels.

    The catalogue's measured figure, else `default_overlap`; never more than the network sees.
    """
    info = getattr(network, "info", None)
    overlap = default_overlap(network.config) if info is None else info.overlap
    return min(overlap, network.reach)


def _interleaved(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of shape (N, C, h, w) whose channels lie side by side, as most images do."""
    n, channels, height, width = shape
    return np.moveaxis(np.empty((n, height, width, channels), dtype), -1, 1)


def _allocated(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        gigabytes = math.prod(shape) * dtype.itemsize / 1e9
        raise OutOfMemory(
            f"the result of shape {shape} needs {gigabytes:.1f} GB, more than there is: "
            "give a smaller outscale, or a memory-mapped array as out"
        ) from error


def whole_number(name: str, value: int | str, smallest: int) -> int | None:
    """An option that is 'auto' (None comes back) or a whole number of pixels."""
    if isinstance(value, str) and value == "auto":
        return None
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, numbers.Integral)
        or value < smallest
    ):
        raise OptionError(
            f"{name} must be 'auto' or a whole number of pixels, at least {smallest}, not {value!r}"
        )
    return int(value)


def _network(model: Model, denoise: float | None) -> SRNetwork:
    network = load_denoising(model, denoise)
    if not isinstance(network, SRNetwork):
        raise OptionError(
            "the model must be a catalogue name, a file or one of esrgan_ext.models' networks, "
            f"not {type(network).__name__}"
        )
    return network
