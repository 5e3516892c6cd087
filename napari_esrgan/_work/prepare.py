"""From a request to network, upscaler, ranges and shape; for worker threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from esrgan_ext.inference.arrays import Layout
from esrgan_ext.inference.denoising import channel_strengths
from esrgan_ext.inference.ranges import RobustRange
from esrgan_ext.weights.catalogue import FOLLOWS_NOISE
from napari_esrgan._work.kernels import have_kernels
from napari_esrgan._work.messages import Cancelled, Progress, Report, Status, stop_if
from napari_esrgan._work.ranges import data_range
from napari_esrgan._work.request import Mix, UpscaleRequest, denoising

if TYPE_CHECKING:
    from esrgan_ext import Upscaler
    from esrgan_ext.models import SRNetwork


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


def load_models(
    request: UpscaleRequest, report: Report, cancelled: Cancelled
) -> dict[str | Mix, SRNetwork]:
    """The networks of a request: of all its channels, or of the one on show."""
    models = [request.models[request.place(plane)] for plane in request.planes]
    return {model: load_model(model, report, cancelled) for model in dict.fromkeys(models)}


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
    upscaler = Upscaler(
        network,
        outscale=request.outscale,
        tile=request.tile if tile is None else tile,
        device=request.device,
        precision=request.precision,
        channel_axis=-1 if request.axes.rgb else False,
        consistent=request.consistent,
        denoise=None,  # decided once a layer by `denoised`, not once a plane
    )
    colours = request.strengths if request.axes.rgb else ()
    return upscaler.with_strengths(colours) if colours else upscaler


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


def denoised(request: UpscaleRequest, cancelled: Cancelled) -> UpscaleRequest:
    """A request whose model is mixed as the noise of its layer asks for, channel by channel.

    Parameters
    ----------
    request : UpscaleRequest
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
    shape = tuple(data.shape)
    colours = shape[-1] if axes.rgb else 1
    channel_axis = len(shape) - 1 if axes.rgb else axes.channel
    layout = Layout(shape, axes.y, axes.x, channel_axis, colours)
    strengths = channel_strengths(_Stoppable(data, cancelled), layout)
    if len(set(strengths)) > 1:
        return replace(request, strengths=tuple(strengths), denoise_auto=False)
    return replace(request, model=denoising(model, strengths[0]), denoise_auto=False)


class _Stoppable:
    """An array that is read until the work is cancelled."""

    def __init__(self, data: Any, cancelled: Cancelled) -> None:
        self._data, self._cancelled = data, cancelled

    def __getitem__(self, index: Any) -> np.ndarray:
        stop_if(self._cancelled)
        return np.asarray(self._data[index])


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
