"""The upscaling job: a request in, a result out, reports on the way.

Runs in a worker thread. Reads the layer's array plane by plane, writes into a `Result`. Knows
neither Qt nor napari.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from esrgan_ext import __version__
from esrgan_ext.errors import UpscaleCancelled
from napari_esrgan import _models
from napari_esrgan._axes import Axes, Region
from napari_esrgan._messages import Appear, Outcome, Progress, Status
from napari_esrgan._ranges import RangeChoice, data_range, finite_extent_of
from napari_esrgan._result import Index, Result, make_result

if TYPE_CHECKING:
    from esrgan_ext import Upscaler
    from esrgan_ext.models import SRNetwork

Report = Callable[[Any], None]
Cancelled = Callable[[], bool]

# Work longer than this is shown as it grows; shorter work appears whole under the bar.
FILL_IN_SECONDS = 10.0
# Tiles that are shown as they come: large enough that their overlap costs little.
FILL_IN_TILE = 512
# Small planes of a stack run together on a GPU, which one of them does not fill.
GPU_GROUP_PIXELS = 512 * 512
# Long enough for a steady estimate of what is left.
_SECONDS_BEFORE_ESTIMATE = 0.5


@dataclass(frozen=True)
class Mix:
    """A model between two others, as `esrgan_ext.interpolate` makes it."""

    a: str
    b: str
    alpha: float


@dataclass(frozen=True)
class UpscaleRequest:
    """Everything a run needs, taken from the form and the layer on the GUI thread.

    Attributes
    ----------
    data : array-like
        The layer's array (its finest level); NumPy, dask, zarr, ...
    axes : Axes
    region : Region
    model : str or Mix
        A catalogue name or a path.
    outscale : float or None
        None: the model's own scale.
    value_range : RangeChoice
    device, precision : str
    tile : int or 'auto'
    centre : (float, float)
        Row and column of the array that the user is looking at; done first.
    shown : tuple of int
        The plane that the user is looking at, along `axes.outer`; done first.
    only_shown : bool
        Upscale that plane only; the result keeps its axes, with one entry.
    budget_bytes : float
        Larger results go to disk.
    folder : Path or None
        Where to; None is the system's folder for temporary files.
    fill_in_seconds : float
    fill_in_tile : int
    """

    data: Any = field(repr=False)
    axes: Axes
    region: Region
    model: str | Mix
    outscale: float | None
    value_range: RangeChoice
    device: str = "auto"
    precision: str = "auto"
    tile: int | str = "auto"
    centre: tuple[float, float] = (0.0, 0.0)
    shown: tuple[int, ...] = ()
    only_shown: bool = False
    budget_bytes: float = 4e9
    folder: Path | None = None
    fill_in_seconds: float = FILL_IN_SECONDS
    fill_in_tile: int = FILL_IN_TILE

    @property
    def planes(self) -> list[tuple[int, ...]]:
        """The planes to do, the one on show first."""
        if self.only_shown:
            return [self.shown]
        planes = self.axes.planes(self.data.shape)
        return sorted(planes, key=lambda plane: plane != self.shown)  # stable: the rest in order

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape of the region of one plane as the network gets it."""
        size = (self.region.height, self.region.width)
        return (*size, self.data.shape[-1]) if self.axes.rgb else size


def load_model(model: str | Mix, report: Report, cancelled: Cancelled) -> SRNetwork:
    """The network of a request, downloading it where it must be."""

    def downloading(done: int, total: int) -> None:
        _stop_if(cancelled)
        report(Progress(done, total, text="Downloading the model"))

    report(Status("Reading the model…"))
    if isinstance(model, Mix):
        from esrgan_ext import interpolate

        a, b = (_models.load(name, downloading) for name in (model.a, model.b))
        return interpolate(a, b, model.alpha)  # type: ignore[return-value]
    return _models.load(model, downloading)


def make_upscaler(
    request: UpscaleRequest, network: SRNetwork, tile: int | str | None = None
) -> Upscaler:
    from esrgan_ext import Upscaler

    return Upscaler(
        network,
        outscale=request.outscale,
        tile=request.tile if tile is None else tile,
        device=request.device,
        precision=request.precision,
        channel_axis=-1 if request.axes.rgb else False,
    )


