"""`upscale_lazy`: a dask array whose chunks are computed by the network when they are asked for."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import Any, Unpack

import dask
import dask.array as da
import numpy as np
from dask import delayed, threaded
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from esrgan_ext.forks import in_forked_child
from esrgan_ext.inference import arrays, model_cache, ranges
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.consistency import block_factor
from esrgan_ext.inference.denoising import channel_strengths, follows_noise, split_by_strength
from esrgan_ext.inference.large import sizes as planning
from esrgan_ext.inference.large.compute import compute_chunk
from esrgan_ext.inference.large.grid import Chunk, Grid
from esrgan_ext.inference.model_cache import Settings
from esrgan_ext.inference.options import OptionValues, UpscaleOptions
from esrgan_ext.inference.ranges import DataRange
from esrgan_ext.inference.samples import has_empty_channel
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.inference.upscaler import Model, Upscaler
from esrgan_ext.weights.choice import AUTO, choose_model, is_auto


def upscale_lazy(array: Any, model: Model = AUTO, **options: Unpack[OptionValues]) -> da.Array:
    """Upscale an array chunk by chunk, when and where dask computes it.

    Any of dask's schedulers gives the same bits, and they differ from `Upscaler`'s by at most one
    level in 255. Each process that computes loads the network once; on a device one chunk is
    computed at a time. With dask's processes a script needs its ``if __name__ == "__main__"``.

    Parameters
    ----------
    array : dask or zarr array, or ndarray
        bool, integers or float16/32/64; see `channel_axis` for the axes. Of a zarr array each
        chunk reads what it needs by itself, so its store must be reachable where work is done.
    model : str, path or SRNetwork
        A name or a path must be found in every process. A network made in memory goes to others
        through a temporary file: on this machine only. 'auto' chooses as `Upscaler` does.
    **options
        The fields of `UpscaleOptions`, two of them with a meaning of their own here. ``tile``: side
        in input pixels of what is computed at a time; 'auto' is what fits into a worker of 3 GB, at
        most 1024. ``data_range``: one that follows the data (the default for more than 8 bits and
        for floats) reads the whole array once, now. Of several GPUs each process takes one.

    Returns
    -------
    dask.array.Array
        The input's dtype and axes. Each chunk is one image of a stack, with its channels where
        they belong together, of ``tile`` times the factor along y and x.

    Raises
    ------
    ImageError, OptionError
        The array or an option cannot be used.
    ModelError, DownloadError, DeviceError
        See `Upscaler`.

    Examples
    --------
    >>> import dask.array as da
    >>> import esrgan_ext as esr
    >>> plane = da.zeros((3000, 2000), dtype="uint8", chunks=1000)
    >>> result = esr.upscale_lazy(plane, "lite-micro-x4", tile=500, device="cpu")
    >>> result.shape, result.chunksize  # nothing is computed yet
    ((12000, 8000), (2000, 2000))
    >>> result[:8, :8].compute().shape
    (8, 8)
    """
    chosen = UpscaleOptions(**options)
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        array = np.asarray(array)
    layout = arrays.layout_of(tuple(array.shape), chosen.channel_axis)
    if is_auto(model):
        empty = has_empty_channel(array, layout)
        model = choose_model(
            np.dtype(array.dtype), layout.channels_per_image, empty_channel=empty
        ).model
    side = chosen.tile_side
    strengths: Sequence[Any] = [chosen.denoise]
    if not chosen.consistent and follows_noise(str(model), chosen.denoise):
        strengths = channel_strengths(array, layout)
    layout, strengths = split_by_strength(layout, strengths)
    references, networks = zip(*(model_cache.refer(model, s) for s in strengths), strict=True)
    values: Any = {**options, "denoise": None}
    first = Upscaler(networks[0], **values)
    settings = tuple(
        Settings.of(reference, chosen, first.overlap).with_precision(first.device.precision)
        for reference in references
    )
    if chosen.consistent:
        block_factor((layout.height, layout.width), first.output_size(layout.height, layout.width))
    needs = planning.needs_of(settings[0], layout.channels_per_image)
    if side is None:
        side = planning.tile_for(needs, planning.MEMORY_LIMIT)
    result_size = first.output_size(layout.height, layout.width)
    everything = Rect(0, result_size[0], 0, result_size[1])
    grid, _ = planning.make_grid(layout, result_size, everything, needs, side)
    lazily = array if isinstance(array, da.Array) else None
    if lazily is None and isinstance(array, np.ndarray):
        lazily = da.from_array(array, chunks=_source_chunks(grid, side))
    mapping = _value_map(array, lazily, chosen.data_range, layout)
    # Two zarr arrays in memory look alike to a hash: such a source gets a name of its own.
    token = tokenize(settings, grid, mapping, lazily.name if lazily is not None else uuid.uuid4())
    name = f"upscale-{token}"
    layer: dict[Any, tuple] = {}
    dependencies = []
    if lazily is not None:
        lazily = lazily.rechunk(_source_chunks(grid, side))
        dependencies.append(lazily)
    bounds = [np.cumsum([0, *sizes]) for sizes in lazily.chunks] if lazily is not None else []
    for chunk in grid.chunks():
        key = (name, *_block(grid, chunk))
        if lazily is None:
            layer[key] = (_from_array, array, settings, grid, mapping, chunk)
        else:
            blocks, origin = _blocks_under(lazily.name, bounds, grid, chunk)
            layer[key] = (_from_blocks, blocks, origin, settings, grid, mapping, chunk)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=dependencies)
    meta = np.empty((0,) * len(layout.shape), mapping.dtype)
    return da.Array(graph, name, _result_chunks(grid), meta=meta)


def _from_array(
    array: Any, settings: tuple[Settings, ...], grid: Grid, values: ValueMap, chunk: Chunk
) -> np.ndarray:
    """A task on an array that is read in the task."""
    pixels = grid.layout.read(array, chunk.image, grid.source_window(chunk))
    return _shaped(compute_chunk(pixels, settings, grid, values, chunk), grid)


def _from_blocks(
    blocks: list,
    origin: tuple[int, int],
    settings: tuple[Settings, ...],
    grid: Grid,
    values: ValueMap,
    chunk: Chunk,
) -> np.ndarray:
    """A task on the blocks of a dask array that lie under its window, as rows of columns."""
    layout, window = grid.layout, grid.source_window(chunk)
    rows = [np.concatenate(row, layout.x_axis) for row in blocks]
    under = np.concatenate(rows, layout.y_axis)
    local = Rect(
        window.y0 - origin[0], window.y1 - origin[0], window.x0 - origin[1], window.x1 - origin[1]
    )
    pixels = layout.read(under, (0,) * len(chunk.image), local)
    return _shaped(compute_chunk(pixels, settings, grid, values, chunk), grid)


def _shaped(pixels: np.ndarray, grid: Grid) -> np.ndarray:
    """(C, H, W) with the array's axes, those of the stack of length 1."""
    arranged = grid.layout.arrange(pixels)
    return np.expand_dims(arranged, grid.layout.stack_axes)


