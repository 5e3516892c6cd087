"""A network made ready on its devices, and one run of it over an array: everything is settled by
then but the tiles.

Which network an image goes through, and in what kind of array it comes, is `upscaler`'s business.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import OptionError
from esrgan_ext.inference import arrays
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.device_tensors import ranges as device_ranges
from esrgan_ext.inference.device_tensors.job import TensorJob, result_like
from esrgan_ext.inference.devices import Device
from esrgan_ext.inference.engine import Engine
from esrgan_ext.inference.job import Call, ImageJob
from esrgan_ext.inference.options import UpscaleOptions
from esrgan_ext.inference.plan import RunPlan
from esrgan_ext.inference.progress import Meter
from esrgan_ext.inference.result_memory import provide_in_background
from esrgan_ext.inference.tile_loop import TileLoop
from esrgan_ext.inference.tiles import Rect, split
from esrgan_ext.models import SRNetwork


class PreparedNetwork:
    """A network on one device or several.

    Parameters
    ----------
    network : SRNetwork
    devices : tuple of Device
        Each gets a copy of the network.
    overlap : int
        In pixels of the image.
    ensemble : bool
        Average the results of the 8 flips and rotations.

    Attributes
    ----------
    network : SRNetwork
    engine : Engine
        The first device's.
    tiles : TileLoop
    overlap : int
    """

    def __init__(
        self, network: SRNetwork, devices: tuple[Device, ...], overlap: int, ensemble: bool
    ) -> None:
        self.network, self.overlap = network, overlap
        # Networks keep packed weights and buffers, which two threads must not share.
        networks = [network, *(copy.deepcopy(network) for _ in devices[1:])]
        engines = [
            Engine(each, device, ensemble) for each, device in zip(networks, devices, strict=True)
        ]
        self.engine = engines[0]
        self.tiles = TileLoop(engines, overlap)

    def take(self, devices: tuple[Device, ...]) -> None:
        """Go on with the same devices, of another share of their memory."""
        for engine, device in zip(self.tiles.engines, devices, strict=True):
            engine.device = device

    def output_size(self, height: int, width: int, outscale: float | None) -> tuple[int, int]:
        """Height and width of the result for an image of that size."""
        factor = self.network.scale if outscale is None else float(outscale)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def plan(self, layout: Layout, dtype: np.dtype, options: UpscaleOptions) -> RunPlan:
        """Cost of a run, without running it; see `Upscaler.plan`."""
        channels, images = layout.channels_per_image, len(layout.images())
        self.engine.groups(channels)
        result_size = self.output_size(layout.height, layout.width, options.outscale)
        output_shape = layout.resized(*result_size).shape
        output_bytes = math.prod(output_shape) * dtype.itemsize
        tile = options.tile_side or self.tiles.auto_tile(layout, reserved=output_bytes)
        cores = split(Rect(0, layout.height, 0, layout.width), tile)
        windows = [self.tiles.window(core, layout) for core in cores]
        macs = sum(self.engine.macs(w.height, w.width, channels) for w in windows)
        return RunPlan(
            output_shape=output_shape,
            output_bytes=output_bytes,
            tile=tile,
            tiles=images * len(cores),
            macs=images * macs,
            work_bytes=max(w.pixels for w in windows) * self.engine.bytes_per_pixel(channels),
        )

    def run(
        self,
        pixels: np.ndarray | Tensor,
        layout: Layout,
        values: ValueMap,
        options: UpscaleOptions,
        call: Call,
    ) -> Any:
        """Upscale every image of an array; see `Upscaler.__call__`.

        Parameters
        ----------
        pixels : ndarray, or Tensor that stays on its GPU
        layout : Layout
        values : ValueMap
        options : UpscaleOptions
            outscale, tile and consistent count here; the others are settled.
        call : Call
        """
        everything = Rect(0, layout.height, 0, layout.width)
        if isinstance(pixels, Tensor):
            nan_count = device_ranges.check_finite(pixels)
        else:
            planes = (layout.read(pixels, index, everything) for index in layout.images())
            nan_count = sum(map(arrays.check_finite, planes))
        if nan_count:
            warnings.warn(
                f"the image has {nan_count} NaN pixels; they are filled from their neighbours "
                "for the network and are NaN in the result",
                RuntimeWarning,
                stacklevel=4,
            )
        region = everything if call.region is None else call.region
        if region.clipped(layout.height, layout.width) != region:
            raise OptionError(f"{region} is not within the {layout.height} x {layout.width} pixels")
        result_size = self.output_size(layout.height, layout.width, options.outscale)
        result_region = region.scaled((layout.height, layout.width), result_size)
        result_layout = layout.resized(result_region.height, result_region.width)
        out = result_like(pixels, result_layout.shape, call.out)
        std = result_like(_spread_like(pixels), result_layout.shape) if call.return_std else None
        meter = Meter(call.progress, len(layout.images()) * region.pixels)
        # A GPU converts pixels itself; where results are resampled, that comes after.
        scale = self.network.scale
        converted = (
            result_size == (layout.height * scale, layout.width * scale)
            and not (call.return_std or options.consistent)
            and self.engine.converts(values.dtype, layout.channels_per_image)
        )
        if converted and isinstance(out, np.ndarray):
            provide_in_background(out)
        kind: Any = TensorJob if isinstance(pixels, Tensor) else ImageJob
        job = kind(
            image=pixels,
            out=out,
            layout=layout,
            region=region,
            result_size=result_size,
            result_layout=result_layout,
            values=values,
            on_tile=call.on_tile,
            meter=meter,
            start=call.start,
            converted=converted,
            consistent=options.consistent,
            std=std,
        )
        self.tiles.run(job, options.tile_side)
        meter.finish()
        return out if std is None else (out, std)


def _spread_like(pixels: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Something of the spread's kind: float32, where the pixels are."""
    if isinstance(pixels, Tensor):
        return torch.empty(0, device=pixels.device)
    return np.empty(0, np.float32)