def run_upscale(
    request: UpscaleRequest,
    report: Report,
    cancelled: Cancelled,
    network: SRNetwork | None = None,
) -> Outcome:
    """Upscale what is asked for.

    Parameters
    ----------
    request : UpscaleRequest
    report : callable
        Gets `Status`, `Progress` and, where the work is long, one `Appear`.
    cancelled : callable
        Asked often; True stops the work within one step of the network.
    network : SRNetwork or None
        The request's model, where it is loaded already.

    Raises
    ------
    UpscaleCancelled
        After `cancelled` said so. What was on disk is gone.
    EsrganError, MemoryError
        In words for the user.
    """
    if network is None:
        network = load_model(request.model, report, cancelled)
    _stop_if(cancelled)
    report(Status("Reading the layer…"))
    ranges = channel_ranges(request, cancelled)
    upscaler = make_upscaler(request, network)
    dtype = np.dtype(request.data.dtype)
    plan = upscaler.plan(request.plane_shape, dtype)
    seconds = len(request.planes) * plan.macs / _models.speed(upscaler.device)
    fill_in = seconds > request.fill_in_seconds
    tile = plan.tile
    if fill_in and request.tile == "auto":
        tile = min(tile, _showing_tile(request.region, request.fill_in_tile))
    if tile != request.tile:
        upscaler = make_upscaler(request, network, tile)
        plan = upscaler.plan(request.plane_shape, dtype)
    shape = output_shape(request, upscaler)
    axes = request.axes
    result = make_result(shape, dtype, axes.y, axes.x, request.budget_bytes, request.folder)
    work = _Work(request, upscaler, result, ranges, plan.tiles, report, cancelled)
    try:
        if fill_in:
            report(Status("Preparing the layer…"))
            work.fill_cheaply()
            report(Appear(result))
        with _models.inference(cancelled), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            begin = time.perf_counter()
            work.run()
            taken = time.perf_counter() - begin
        _stop_if(cancelled)
    except BaseException:
        result.discard()
        raise
    _models.learn_speed(upscaler, plan.macs * len(request.planes), taken)
    notes = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, RuntimeWarning))
    provenance = _provenance(request, upscaler, ranges, tile, taken, result)
    return Outcome(result, provenance, tuple(notes))


def channel_ranges(request: UpscaleRequest, cancelled: Cancelled) -> list[Any]:
    """The `data_range` of each channel (one entry where there is no channel axis)."""
    choice, axes, data = request.value_range, request.axes, request.data
    if choice.kind == "type":
        return [None] * axes.channels(data.shape)
    if choice.kind in ("limits", "own"):
        assert choice.values is not None
        return [data_range(choice.values)] * axes.channels(data.shape)
    planes = axes.planes(data.shape)
    return [
        data_range(
            finite_extent_of(
                (
                    np.asarray(data[axes.index(plane)])
                    for plane in planes
                    if axes.channel_of(plane) == channel
                ),
                cancelled,
            )
        )
        for channel in range(axes.channels(data.shape))
    ]


