"""The upscaling job: a request in, a result out, reports on the way.

Runs in a worker thread. Reads the layer's array plane by plane, writes into a `Result`. Knows
neither Qt nor napari.
"""

from __future__ import annotations

import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from esrgan_ext import __version__
from esrgan_ext.inference.tiles import even_side
from napari_esrgan._work import models
from napari_esrgan._work.labels import nearest
from napari_esrgan._work.messages import (
    Appear,
    Cancelled,
    LayerOutcome,
    Progress,
    Report,
    Status,
    stop_if,
)
from napari_esrgan._work.prepare import (
    channel_ranges,
    denoised,
    load_models,
    make_upscaler,
    output_shape,
)
from napari_esrgan._work.request import Mix, UpscaleRequest
from napari_esrgan._work.result import Index, Result, make_result

if TYPE_CHECKING:
    from esrgan_ext import Upscaler
    from esrgan_ext.models import SRNetwork
    from esrgan_ext.weights import ModelInfo

# Long enough for a steady estimate of what is left.
_SECONDS_BEFORE_ESTIMATE = 0.5
# A window that has not shown the result by then is busy with other things.
_SECONDS_BEFORE_SHOWN = 1.0


def run_upscale(
    request: UpscaleRequest,
    report: Report,
    cancelled: Cancelled,
    network: SRNetwork | None = None,
) -> LayerOutcome:
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
    report(Status("Reading the layer…"))
    ranges = channel_ranges(request, cancelled)
    request = denoised(request, cancelled)
    if network is None:
        networks = load_models(request, report, cancelled)
    else:
        networks = {request.model: network}
    stop_if(cancelled)
    upscalers = _upscalers(request, networks, report, cancelled)
    upscaler = next(iter(upscalers.values()))
    dtype = np.dtype(request.data.dtype)
    plan = upscaler.plan(request.plane_shape, dtype)
    seconds = len(request.planes) * plan.macs / models.speed(upscaler.device)
    fill_in = seconds > request.fill_in_seconds
    tile = plan.tile
    if fill_in and request.tile == "auto":
        sides = request.plane_shape[:2]
        tile = min(tile, even_side(sides, smallest=request.fill_in_tile))
    if tile != request.tile:
        upscalers = _upscalers(request, networks, report, cancelled, tile)
        upscaler = next(iter(upscalers.values()))
        plan = upscaler.plan(request.plane_shape, dtype)
    shape = output_shape(request, upscaler)
    axes = request.axes
    result = make_result(shape, dtype, axes.y, axes.x, request.budget_bytes, request.folder)
    work = _Work(request, upscalers, result, ranges, plan.tiles, report, cancelled)
    try:
        if fill_in:
            report(Status("Preparing the layer…"))
            work.fill_cheaply()
            appear = Appear(result)
            report(appear)
            _wait_for(appear.shown, cancelled)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            begin = time.perf_counter()
            work.run()
            taken = time.perf_counter() - begin
        stop_if(cancelled)
    except BaseException:
        result.discard()
        raise
    models.learn_speed(upscaler, plan.macs * len(request.planes), work.seconds)
    notes = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, RuntimeWarning))
    provenance = _provenance(request, upscalers, ranges, tile, taken, result)
    return LayerOutcome(result, provenance, tuple(notes))


def _upscalers(
    request: UpscaleRequest,
    networks: dict[str | Mix, SRNetwork],
    report: Report,
    cancelled: Cancelled,
    tile: int | str | None = None,
) -> dict[str | Mix, Upscaler]:
    """One for each network; they are alike in everything else."""
    return {
        model: make_upscaler(request, network, report, cancelled, tile)
        for model, network in networks.items()
    }


