"""The arrays of a result that grows on disk: one a level, written chunk by chunk.

Coarser levels are means, made when the level before is complete. napari's results (`_work.result`)
show while they grow, so their levels are every second pixel and are written with each piece.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import zarr
from ome_zarr.format import format_from_version

from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.large.grid import STORED_SIDE
from esrgan_ext.inference.tiles import Rect


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the levels of a pyramid, each half of the one before, rounded up, until
    one stored chunk holds a plane."""
    sizes = [(height, width)]
    while max(sizes[-1]) > STORED_SIDE:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def create(
    path: Path, layout: Layout, names: list[str], dtype: str, version: str, stored: int
) -> None:
    """Make the empty arrays "0", "1", ... of a result.

    Parameters
    ----------
    path : Path
        The group's folder; it must not exist.
    layout : Layout
        Axes and shape of the finest level.
    names : list of str
        Names of the axes.
    dtype : str
    version : {'0.4', '0.5'}
        Version of OME-Zarr.
    stored : int
        Side of the stored chunks, in pixels.
    """
    fmt = format_from_version(version)
    group = zarr.open_group(str(path), mode="w-", zarr_format=fmt.zarr_format)  # type: ignore[arg-type]
    group.attrs["esrgan"] = {"state": "unfinished"}
    for number, (height, width) in enumerate(level_sizes(layout.height, layout.width)):
        chunks = [1] * len(layout.shape)
        chunks[layout.y_axis], chunks[layout.x_axis] = min(stored, height), min(stored, width)
        group.create_array(
            str(number),
            shape=layout.resized(height, width).shape,
            chunks=tuple(chunks),
            dtype=dtype,
            chunk_key_encoding=fmt.chunk_key_encoding,  # type: ignore[arg-type]
            dimension_names=names if fmt.zarr_format == 3 else None,
        )


def open_level(path: Path, level: int) -> zarr.Array:
    """A level for reading and writing. Chunks of nothing but the fill value are written too: a
    chunk that is missing was not done."""
    array = zarr.open_array(str(path), path=str(level), mode="r+")
    return array.with_config({"write_empty_chunks": True})


def chunk_files(
    path: Path, level: int, array: zarr.Array, layout: Layout, image: tuple[int, ...], rect: Rect
) -> list[Path]:
    """The files that a rectangle of one image is stored in."""
    spans = []
    for axis, part in enumerate(layout.slices(image, rect)):
        side = array.chunks[axis]
        if isinstance(part, slice):
            start, stop, _ = part.indices(layout.shape[axis])
            spans.append(range(start // side, -(-stop // side)))
        else:
            spans.append(range(part // side, part // side + 1))
    folder = path / str(level)
    return [folder / array.metadata.encode_chunk_key(place) for place in itertools.product(*spans)]


def sweep(path: Path) -> None:
    """Remove the temporary files of chunks that were being written when a run was killed."""
    for left in path.rglob("*.partial"):
        left.unlink(missing_ok=True)


def halved(pixels: np.ndarray) -> np.ndarray:
    """Every 2 x 2 pixels to their mean; an odd last row or column stands for its pair.

    Parameters
    ----------
    pixels : ndarray, shape (C, H, W)

    Returns
    -------
    ndarray, shape (C, ceil(H / 2), ceil(W / 2)), of the same dtype
        Integers are rounded half to even; NaN pixels do not count where others are there.
    """
    odd = [(0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2)]
    if any(after for _, after in odd):
        pixels = np.pad(pixels, odd, mode="edge")
    quarters = [pixels[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]
    if pixels.dtype.kind != "f":
        total = sum(quarter.astype(np.float64) for quarter in quarters)
        mean = np.rint(total / 4)
        return mean >= 1 if pixels.dtype.kind == "b" else mean.astype(pixels.dtype)
    count = sum((~np.isnan(quarter)).astype(np.float64) for quarter in quarters)
    total = sum(np.nan_to_num(quarter.astype(np.float64), nan=0.0) for quarter in quarters)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count).astype(pixels.dtype)
