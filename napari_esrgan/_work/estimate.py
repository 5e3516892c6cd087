"""Time and memory of a run, before it starts. For worker threads: it may load or measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esrgan_ext.weights.catalogue import FOLLOWS_NOISE
from napari_esrgan._work import models
from napari_esrgan._work.messages import Cancelled, Report
from napari_esrgan._work.prepare import denoised, make_upscaler, output_shape
from napari_esrgan._work.request import Mix, UpscaleRequest


@dataclass(frozen=True)
class Estimate:
    """Time and memory that a run would take.

    Attributes
    ----------
    output_shape : tuple of int
    output_bytes, work_bytes : int
    seconds : float
    device : str
        Its name.
    download_bytes : int or None
        Bytes to download first; 0 where all is there, None where it is unknown.
    model : str or Mix
        The request's, mixed as the noise asks for where that was left to it.
    strengths : tuple of float
        Strengths of denoising from 0 to 1, where the channels ask for different ones; `model` is
        then the request's.
    on_disk : bool
        Whether the result is larger than the memory budget.
    """

    output_shape: tuple[int, ...]
    output_bytes: int
    work_bytes: int
    seconds: float
    device: str
    download_bytes: int | None
    on_disk: bool
    model: str | Mix
    strengths: tuple[float, ...]


def estimate(request: UpscaleRequest, report: Report, cancelled: Cancelled) -> Estimate:
    """Time and memory of a run, without running or downloading anything.

    Parameters
    ----------
    request : UpscaleRequest
    report : callable
        Gets a `Status` where the kernels must be compiled first.
    cancelled : callable
        Asked while they are.

    Raises
    ------
    UpscaleCancelled
        After `cancelled` said so.
    EsrganError
        If the run could not even begin (an unknown model, a channel count it does not take).
    """
    from esrgan_ext.inference import model_cache
    from esrgan_ext.weights import find_model

    if request.denoise_auto and request.model in FOLLOWS_NOISE:
        request = denoised(request, cancelled)
    names = list(
        dict.fromkeys(
            name
            for model in request.models
            for name in ([model.a, model.b] if isinstance(model, Mix) else [model])
        )
    )
    infos = [find_model(name) for name in names]
    absent = [info for info in infos if info.path is None]
    sizes = [info.size_bytes for info in absent]
    network = models.stand_in(infos[0]) if absent else model_cache.load(names[0])
    upscaler = make_upscaler(request, network, report, cancelled)
    plan = upscaler.plan(request.plane_shape, np.dtype(request.data.dtype))
    planes = len(request.planes)
    output_bytes = plan.output_bytes * planes
    return Estimate(
        output_shape=output_shape(request, upscaler),
        output_bytes=output_bytes,
        work_bytes=plan.work_bytes,
        seconds=planes * plan.macs / models.speed(upscaler.device),
        device=upscaler.device.name,
        download_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        on_disk=output_bytes > request.budget_bytes,
        model=request.model,
        strengths=request.strengths,
    )