class _Work:
    """The loop over planes: one call of the upscaler each, or for a group on a GPU."""

    def __init__(
        self,
        request: UpscaleRequest,
        upscalers: dict[str | Mix, Upscaler],
        result: Result,
        ranges: list[Any],
        tiles_per_plane: int,
        report: Report,
        cancelled: Cancelled,
    ) -> None:
        self._request, self._upscalers, self._result = request, upscalers, result
        self._upscaler = next(iter(upscalers.values()))  # for what is the same of all
        self._ranges, self._report, self._cancelled = ranges, report, cancelled
        self._plane_pixels = request.region.height * request.region.width
        self._tiles = tiles_per_plane * len(request.planes)
        self._total = self._plane_pixels * len(request.planes)
        self._finished = self._pieces = 0
        self.seconds = 0.0  # in the network, without reading and waiting
        self._begin = time.perf_counter()

    def read(self, plane: tuple[int, ...]) -> np.ndarray:
        """The region of a plane as (H, W) or (H, W, colours)."""
        return self._request.axes.read(self._request.data, plane, self._request.region)

    def _target(
        self, plane: tuple[int, ...], rows: slice = slice(None), columns: slice = slice(None)
    ) -> Index:
        """Where (part of) a plane is in the result."""
        if self._request.only_shown:
            plane = (0,) * len(plane)
        return self._request.axes.index(plane, rows, columns)

    def fill_cheaply(self) -> None:
        """Every plane by its nearest pixels, to be seen until the network has got there."""
        height, width = self._upscaler.output_size(
            self._request.region.height, self._request.region.width
        )
        for plane in self._request.planes:
            pixels = self.read(plane)
            columns = nearest(pixels.shape[1], width)
            rows = nearest(pixels.shape[0], height)
            for top in range(0, height, 1024):
                stop_if(self._cancelled)
                part = slice(top, min(top + 1024, height))
                block = pixels[rows[part]][:, columns]
                self._result.write(
                    self._target(plane, part, slice(0, width)), self._request.axes.turned(block)
                )

    def run(self) -> None:
        for group in self._groups():
            self._run_group(group)

    def _groups(self) -> list[list[tuple[int, ...]]]:
        """The planes in the order of work, those that run together in one list."""
        planes = self._request.planes
        if self._upscaler.device.is_cpu:
            return [[plane] for plane in planes]
        # One small plane does not fill a GPU.
        size = self._upscaler.images_at_once(*self._request.plane_shape[:2])
        channel_of = self._request.axes.channel_of
        groups: list[list[tuple[int, ...]]] = []
        for plane in planes:
            if groups and len(groups[-1]) < size and channel_of(groups[-1][0]) == channel_of(plane):
                groups[-1].append(plane)
            else:
                groups.append([plane])
        return groups

    def _run_group(self, planes: list[tuple[int, ...]]) -> None:
        from esrgan_ext.inference.model_cache import inference

        stop_if(self._cancelled)
        request, region = self._request, self._request.region
        pixels = self.read(planes[0])
        alone = len(planes) == 1
        if not alone:
            pixels = np.stack([pixels, *(self.read(plane) for plane in planes[1:])])
        # Only a single plane can be written in place: a group need not be a slice of the result.
        view = self._result.view(self._target(planes[0])) if alone else None
        out = None if view is None else self._request.axes.turned(view)

        def progress(done: int, _total: int) -> bool:
            self._say(self._finished + done)
            return not self._cancelled()

        def on_tile(piece: np.ndarray, slices: tuple[int | slice, ...]) -> None:
            if out is None:
                plane = planes[0] if alone else planes[slices[0]]  # type: ignore[index]
                rows, columns = (slices if alone else slices[1:])[:2]
                self._result.write(
                    self._target(plane, rows, columns),  # type: ignore[arg-type]
                    self._request.axes.turned(piece),
                )
            self._pieces += 1

        upscaler = self._upscalers[request.models[request.place(planes[0])]]
        with inference(upscaler.device.device, self._cancelled):
            begin = time.perf_counter()
            upscaler(
                pixels,
                data_range=self._ranges[request.axes.channel_of(planes[0])],
                progress=progress,
                on_tile=on_tile,
                out=out,
                start=(request.centre[0] - region.y0, request.centre[1] - region.x0),
            )
            self.seconds += time.perf_counter() - begin
        self._finished += len(planes) * self._plane_pixels
        self._say(self._finished)

    def _say(self, done: int) -> None:
        elapsed = time.perf_counter() - self._begin
        left = None
        if done and elapsed > _SECONDS_BEFORE_ESTIMATE:
            left = elapsed * (self._total - done) / done
        tiles_done = self._tiles * done // self._total
        self._report(Progress(done, self._total, tiles_done, self._tiles, left, self._pieces))


def _wait_for(shown: threading.Event, cancelled: Cancelled) -> None:
    end = time.monotonic() + _SECONDS_BEFORE_SHOWN
    while not shown.wait(0.02) and time.monotonic() < end:
        stop_if(cancelled)


def _provenance(
    request: UpscaleRequest,
    upscalers: dict[str | Mix, Upscaler],
    ranges: list[Any],
    tile: int,
    seconds: float,
    result: Result,
) -> dict[str, Any]:
    import torch

    from esrgan_ext.weights import find_model, info_of

    region = request.region
    about = {model: _about(info_of(made.network), model) for model, made in upscalers.items()}
    upscaler = next(iter(upscalers.values()))
    if len(request.models) > 1:
        assert isinstance(request.model, str)
        model = _about(find_model(request.model), request.model)
        # Of a channel that was not upscaled nothing is said.
        model["channels"] = [about.get(each) for each in request.models]
    else:
        model = about[request.model]
    return {
        "model": model,
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
            "consistent": request.consistent,
            "strengths": list(request.strengths) or None,
        },
        "versions": {"esrgan_ext": __version__, "torch": str(torch.__version__)},
        "device_name": upscaler.device.name,
        "seconds": round(seconds, 3),
        "store": None if result.path is None else str(result.path),
    }


def _about(info: ModelInfo, model: str | Mix) -> dict[str, Any]:
    return {
        "name": info.name,
        "key": model if isinstance(model, str) else None,
        "mix": None if isinstance(model, str) else [model.a, model.b, model.alpha],
        "sha256": info.sha256,
        "license": info.license,
        "source": info.source,
        "scale": info.scale,
    }