class _Work:
    """The loop over planes: one call of the upscaler each, or for a group on a GPU."""

    def __init__(
        self,
        request: UpscaleRequest,
        upscaler: Upscaler,
        result: Result,
        ranges: list[Any],
        tiles_per_plane: int,
        report: Report,
        cancelled: Cancelled,
    ) -> None:
        self._request, self._upscaler, self._result = request, upscaler, result
        self._ranges, self._report, self._cancelled = ranges, report, cancelled
        self._plane_pixels = request.region.height * request.region.width
        self._tiles = tiles_per_plane * len(request.planes)
        self._total = self._plane_pixels * len(request.planes)
        self._finished = self._pieces = 0
        self._begin = time.perf_counter()

    def read(self, plane: tuple[int, ...]) -> np.ndarray:
        """The region of a plane as (H, W) or (H, W, colours)."""
        axes, region = self._request.axes, self._request.region
        pixels = np.asarray(self._request.data[axes.index(plane, region.rows, region.columns)])
        return np.swapaxes(pixels, 0, 1) if axes.transposed else pixels

    def _target(
        self, plane: tuple[int, ...], rows: slice = slice(None), columns: slice = slice(None)
    ) -> Index:
        """Where (part of) a plane is in the result."""
        if self._request.only_shown:
            plane = (0,) * len(plane)
        return self._request.axes.index(plane, rows, columns)

    def _arranged(self, pixels: np.ndarray) -> np.ndarray:
        return np.swapaxes(pixels, 0, 1) if self._request.axes.transposed else pixels

    def fill_cheaply(self) -> None:
        """Every plane by its nearest pixels, to be seen until the network has got there."""
        height, width = self._upscaler.output_size(
            self._request.region.height, self._request.region.width
        )
        for plane in self._request.planes:
            pixels = self.read(plane)
            columns = _nearest(pixels.shape[1], width)
            rows = _nearest(pixels.shape[0], height)
            for top in range(0, height, 1024):
                _stop_if(self._cancelled)
                part = slice(top, min(top + 1024, height))
                block = pixels[rows[part]][:, columns]
                self._result.write(
                    self._target(plane, part, slice(0, width)), self._arranged(block)
                )

    def run(self) -> None:
        for group in self._groups():
            self._run_group(group)

    def _groups(self) -> list[list[tuple[int, ...]]]:
        """The planes in the order of work, those that run together in one list."""
        planes = self._request.planes
        if self._upscaler.device.is_cpu:
            return [[plane] for plane in planes]
        size = max(1, GPU_GROUP_PIXELS // self._plane_pixels)
        channel_of = self._request.axes.channel_of
        groups: list[list[tuple[int, ...]]] = []
        for plane in planes:
            if groups and len(groups[-1]) < size and channel_of(groups[-1][0]) == channel_of(plane):
                groups[-1].append(plane)
            else:
                groups.append([plane])
        return groups

    def _run_group(self, planes: list[tuple[int, ...]]) -> None:
        _stop_if(self._cancelled)
        request, region = self._request, self._request.region
        pixels = self.read(planes[0])
        alone = len(planes) == 1
        if not alone:
            pixels = np.stack([pixels, *(self.read(plane) for plane in planes[1:])])
        # Only a single plane can be written in place: a group need not be a slice of the result.
        view = self._result.view(self._target(planes[0])) if alone else None
        out = None if view is None else self._arranged(view)

        def progress(done: int, _total: int) -> bool:
            self._say(self._finished + done)
            return not self._cancelled()

        def on_tile(piece: np.ndarray, slices: tuple[int | slice, ...]) -> None:
            if out is None:
                plane = planes[0] if alone else planes[slices[0]]  # type: ignore[index]
                rows, columns = (slices if alone else slices[1:])[:2]
                self._result.write(
                    self._target(plane, rows, columns),  # type: ignore[arg-type]
                    self._arranged(piece),
                )
            self._pieces += 1

        self._upscaler.data_range = self._ranges[request.axes.channel_of(planes[0])]
        self._upscaler(
            pixels,
            progress=progress,
            on_tile=on_tile,
            out=out,
            start=(request.centre[0] - region.y0, request.centre[1] - region.x0),
        )
        self._finished += len(planes) * self._plane_pixels
        self._say(self._finished)

    def _say(self, done: int) -> None:
        elapsed = time.perf_counter() - self._begin
        left = None
        if done and elapsed > _SECONDS_BEFORE_ESTIMATE:
            left = elapsed * (self._total - done) / done
        tiles_done = self._tiles * done // self._total
        self._report(Progress(done, self._total, tiles_done, self._tiles, left, self._pieces))


def output_shape(request: UpscaleRequest, upscaler: Upscaler) -> tuple[int, ...]:
    """Shape of a request's result: the axes of the layer, its planes of the new size."""
    shape = list(request.data.shape)
    if request.only_shown:
        for axis in request.axes.outer:
            shape[axis] = 1
    shape[request.axes.y], shape[request.axes.x] = upscaler.output_size(
        request.region.height, request.region.width
    )
    return tuple(shape)


def _showing_tile(region: Region, smallest: int) -> int:
    """The side of tiles that cut a region evenly, none much smaller than `smallest`."""
    sides = (region.height, region.width)
    return max(-(-side // max(1, side // smallest)) for side in sides)


def _nearest(source: int, target: int) -> np.ndarray:
    return ((np.arange(target) + 0.5) * source / target).astype(np.intp)


def _stop_if(cancelled: Cancelled) -> None:
    if cancelled():
        raise UpscaleCancelled("upscaling was cancelled")


def _provenance(
    request: UpscaleRequest,
    upscaler: Upscaler,
    ranges: list[Any],
    tile: int,
    seconds: float,
    result: Result,
) -> dict[str, Any]:
    import torch

    from esrgan_ext.weights import info_of

    info = info_of(upscaler.network)
    region, mix = request.region, request.model
    return {
        "model": {
            "name": info.name,
            "key": mix if isinstance(mix, str) else None,
            "mix": None if isinstance(mix, str) else [mix.a, mix.b, mix.alpha],
            "sha256": info.sha256,
            "license": info.license,
            "source": info.source,
            "scale": info.scale,
        },
        "parameters": {
            "outscale": request.outscale,
            "axes": list(request.axes.roles),
            "rgb": request.axes.rgb,
            "region": [region.y0, region.y1, region.x0, region.x1],
            "plane": list(request.shown) if request.only_shown else None,
            "range": request.value_range.kind,
            "range_values": list(request.value_range.values or ()) or None,
            "ranges": [list(r) if isinstance(r, tuple) else r for r in ranges],
            "device": str(upscaler.device.device),
            "precision": upscaler.device.precision,
            "tile": tile,
            "overlap": upscaler.overlap,
        },
        "versions": {"esrgan_ext": __version__, "torch": str(torch.__version__)},
        "device_name": upscaler.device.name,
        "seconds": round(seconds, 3),
        "store": None if result.path is None else str(result.path),
    }
