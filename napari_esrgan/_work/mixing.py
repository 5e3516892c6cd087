"""Two models, what is between them, and previews of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from esrgan_ext.inference.tiles import Rect, window
from napari_esrgan._work import models
from napari_esrgan._work.messages import Cancelled, Report, stop_if
from napari_esrgan._work.prepare import channel_ranges, load_model, make_upscaler
from napari_esrgan._work.request import Mix, UpscaleRequest

if TYPE_CHECKING:
    from esrgan_ext.weights import InterpolatedModel, ModelInfo

# A preview answers within a second; mixing the weights and showing the layer take their part.
PREVIEW_SECONDS = 0.7
SMALLEST_PREVIEW = 24
# Cut off again: at the border of what it sees, a network draws a frame.
PREVIEW_MARGIN = 4


def unfit(a: ModelInfo, b: ModelInfo) -> str | None:
    """Why two models cannot be mixed, as far as their descriptions say; None if they can."""
    for what, of_a, of_b in (
        ("scale", f"x{a.scale}", f"x{b.scale}"),
        ("blocks", a.blocks, b.blocks),
        ("channels", a.in_channels, b.in_channels),
    ):
        if of_a != of_b:
            return f"They cannot be mixed: {what} {of_a} in {a.name}, {of_b} in {b.name}."
    return None


class Mixer:
    """Two loaded models and the mix of them; used by one thread at a time.

    The weights stay in memory between two moves of a slider, and so does the upscaler where the
    network runs in place.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: tuple[str, str] | None = None
        self._model: InterpolatedModel | None = None
        self._ranges: dict[Any, list[Any]] = {}
        self._pixels = 0.0

    def network(self, mix: Mix, report: Report, cancelled: Cancelled) -> Any:
        """The network at `mix.alpha`, valid until the next call.

        Raises
        ------
        ArchitectureMismatch
            With the first tensor that differs.
        """
        import torch

        from esrgan_ext.inference.model_cache import inference
        from esrgan_ext.weights import InterpolatedModel

        with self._lock:
            if self._model is None or self._names != (mix.a, mix.b):
                a, b = (load_model(name, report, cancelled) for name in (mix.a, mix.b))
                self._model = InterpolatedModel(a, b, mix.alpha)
                self._names = (mix.a, mix.b)
            elif self._model.alpha != mix.alpha:
                with inference(torch.device("cpu"), cancelled):
                    self._model.set_alpha(mix.alpha)
            return self._model.network

    def ranges(self, request: UpscaleRequest, cancelled: Cancelled) -> list[Any]:
        """As `channel_ranges`, remembered for the last layer: a slider asks again and again."""
        key = (id(request.data), request.axes, request.value_range)
        if key not in self._ranges:
            self._ranges = {key: channel_ranges(request, cancelled)}
        return self._ranges[key]

    def steady_pixels(self, pixels: float) -> float:
        """A preview's size, that of the last one unless the machine has become another.

        A square that breathes with every measurement is worse than one a little slow.
        """
        if not self._pixels / 2 < pixels < self._pixels * 2:
            self._pixels = pixels
        return self._pixels

    def forget(self) -> None:
        """Let go of the weights."""
        with self._lock:
            self._model = self._names = None
            self._ranges = {}


def preview_region(
    region: Rect, centre: tuple[float, float], pixels: float, smallest: int = SMALLEST_PREVIEW
) -> Rect:
    """A square of so many pixels around a point, as much of a region as fits into it."""
    side = max(int(max(pixels, 0) ** 0.5), smallest)

    def span(low: int, high: int, middle: float) -> tuple[int, int]:
        length = min(side, high - low)
        start = int(np.clip(round(middle - length / 2), low, high - length))
        return start, start + length

    return Rect(*span(region.y0, region.y1, centre[0]), *span(region.x0, region.x1, centre[1]))


def preview(
    request: UpscaleRequest, mixer: Mixer, report: Report, cancelled: Cancelled
) -> tuple[np.ndarray, UpscaleRequest]:
    """The plane on show, in a region bounded by what the device does in a second.

    Parameters
    ----------
    request : UpscaleRequest
        Its model is a `Mix`; its region is reduced.

    Returns
    -------
    array : ndarray
        The axes of the layer, those that are not space of length 1.
    request : UpscaleRequest
        With the region that was used.
    """
    from esrgan_ext.inference.model_cache import inference

    assert isinstance(request.model, Mix)
    network = mixer.network(request.model, report, cancelled)
    request = replace(request, only_shown=True, tile="auto")
    upscaler = make_upscaler(request, network, report, cancelled)
    ranges = mixer.ranges(request, cancelled)
    # All channels of an image cost the same again and again: ask the plan, not a constant.
    probe = (64, 64, *request.plane_shape[2:])
    macs_per_pixel = upscaler.plan(probe, np.dtype(request.data.dtype)).macs / 64**2
    pixels = mixer.steady_pixels(PREVIEW_SECONDS * models.speed(upscaler.device) / macs_per_pixel)
    request = replace(request, region=preview_region(request.region, request.centre, pixels))
    axes, region = request.axes, request.region
    values = ranges[axes.channel_of(request.shown)]
    height, width = request.data.shape[axes.y], request.data.shape[axes.x]
    source_window = window(region, PREVIEW_MARGIN, height, width)
    source = axes.read(request.data, request.shown, source_window)
    with inference(upscaler.device.device, cancelled):
        begin = time.perf_counter()
        out = upscaler(
            source,
            data_range=values,
            region=region.shifted(-source_window.y0, -source_window.x0),
            progress=lambda *_: not cancelled(),
        )
        taken = time.perf_counter() - begin
    models.learn_speed(upscaler, source_window.pixels * macs_per_pixel, taken)
    return np.expand_dims(axes.turned(out), axes.outer), request


def save_mix(mix: Mix, path: Path, report: Report, cancelled: Callable[[], bool]) -> Path:
    """Write the mixed network as a `.safetensors` or `.pth` file."""
    from esrgan_ext.weights import save_model

    network = load_model(mix, report, cancelled)
    stop_if(cancelled)
    return save_model(network, path)
