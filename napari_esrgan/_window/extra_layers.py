"""Layers beside the result: how consistent it is with its source, and live ones.

The arithmetic is `_work`'s; here layers are looked up, checked and made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from esrgan_ext.errors import ImageError
from esrgan_ext.inference.tiles import Rect
from napari_esrgan._viewer import layers, notices
from napari_esrgan._viewer.preferences import Preferences
from napari_esrgan._window.layer_task import LayerTask, NewLayer
from napari_esrgan._work.axes import Axes, whole
from napari_esrgan._work.consistency import Consistency, compare
from napari_esrgan._work.labels import enlarge_labels
from napari_esrgan._work.live import LiveSource
from napari_esrgan._work.messages import Cancelled, Report
from napari_esrgan._work.prepare import channel_ranges, denoised, load_models, make_upscaler
from napari_esrgan._work.request import UpscaleRequest
from napari_esrgan._work.result import Result


def result_to_check(viewer: Any, unique_id: str | None = None) -> Any | None:
    """The active layer where it is a result of ours, else the layer of that id."""
    active = viewer.layers.selection.active
    if active is not None and layers.provenance(active) is not None:
        return active
    return layers.find_layer(viewer, unique_id)


@dataclass(frozen=True)
class _Made:
    """How a result was made: the source, and which part of it."""

    source: Any
    axes: Axes
    region: Rect
    plane: tuple[int, ...] | None


def _how_made(viewer: Any, result: Any) -> _Made | None:
    """A result's provenance; None, with the reason told, where it does not hold."""
    provenance = layers.provenance(result)
    if provenance is None or "sweep" in provenance:
        notices.show_error("select a layer that this plugin has upscaled")
        return None
    source = layers.find_layer(viewer, provenance["source_id"])
    if source is None:
        notices.show_error(f"the source {provenance['source']!r} is not in the viewer any more")
        return None
    p = provenance["parameters"]
    axes, region = Axes(tuple(p["axes"]), p["rgb"]), Rect(*p["region"])
    plane = None if p["plane"] is None else tuple(p["plane"])
    shape = layers.spatial_shape(source)
    if len(shape) != len(axes.roles) or region.clipped(shape[axes.y], shape[axes.x]) != region:
        notices.show_error(f"{source.name!r} has another shape than when it was upscaled")
        return None
    return _Made(source, axes, region, plane)


def start_consistency(task: LayerTask, viewer: Any, result: Any) -> None:
    """Compare a result layer with its source and add the difference; says why it cannot."""
    made = _how_made(viewer, result)
    if made is None:
        return
    source, axes, region, plane = made.source, made.axes, made.region, made.plane
    name = result.name
    source_data, result_data = layers.finest(source), layers.finest(result)

    def work(_report: Report, cancelled: Cancelled) -> Consistency:
        outcome = compare(source_data, result_data, axes, region, plane, cancelled)
        if np.isnan(outcome.rmse):
            raise ImageError("there is nothing to compare: every pixel is NaN")
        return outcome

    def build(outcome: Consistency) -> NewLayer:
        # Of an RGB layer the largest of the three: a colour of differences says nothing.
        difference = outcome.difference.max(-1) if axes.rgb else outcome.difference
        rmse, span = outcome.rmse, outcome.value_range
        share = rmse / span if span else 0.0
        arguments = {
            "name": f"{name} consistency (RMSE {rmse:.4g})",
            "colormap": "magma",
            "contrast_limits": (0, 4 * rmse or 1.0),
            "metadata": {layers.METADATA_KEY: {"rmse": rmse, "value_range": span}},
            **layers.placement(source, axes, region, difference.shape, plane),
        }
        note = f"consistency with the source: RMSE {rmse:.4g}, {share:.2%} of the source's range"
        return NewLayer(difference, arguments, note)

    task.start(source, work, build, "esrgan-consistency")


def start_labels(task: LayerTask, viewer: Any, result: Any, wanted: Preferences) -> None:
    """Enlarge the Labels layers that lie on a result's source to the result's grid.

    One layer each, one after the other; says why it cannot.
    """
    made = _how_made(viewer, result)
    if made is None or task.running:
        return
    found = layers.labels_on(viewer, made.source)
    if not found:
        notices.show_error(
            f"no Labels layer lies on {made.source.name!r}, with its shape, scale and place"
        )
        return
    size = tuple(layers.finest(result).shape[axis] for axis in (made.axes.y, made.axes.x))
    waiting = list(found)

    def go_on() -> None:
        if waiting:
            _start_one(task, made, waiting.pop(0), (size[0], size[1]), wanted)
        else:
            task.ended.disconnect(go_on)

    task.ended.connect(go_on)
    go_on()


def _start_one(
    task: LayerTask, made: _Made, source: Any, size: tuple[int, int], wanted: Preferences
) -> None:
    missing = len(made.axes.roles) - source.ndim
    axes = Axes(made.axes.roles[missing:])
    plane = made.plane
    if plane is not None:
        plane = plane[len(made.axes.outer) - len(axes.outer) :]
    data = layers.finest(source)

    def work(_report: Report, cancelled: Cancelled) -> Result:
        budget, folder = wanted.budget_bytes, wanted.folder
        return enlarge_labels(data, axes, made.region, plane, size, budget, folder, cancelled)

    def build(result: Result) -> NewLayer:
        place = layers.placement(source, axes, made.region, result.shape, plane)
        factor = max(result.shape[axes.y] / made.region.height, size[1] / made.region.width)
        about = {"source": source.name, "store": str(result.path) if result.path else None}
        arguments = {
            "name": f"{source.name} x{factor:.3g}",
            "colormap": source.colormap,
            "opacity": float(source.opacity),
            "metadata": {layers.METADATA_KEY: about},
            **place,
        }
        return NewLayer(result.levels, arguments, labels=True)

    task.start(source, work, build, "esrgan-labels")


def asynchronous() -> bool:
    """Whether napari slices layers beside the window's thread."""
    from napari.settings import get_settings

    return bool(get_settings().experimental.async_)


def start_live(task: LayerTask, layer: Any, request: UpscaleRequest, model_label: str) -> None:
    """Make a live layer of the whole of `layer`, at the model's own scale.

    It has two levels: an array whose chunks are computed by the network when napari asks for
    them, and the source. napari asks for the fine one only when zoomed in far enough, and then
    for the visible chunks.
    """
    if not asynchronous():
        notices.show_warning(
            "asynchronous slicing is off, so the window will stand still while a live layer "
            "is computed. Turn on Preferences > Experimental > Render images asynchronously."
        )
    request = replace(
        request,
        outscale=None,
        tile="auto",
        consistent=False,
        region=whole(request.axes, request.data.shape),
    )

    def work(report: Report, cancelled: Cancelled) -> LiveSource:
        ranges = channel_ranges(request, cancelled)
        settled = denoised(request, cancelled)
        networks = load_models(settled, report, cancelled)
        upscalers = [
            make_upscaler(request, networks[model], report, cancelled) for model in settled.models
        ]
        # Raises here, in words, what would otherwise fail chunk after chunk.
        upscalers[0].plan(request.plane_shape, np.dtype(request.data.dtype))
        return LiveSource(request.data, request.axes, upscalers, ranges, notices.tell)

    def build(live: LiveSource) -> NewLayer:
        fine = live.array()
        arguments = {
            "name": f"{layer.name} live [{model_label}]",
            **layers.appearance(layer),
            **layers.placement(layer, request.axes, request.region, fine.shape),
        }
        return NewLayer([fine, request.data], arguments)

    task.start(layer, work, build, "esrgan-live")
