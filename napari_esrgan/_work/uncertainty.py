"""How far the network's results for a plane, flipped and turned, lie apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_esrgan._work.messages import Cancelled, LayerOutcome, Progress, Report, Status
from napari_esrgan._work.prepare import (
    channel_ranges,
    denoised,
    load_model,
    make_upscaler,
    output_shape,
)
from napari_esrgan._work.request import UpscaleRequest
from napari_esrgan._work.result import MemoryResult


def run_uncertainty(request: UpscaleRequest, report: Report, cancelled: Cancelled) -> LayerOutcome:
    """The spread over the 8 flips and rotations, of the plane on show.

    Parameters
    ----------
    request : UpscaleRequest
    report, cancelled : callable
        As for `run_upscale`.

    Returns
    -------
    LayerOutcome
        Its result is float32, in the layer's units: the standard deviation at each pixel, of RGB
        the largest of the three. The axes of the layer, those that are not space of length 1.

    Raises
    ------
    UpscaleCancelled
    EsrganError, MemoryError
    """
    from esrgan_ext.inference.model_cache import inference

    request = replace(request, only_shown=True)
    axes, region = request.axes, request.region
    report(Status("Reading the layer…"))
    ranges = channel_ranges(request, cancelled)
    request = denoised(request, cancelled)
    model = request.models[request.place(request.shown)]
    network = load_model(model, report, cancelled)
    upscaler = make_upscaler(request, network, report, cancelled)
    shape = output_shape(request, upscaler)[: len(axes.roles)]
    result = MemoryResult(shape, np.dtype(np.float32), axes.y, axes.x)
    pixels = axes.read(request.data, request.shown, region)

    def progress(done: int, total: int) -> bool:
        report(Progress(done, total, text="Flipping, turning and upscaling", tiles=1))
        return not cancelled()

    with inference(upscaler.device.device, cancelled):
        _, spread = upscaler(
            pixels,
            data_range=ranges[axes.channel_of(request.shown)],
            progress=progress,
            return_std=True,
        )
    if axes.rgb:
        spread = spread.max(-1)
    result.array[:] = np.expand_dims(axes.turned(spread), axes.outer)
    about = {"of": "standard deviation over the 8 flips and rotations", "model": str(model)}
    return LayerOutcome(result, {"uncertainty": about})
