"""From a source and options to a `StoreJob`, and whether an unfinished result belongs to them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_ext import __version__
from esrgan_ext.errors import ResumeError
from esrgan_ext.inference import arrays, model_cache, ranges
from esrgan_ext.inference.arrays import Layout, ValueMap
from esrgan_ext.inference.consistency import block_factor
from esrgan_ext.inference.denoising import channel_strengths, follows_noise, split_by_strength
from esrgan_ext.inference.large import sizes
from esrgan_ext.inference.large.grid import Grid
from esrgan_ext.inference.large.images import ome_zarr, tiff
from esrgan_ext.inference.large.images.image import Level, Scene, result_transform, with_version
from esrgan_ext.inference.large.images.source import Source
from esrgan_ext.inference.large.sizes import Needs
from esrgan_ext.inference.large.store import pyramid
from esrgan_ext.inference.large.store.options import StoreOptions, within
from esrgan_ext.inference.large.store.tasks import StoreJob
from esrgan_ext.inference.model_cache import Settings
from esrgan_ext.inference.ranges import DataRange
from esrgan_ext.inference.samples import has_empty_channel
from esrgan_ext.inference.tiles import Rect, split
from esrgan_ext.inference.upscaler import Upscaler
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights import info_of
from esrgan_ext.weights.choice import Choice, choose_model, is_auto

# Pixels that are read at a time where nothing is computed.
_READ_SIDE = 2048

# Chunks of the coarser levels are made of four times their pyramid, in float64: 2048 keeps that to
# 0.3 GB for three channels.
_COARSER_SIDE = 2048


@dataclass(frozen=True)
class StoreRequest:
    """A checked order to upscale a store, before anything is known of workers.

    Attributes
    ----------
    scene : Scene
    level : Level
    level_number : int
        The level's number in the source.
    layout : Layout
        Axes and size of the whole level.
    result_region : Rect
        The result of the region, in pixels of the whole level's result.
    region : Rect
        The region, in pixels of the source's level.
    result_size : (int, int)
        Height and width of the whole level's result.
    networks : tuple of SRNetwork
        One, or one for each channel where they ask for different strengths of denoising.
    model_name : str
    settings : tuple of Settings
        One for each network.
    strengths : tuple of float
        Strengths of denoising from 0 to 1, one for each network; empty where the model runs as it
        stands.
    tile : int or None
    memory_limit : int
    data_range : as in `StoreOptions`
    choice : Choice or None
        Which model was chosen and why, where that was left to us.
    """

    scene: Scene
    level: Level
    level_number: int
    layout: Layout
    result_region: Rect
    region: Rect
    result_size: tuple[int, int]
    networks: tuple[SRNetwork, ...]
    model_name: str
    settings: tuple[Settings, ...]
    strengths: tuple[float, ...]
    tile: int | None
    memory_limit: int
    data_range: DataRange
    choice: Choice | None = None

    @property
    def source(self) -> Source:
        return self.level.source

    @property
    def names(self) -> list[str]:
        return [str(axis["name"]) for axis in self.scene.axes]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.source.dtype)

    @property
    def follows_data(self) -> bool:
        """Whether the range has to be looked for in the data."""
        return ranges.follows_data(self.dtype, self.data_range, self.layout.channels_per_image)

    def resolved(self, precision: str) -> StoreRequest:
        """With the precision that the workers' device takes."""
        settings = tuple(each.with_precision(precision) for each in self.settings)
        return replace(self, settings=settings)

    @property
    def denoising(self) -> str | None:
        """The strengths for people, by channel where they differ."""
        if not self.strengths:
            return None
        if len(self.strengths) == 1:
            return f"{self.strengths[0]:.2f}"
        labels = [str(c.get("label") or "") for c in self.scene.omero.get("channels", [])]
        if len(labels) != len(self.strengths) or not all(labels):
            labels = [f"channel {number}" for number in range(len(self.strengths))]
        told = zip(labels, self.strengths, strict=True)
        return ", ".join(f"{label} {strength:.2f}" for label, strength in told)

    def parts(self) -> tuple[tuple[slice, ...], ...]:
        """Indices that cover the region once, in pieces of 2048 x 2048 pyramid."""
        pieces = []
        for image in self.layout.images():
            for part in split(self.region, _READ_SIDE):
                index = self.layout.slices(image, part)
                pieces.append(tuple(slice(k, k + 1) if isinstance(k, int) else k for k in index))
        return tuple(pieces)

    def transforms(self, job: StoreJob) -> list[tuple[list[float], list[float]]]:
        """Scale and translation of each level of the result."""
        ratio, start = [0.0] * len(self.names), [0.0] * len(self.names)
        for axis, whole, result, first in (
            (self.layout.y_axis, self.layout.height, self.result_size[0], self.result_region.y0),
            (self.layout.x_axis, self.layout.width, self.result_size[1], self.result_region.x0),
        ):
            ratio[axis], start[axis] = result / whole, first
        return [
            result_transform(self.level, tuple(ratio), tuple(start), 2**number)
            for number in range(1 + len(job.coarser))
        ]


