"""How large a chunk is: decided once, by what a worker's memory may hold, before work begins.

Never by the memory that happens to be free: a chunk's size is part of the result, and threads,
processes and a resumed run must agree on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from esrgan_ext.errors import OptionError
from esrgan_ext.inference import model_cache
from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.large.grid import Grid, chunk_side
from esrgan_ext.inference.model_cache import Settings
from esrgan_ext.inference.tile_loop import SMALLEST_TILE
from esrgan_ext.inference.tiles import Rect, largest_tile

#: Memory of a worker that a chunk is planned for, unless the caller says otherwise.
MEMORY_LIMIT = 3_000_000_000

# A process that has imported torch, dask and zarr, measured: 0.4 GB; and chunks being read,
# compressed and written beside the one that is computed.
_PROCESS_BYTES = 600_000_000

# Weights: as loaded, and packed for the compiled core, which is four times their size.
_WEIGHTS = 5

# What is planned for, of what is left: allocators do not give back all that they could.
_SHARE = 0.8

# Larger tiles gain little: with an overlap of 64 pixels a tile of 1024 computes 1.27 times the
# pixels it writes, one of 2048 1.13 times, and losing one to a killed worker costs four times as
# much.
LARGEST_TILE = 1024


@dataclass(frozen=True)
class Needs:
    """Memory needs of a network on a worker's device.

    Attributes
    ----------
    bytes_per_pixel : int
        Bytes for each pixel of a window, at the peak.
    weight_bytes : int
    scale, alignment, overlap : int
    precision, device : str
        As resolved there; the device's name is for people.
    memory : int or None
        Memory of the device, where it has its own (a GPU).
    """

    bytes_per_pixel: int
    weight_bytes: int
    scale: int
    alignment: int
    overlap: int
    precision: str
    device: str
    memory: int | None


def needs_of(settings: Settings, channels: int) -> Needs:
    """Ask this process; a task, where workers are elsewhere.

    Raises
    ------
    ImageError
        The network takes no image with so many channels.
    """
    import torch

    upscaler = model_cache.upscaler(settings)
    engine, device = upscaler.engine, upscaler.device
    engine.groups(channels)
    memory = None
    if device.device.type == "cuda":
        memory = int(torch.cuda.get_device_properties(device.device).total_memory)
    return Needs(
        bytes_per_pixel=engine.bytes_per_pixel(channels),
        weight_bytes=sum(p.numel() * p.element_size() for p in upscaler.network.parameters()),
        scale=upscaler.scale,
        alignment=upscaler.network.alignment,
        overlap=upscaler.overlap,
        precision=device.precision,
        device=device.name,
        memory=memory,
    )


def tile_for(needs: Needs, memory_limit: int) -> int:
    """The side of a tile in source pixels, for a worker of so many bytes.

    Raises
    ------
    OptionError
        Not even the smallest tile fits.
    """
    available = memory_limit - _PROCESS_BYTES - _WEIGHTS * needs.weight_bytes
    if needs.memory is not None:
        available = needs.memory // 2  # the window is there; the rest is for convolutions' scratch
    available = int(available * _SHARE)
    smallest_window = (SMALLEST_TILE + 2 * needs.overlap) ** 2
    if available < smallest_window * needs.bytes_per_pixel:
        least = smallest_window * needs.bytes_per_pixel / _SHARE
        least += _PROCESS_BYTES + _WEIGHTS * needs.weight_bytes
        raise OptionError(
            f"a worker of {memory_limit / 1e9:.1f} GB cannot hold one tile of this model; it needs "
            f"{least / 1e9:.1f} GB"
        )
    side = largest_tile(available // max(needs.bytes_per_pixel, 1), needs.overlap)
    return max(SMALLEST_TILE, min(LARGEST_TILE, side))


def make_grid(
    layout: Layout,
    result_size: tuple[int, int],
    result_region: Rect,
    needs: Needs,
    tile: int,
) -> tuple[Grid, int]:
    """The grid for tiles of about `tile` source pixels, and the side of its stored chunks."""
    factor = max(result_size[0] / layout.height, result_size[1] / layout.width)
    whole = (result_size[0], result_size[1]) == (
        layout.height * round(factor),
        layout.width * round(factor),
    )
    side, stored = chunk_side(
        result_region, max(round(tile * factor), 1), round(factor) if whole else 1
    )
    grid = Grid(
        layout, result_size, result_region, side, needs.scale, needs.overlap, needs.alignment
    )
    return grid, stored