def _blocks_under(
    name: str, bounds: Sequence[np.ndarray], grid: Grid, chunk: Chunk
) -> tuple[list, tuple[int, int]]:
    """Keys of the blocks under a chunk's window, and where the first of them begins."""
    layout, window = grid.layout, grid.source_window(chunk)
    key = list(_image_block(grid, chunk))
    y_bounds, x_bounds = bounds[layout.y_axis], bounds[layout.x_axis]
    y_first, y_last = _span(y_bounds, window.y0, window.y1)
    x_first, x_last = _span(x_bounds, window.x0, window.x1)
    rows = []
    for y in range(y_first, y_last):
        row = []
        for x in range(x_first, x_last):
            key[layout.y_axis], key[layout.x_axis] = y, x
            row.append((name, *key))
        rows.append(row)
    return rows, (int(y_bounds[y_first]), int(x_bounds[x_first]))


def _span(bounds: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    first = int(np.searchsorted(bounds, start, side="right")) - 1
    return first, int(np.searchsorted(bounds, stop, side="left"))


def _image_block(grid: Grid, chunk: Chunk) -> tuple[int, ...]:
    """The block index of a chunk's image; y and x are left 0, as is a joined channel axis."""
    index = grid.layout.slices(chunk.image, Rect(0, 1, 0, 1))
    return tuple(0 if isinstance(part, slice) else part for part in index)


def _block(grid: Grid, chunk: Chunk) -> tuple[int, ...]:
    index = list(_image_block(grid, chunk))
    index[grid.layout.y_axis], index[grid.layout.x_axis] = chunk.row, chunk.column
    return tuple(index)


def _result_chunks(grid: Grid) -> tuple[tuple[int, ...], ...]:
    return _chunks(grid.result_layout.shape, grid, grid.side)


def _source_chunks(grid: Grid, side: int) -> tuple[tuple[int, ...], ...]:
    return _chunks(grid.layout.shape, grid, side)


def _chunks(shape: tuple[int, ...], grid: Grid, side: int) -> tuple[tuple[int, ...], ...]:
    """Chunks of `side` along y and x, of one image along the others."""
    chunks = []
    for axis, length in enumerate(shape):
        if axis in (grid.layout.y_axis, grid.layout.x_axis):
            part = side
        else:
            part = 1 if axis in grid.layout.stack_axes else length
        chunks.append(tuple(min(part, length - start) for start in range(0, length, part)))
    return tuple(chunks)


def _value_map(
    array: Any, lazily: da.Array | None, data_range: DataRange, layout: Layout
) -> ValueMap:
    """As `ranges.value_map`, with the range of the whole found block by block."""
    dtype = np.dtype(array.dtype)
    if not ranges.follows_data(dtype, data_range, layout.channels_per_image):
        return ranges.fixed_map(dtype, data_range)
    source = lazily if lazily is not None else da.from_array(array)
    tasks = [delayed(ranges.part_range)(block) for block in source.to_delayed().ravel()]
    found = ranges.RobustRange()
    for part in dask.compute(*tasks):
        found.merge(part)
    return ranges.data_map(dtype, data_range, found)


def _start_anew() -> None:
    """In a forked child dask would wait for the threads of its parent's pools."""
    threaded.pools_lock = threading.Lock()
    threaded.default_pool = None
    threaded.pools.clear()


in_forked_child(_start_anew)