def prepare(
    source: Path, options: StoreOptions, earlier: dict[str, Any] | None = None
) -> StoreRequest:
    """Open the source and the model, and check that they and the options go together.

    Parameters
    ----------
    source : Path
    options : StoreOptions
    earlier : dict, optional
        The plan of an unfinished result. Strengths of denoising that were found in the same source
        are taken from there: they are found once.

    Raises
    ------
    ImageFileError, ImageError, OptionError, ModelError, DownloadError
    """
    is_tiff = source.is_file()
    scene = tiff.read_scene(source, options.series or 0) if is_tiff else ome_zarr.read_scene(source)
    scene = with_version(scene, options.version)
    level = scene.level(options.level)
    dtype = np.dtype(level.source.dtype)
    ranges.fixed_map(dtype, None)  # it can be upscaled
    layout = arrays.layout_of(level.source.shape, scene.channel_axis(options.channels, level))
    region = within(options.region, layout.height, layout.width)
    model, choice = options.model, None
    if is_auto(model):
        kind = "TIFF" if is_tiff else "OME-Zarr"
        empty = has_empty_channel(level.source, layout)
        choice = choose_model(
            dtype, layout.channels_per_image, scientific=kind, empty_channel=empty
        )
        model = choice.model
    strengths: tuple[Any, ...] = (options.denoise,)
    if not options.consistent and follows_noise(str(model), options.denoise):
        seen = layout
        if layout.channel_axis is None and (axis := scene.own_channels) is not None:
            seen = replace(layout, channel_axis=axis)
        split, strengths = split_by_strength(
            seen, _settled(earlier, level.source, options.level, seen)
        )
        layout = split if len(strengths) > 1 else layout
    references, networks = zip(*(model_cache.refer(model, s) for s in strengths), strict=True)
    # On the CPU, whatever the workers run on: it checks the options and knows sizes.
    upscaler = Upscaler(
        networks[0],
        outscale=options.outscale,
        overlap=options.overlap,
        device="cpu",
        precision="fp32",
        denoise=None,
    )
    upscaler.engine.groups(layout.channels_per_image)
    size = (layout.height, layout.width)
    result_size = upscaler.output_size(*size)
    result_region = region.scaled(size, result_size)
    result_region = replace(result_region, y1=max(result_region.y1, 1), x1=max(result_region.x1, 1))
    if options.consistent:
        block_factor(size, result_size)
    settings = tuple(
        Settings.of(reference, options.upscaling(), upscaler.overlap) for reference in references
    )
    name = info_of(networks[0]).name if len(networks) == 1 else str(model)
    return StoreRequest(
        scene, level, options.level, layout, result_region, region, result_size, networks, name,
        settings, tuple(float(s) for s in strengths if isinstance(s, int | float)),
        options.tile_side, options.memory_limit, options.data_range, choice,
    )  # fmt: skip


