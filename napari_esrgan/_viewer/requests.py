"""Requests for a layer as the viewer shows it now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from napari_esrgan._viewer import layers
from napari_esrgan._viewer.preferences import Preferences
from napari_esrgan._work.ranges import RangeChoice, default_kind, is_lazy
from napari_esrgan._work.request import UpscaleRequest


def contrast_limits(layer: Any) -> tuple[float, float]:
    low, high = layer.contrast_limits
    return float(low), float(high)


def default_request(viewer: Any, layer: Any, wanted: Preferences) -> UpscaleRequest:
    """The default request: the whole layer, axes and range guessed."""
    data, axes = layers.finest(layer), layers.guessed_axes(layer)
    kind = default_kind(np.dtype(data.dtype), is_lazy(data))
    request = UpscaleRequest(
        data=data,
        axes=axes,
        region=layers.whole_region(layer, axes),
        model=wanted.first_model,
        outscale=None,
        denoise_auto=True,
        value_range=RangeChoice(kind, contrast_limits(layer) if kind == "limits" else None),
        device=wanted.device,
        budget_bytes=wanted.budget_bytes,
        folder=wanted.folder,
        fill_in_seconds=wanted.fill_in_seconds,
    )
    return current_request(viewer, layer, request)


def current_request(viewer: Any, layer: Any, request: UpscaleRequest) -> UpscaleRequest:
    """A request with the plane and centre that the viewer shows now."""
    axes = request.axes
    return replace(
        request,
        shown=layers.shown_plane(viewer, layer, axes),
        centre=layers.centre_of_view(viewer, layer, axes),
    )
