"""From a request to network, upscaler, ranges and shape; for worker threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from esrgan_ext.inference.noise import PLANES, denoise_strength, estimate_noise
from esrgan_ext.inference.ranges import RobustRange
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.weights.catalogue import CATALOGUE, FOLLOWS_NOISE
from napari_esrgan._work.kernels import have_kernels
from napari_esrgan._work.messages import Cancelled, Progress, Report, Status, stop_if
from napari_esrgan._work.ranges import data_range
from napari_esrgan._work.request import Mix, UpscaleRequest

if TYPE_CHECKING:
    from esrgan_ext import Upscaler
    from esrgan_ext.models import SRNetwork

# Of a large plane the middle is looked at for its noise.
NOISE_SIDE = 2048


def load_model(model: str | Mix, report: Report, cancelled: Cancelled) -> SRNetwork:
    """The network of a request, downloading it where it must be."""
    from esrgan_ext.inference import model_cache

    def downloading(done: int, total: int) -> None:
        stop_if(cancelled)
        report(Progress(done, total, text="Downloading the model"))

    report(Status("Reading the model…"))
    if isinstance(model, Mix):
        from esrgan_ext import interpolate

        a, b = (model_cache.load(name, downloading) for name in (model.a, model.b))
        return interpolate(a, b, model.alpha)  # type: ignore[return-value]
    return model_cache.load(model, downloading)


def make_upscaler(
    request: UpscaleRequest,
    network: SRNetwork,
    report: Report,
    cancelled: Cancelled,
    tile: int | str | None = None,
) -> Upscaler:
    """The upscaler of a request, its kernels compiled."""
    from esrgan_ext import Upscaler
    from esrgan_ext.inference.devices import choose_device

    have_kernels(choose_device(request.device, request.precision), report, cancelled)
    return Upscaler(
        network,
        outscale=request.outscale,
        tile=request.tile if tile is None else tile,
        device=request.device,
        precision=request.precision,
        channel_axis=-1 if request.axes.rgb else False,
        consistent=request.consistent,
        denoise=None,  # decided once a layer by `denoised`, not once a plane
    )


def range_of(
    planes: Iterable[np.ndarray], cancelled: Cancelled, robust: bool
) -> tuple[float, float]:
    """The range of planes read one after another; equal values where they are constant.

    Parameters
    ----------
    planes : iterable of ndarray
    cancelled : callable
        Asked between two planes.
    robust : bool
        Whether hot pixels count; without, it is minimum and maximum of the finite values.

    Raises
    ------
    ImageError
        If a value is infinite.
    UpscaleCancelled
    """
    found = RobustRange()
    for plane in planes:
        stop_if(cancelled)
        found.add(plane)
    return found.range if robust else found.extent


def channel_ranges(request: UpscaleRequest, cancelled: Cancelled) -> list[Any]:
    """The `data_range` of each channel (one entry where there is no channel axis)."""
    choice, axes, data = request.value_range, request.axes, request.data
    if choice.kind == "type":
        return ["type"] * axes.channels(data.shape)
    if choice.kind in ("limits", "own"):
        assert choice.values is not None
        return [data_range(choice.values)] * axes.channels(data.shape)

    def planes(channel: int) -> Iterator[np.ndarray]:
        for plane in axes.planes(data.shape):
            if axes.channel_of(plane) == channel:
                yield axes.read(data, plane)

    robust = choice.kind == "data"
    return [
        data_range(range_of(planes(channel), cancelled, robust))
        for channel in range(axes.channels(data.shape))
    ]


def denoised(request: UpscaleRequest, ranges: list[Any], cancelled: Cancelled) -> UpscaleRequest:
    """A request whose model is mixed as the noise of its layer asks for.

    Parameters
    ----------
    request : UpscaleRequest
    ranges : list
        Of `channel_ranges`.
    cancelled : callable

    Returns
    -------
    UpscaleRequest
        The same where nothing is left to the noise.
    """
    model, axes, data = request.model, request.axes, request.data
    if not request.denoise_auto or request.consistent or model not in FOLLOWS_NOISE:
        return request
    assert isinstance(model, str)
    pair = CATALOGUE[model].denoise
    assert pair is not None
    strengths = [0.0]
    height, width = data.shape[axes.y], data.shape[axes.x]
    middle = Rect(
        max(0, (height - NOISE_SIDE) // 2),
        min(height, (height + NOISE_SIDE) // 2),
        max(0, (width - NOISE_SIDE) // 2),
        min(width, (width + NOISE_SIDE) // 2),
    )
    for channel, values in enumerate(ranges):
        planes = [p for p in axes.planes(data.shape) if axes.channel_of(p) == channel]
        spread = np.linspace(0, len(planes) - 1, min(len(planes), PLANES)).round().astype(int)
        parts = []
        for k in spread:
            stop_if(cancelled)
            pixels = axes.read(data, planes[k], middle)
            parts += [*np.moveaxis(pixels, -1, 0)] if axes.rgb else [pixels]
        if values != "auto":  # constant
            strengths.append(denoise_strength(estimate_noise(parts)))
    alpha = max(strengths)
    mixed = {0.0: pair[0], 1.0: pair[1]}.get(float(alpha)) or Mix(*pair, alpha)
    return replace(request, model=mixed, denoise_auto=False)


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