def _settled(
    earlier: dict[str, Any] | None, source: Source, level: int, layout: Layout
) -> tuple[float, ...]:
    """The strength that each channel asks for, found once for a result."""
    looked_at = _looked_at(source, level).items()
    if earlier is not None and all(earlier.get(key) == value for key, value in looked_at):
        found = earlier.get("denoise")
        channels = 1 if layout.channel_axis is None else layout.shape[layout.channel_axis]
        if isinstance(found, list) and len(found) in (1, channels):
            return tuple(found)
    return tuple(channel_strengths(source, layout))


def _looked_at(source: Source, level: int) -> dict[str, Any]:
    """Which pixels a result is made of, as JSON gives it back."""
    return {
        "source": source.path,
        "source_changed": source.modified,
        "level": level,
        "array": source.component,
        "series": source.series,
        "shape": list(source.shape),
        "dtype": source.dtype,
    }


def planned(
    request: StoreRequest, needs: Needs, values: ValueMap, folder: str
) -> tuple[StoreJob, dict[str, Any]]:
    """A new job, and its plan for the manifest.

    Raises
    ------
    OptionError
        No tile fits into the workers' memory.
    """
    tile = request.tile or sizes.tile_for(needs, request.memory_limit)
    grid, stored = sizes.make_grid(
        request.layout, request.result_size, request.result_region, needs, tile
    )
    plan = {
        **identity(request),
        "token": secrets.token_hex(8),
        "esrgan_ext": __version__,
        "side": grid.side,
        "stored": stored,
        "values": [values.low, values.high],
        "why_this_model": None if request.choice is None else request.choice.reason,
    }
    return _job(request, needs, grid.side, stored, values, folder), plan


def resumed(
    request: StoreRequest, needs: Needs, plan: dict[str, Any], folder: str
) -> tuple[StoreJob, dict[str, Any]]:
    """The job of an unfinished result.

    Raises
    ------
    ResumeError
        It was made by another model, from another source or with other options.
    """
    asked = identity(request)
    different = [
        f"{key.replace('_', ' ')} {_short(plan.get(key))}, now {_short(value)}"
        for key, value in asked.items()
        # A tile that is left to us is what it was.
        if plan.get(key) != value and not (key == "tile" and value == "auto")
    ]
    if different:
        raise ResumeError(
            f"{folder}: an unfinished result is there, made differently: {'; '.join(different)}. "
            "Give the same options to continue it, or overwrite it"
        )
    low, high = plan["values"]
    values = ValueMap(request.dtype, low, high)
    return _job(request, needs, plan["side"], plan["stored"], values, folder), plan


def identity(request: StoreRequest) -> dict[str, Any]:
    """Everything that a result depends on, as JSON gives it back."""
    settings = request.settings
    region = request.region
    data_range = request.data_range
    return {
        "model": request.model_name,
        "weights": (
            settings[0].model.digest
            if len(settings) == 1
            else [each.model.digest for each in settings]
        ),
        "denoise": list(request.strengths) or None,
        **_looked_at(request.source, request.level_number),
        "region": [region.y0, region.y1, region.x0, region.x1],
        "colour": request.layout.channels_per_image > 1,
        "result": list(request.result_size),
        "tile": request.tile or "auto",
        "overlap": settings[0].options.overlap,
        "precision": settings[0].options.precision,
        "ensemble": settings[0].options.ensemble,
        "consistent": settings[0].options.consistent,
        "data_range": list(data_range) if isinstance(data_range, tuple) else data_range,
        "ome_zarr": request.scene.version,
    }


def _job(
    request: StoreRequest, needs: Needs, side: int, stored: int, values: ValueMap, folder: str
) -> StoreJob:
    grid = Grid(
        request.layout,
        request.result_size,
        request.result_region,
        side,
        needs.scale,
        needs.overlap,
        needs.alignment,
    )
    result = grid.result_layout
    coarser = []
    for height, width in pyramid.level_sizes(result.height, result.width)[1:]:
        everything = Rect(0, height, 0, width)
        layout = result.resized(height, width)
        stored_chunks = min(side, stored * max(1, _COARSER_SIDE // stored))
        coarser.append(Grid(layout, (height, width), everything, stored_chunks, 1, 0, 1))
    return StoreJob(folder, request.source, request.settings, grid, tuple(coarser), values)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 and text.isalnum() else text
