"""From napari layers to arrays and regions, and back to the arguments of a layer in register.

Uses layers and viewers through their public attributes; no Qt, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work.axes import Axes, guess_axes, whole
from napari_esrgan._work.axes import doubtful_axis as axes_in_doubt

# Every layer that the plugin makes has this in its metadata: results say what made them.
METADATA_KEY = "esrgan"


class RegionError(ValueError):
    """A region that has no pixels of the layer; the message says why."""


def provenance(layer: Any) -> dict[str, Any] | None:
    """Provenance of a layer that is a finished result of this plugin."""
    found = layer.metadata.get(METADATA_KEY, {})
    return found if "parameters" in found else None


def finest(layer: Any) -> Any:
    """The array of a layer; of a multiscale layer its finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def is_image(layer: Any) -> bool:
    from napari.layers import Image

    return isinstance(layer, Image)


def doubtful_axis(layer: Any) -> int | None:
    """The axis of a layer that may be channels or planes; only the user can say."""
    return axes_in_doubt(spatial_shape(layer), bool(layer.rgb), tuple(layer.axis_labels))


def labels_on(viewer: Any, layer: Any) -> list[Any]:
    """The Labels layers that lie on an image layer: pixel on pixel, over all of their axes.

    They may lack the first axes of the image (channels, time), as napari aligns the last ones.
    """
    from napari.layers import Labels

    shape = spatial_shape(layer)
    found = []
    for other in viewer.layers:
        missing = len(shape) - other.ndim
        if not isinstance(other, Labels) or missing < 0 or finest(other).shape != shape[missing:]:
            continue
        corners = np.array([np.zeros(other.ndim), *np.diag(np.asarray(finest(other).shape, float))])
        wide = np.pad(corners, ((0, 0), (missing, 0)))
        here = np.array([other.data_to_world(corner) for corner in corners], float)
        there = np.array([layer.data_to_world(corner) for corner in wide], float)[:, missing:]
        # A thousandth of a pixel is the same place.
        lengths = np.linalg.norm(here[1:] - here[0], axis=1)
        pixel = (lengths / np.maximum(finest(other).shape, 1)).min()
        if np.abs(here - there).max() <= 1e-3 * pixel:
            found.append(other)
    return found


def spatial_shape(layer: Any) -> tuple[int, ...]:
    """The array's shape without the colour axis."""
    return tuple(int(n) for n in finest(layer).shape[: layer.ndim])


def guessed_axes(layer: Any) -> Axes:
    return guess_axes(spatial_shape(layer), bool(layer.rgb), tuple(layer.axis_labels))


def pixel_sides(layer: Any, axes: Axes) -> tuple[tuple[float, float], tuple[str, str]]:
    """The sides of a layer's pixels in the world along y and x, and their units."""
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), float)
    sides = []
    for axis in (axes.y, axes.x):
        step = np.eye(layer.ndim)[axis]
        sides.append(float(np.linalg.norm(np.asarray(layer.data_to_world(step)) - origin)))
    return (sides[0], sides[1]), (str(layer.units[axes.y]), str(layer.units[axes.x]))


def shown_plane(viewer: Any, layer: Any, axes: Axes) -> tuple[int, ...]:
    """The index along `axes.outer` of the plane that the sliders show."""
    shape = spatial_shape(layer)
    point = _to_data(layer, np.asarray(viewer.dims.point, float))
    return tuple(int(np.clip(round(point[k]), 0, shape[k] - 1)) for k in axes.outer)


def view_region(viewer: Any, layer: Any, axes: Axes) -> Rect:
    """The part of a layer that the canvas shows.

    Raises
    ------
    RegionError
        If it is in 3D, shows other axes than y and x, or nothing of the layer.
    """
    displayed = [k - (viewer.dims.ndim - layer.ndim) for k in viewer.dims.displayed]
    if len(displayed) != 2 or set(displayed) != {axes.y, axes.x}:
        raise RegionError(
            "the current view does not show the layer's y and x axes in 2D: switch the view, or "
            "choose another region"
        )
    corners = np.asarray(layer.corner_pixels, float)
    factors = np.ones(layer.ndim)
    if layer.multiscale:
        factors = np.asarray(layer.downsample_factors)[layer.data_level][: layer.ndim]
    low = np.floor(corners[0] * factors).astype(int)
    high = np.ceil((corners[1] + 1) * factors).astype(int)
    return _inside(Rect(low[axes.y], high[axes.y], low[axes.x], high[axes.x]), layer, axes)


def centre_of_view(viewer: Any, layer: Any, axes: Axes) -> tuple[float, float]:
    """Row and column of the layer at the middle of the canvas."""
    world = np.asarray(viewer.dims.point, float).copy()
    displayed = list(viewer.dims.displayed)
    centre = np.asarray(viewer.scene.camera.center, float)[-len(displayed) :]
    world[displayed] = centre
    point = _to_data(layer, world)
    return float(point[axes.y]), float(point[axes.x])


def rectangle_region(shapes: Any, layer: Any, axes: Axes) -> Rect:
    """The bounding box of the selected shape (else the last one) of a Shapes layer.

    Raises
    ------
    RegionError
        If there is no shape, or it lies outside the layer.
    """
    if not len(shapes.data):
        raise RegionError(f"draw a rectangle in {shapes.name!r} first")
    number = min(shapes.selected_data) if shapes.selected_data else len(shapes.data) - 1
    corners = np.array(
        [
            _to_data(layer, np.asarray(shapes.data_to_world(vertex), float))
            for vertex in np.asarray(shapes.data[number])
        ]
    )
    # A pixel reaches half a pixel to either side of its centre, which is at an integer; it
    # belongs to the region where the rectangle covers its centre.
    low = np.ceil(corners.min(0) - 1e-6).astype(int)
    high = np.floor(corners.max(0) + 1e-6).astype(int) + 1
    return _inside(Rect(low[axes.y], high[axes.y], low[axes.x], high[axes.x]), layer, axes)


def _inside(region: Rect, layer: Any, axes: Axes) -> Rect:
    shape = spatial_shape(layer)
    clipped = region.clipped(shape[axes.y], shape[axes.x])
    if clipped is None:
        raise RegionError(f"the region has no pixels of {layer.name!r}")
    return Rect(*(int(v) for v in (clipped.y0, clipped.y1, clipped.x0, clipped.x1)))


def _to_data(layer: Any, world: np.ndarray) -> np.ndarray:
    """World coordinates to the layer's; layers of fewer axes share the last ones."""
    if len(world) < layer.ndim:
        world = np.concatenate([np.zeros(layer.ndim - len(world)), world])
    return np.asarray(layer.world_to_data(world[-layer.ndim :]), float)


def placement(
    layer: Any,
    axes: Axes,
    region: Rect,
    out_shape: Sequence[int],
    plane: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Where a result belongs so that it lies on its source.

    With s = out pixels / in pixels along an axis, result pixel u has its centre at source
    coordinate (u + 1/2) / s - 1/2 + start: the scale is divided by s, and the rest is a
    translation in data space, taken through the layer's linear transform.

    Parameters
    ----------
    layer : napari Image layer
    axes : Axes
    region : Rect
        The part of the source that was upscaled.
    out_shape : sequence of int
        Shape of the result (a colour axis at the end does not matter).
    plane : tuple of int, optional
        Where the result holds one plane of a stack only: which, along `axes.outer`.

    Returns
    -------
    dict
        scale, translate, rotate, shear, affine, units and axis_labels for a new layer.
    """
    from napari.utils.transforms import Affine

    ratio, offset = np.ones(layer.ndim), np.zeros(layer.ndim)
    for axis, start, length in (
        (axes.y, region.y0, region.height),
        (axes.x, region.x0, region.width),
    ):
        ratio[axis] = out_shape[axis] / length
        offset[axis] = (1 / ratio[axis] - 1) / 2 + start
    if plane is not None:
        offset[list(axes.outer)] = plane
    scale = np.asarray(layer.scale, float)
    rotate, shear = np.asarray(layer.rotate), np.asarray(layer.shear)
    linear = Affine(scale=scale, rotate=rotate, shear=shear).linear_matrix
    return {
        "scale": scale / ratio,
        "translate": np.asarray(layer.translate, float) + linear @ offset,
        "rotate": rotate,
        "shear": shear,
        "affine": np.asarray(layer.affine.affine_matrix).copy(),
        "units": tuple(layer.units),
        "axis_labels": tuple(layer.axis_labels),
    }


def with_alpha(place: dict[str, Any], steps: int) -> dict[str, Any]:
    """A placement with a further first axis that runs from 0 to 1 in so many steps.

    The slider of that axis then shows alpha itself.
    """
    ndim = len(place["scale"])
    rotate, affine = np.eye(ndim + 1), np.eye(ndim + 2)
    rotate[1:, 1:], affine[1:, 1:] = place["rotate"], place["affine"]
    # The shear is the upper triangle of a matrix, row by row: the new axis' row comes first.
    shear = np.concatenate([np.zeros(ndim), np.asarray(place["shear"], float)])
    return {
        "scale": [1 / (steps - 1), *place["scale"]],
        "translate": [0.0, *place["translate"]],
        "rotate": rotate,
        "shear": shear,
        "affine": affine,
        "units": ("pixel", *place["units"]),
        "axis_labels": ("alpha", *place["axis_labels"]),
    }


def appearance(layer: Any) -> dict[str, Any]:
    """How a layer looks, as arguments of another."""
    look = {
        "rgb": bool(layer.rgb),
        "gamma": float(layer.gamma),
        "blending": str(layer.blending),
        "opacity": float(layer.opacity),
        "interpolation2d": str(layer.interpolation2d),
    }
    if not layer.rgb:
        look["colormap"] = layer.colormap
        look["contrast_limits"] = tuple(float(v) for v in layer.contrast_limits)
    return look


def result_name(name: str, shape: Sequence[int], region: Rect, axes: Axes, model: str) -> str:
    """``<name> x4 [model]``."""
    factor = max(shape[axes.y] / region.height, shape[axes.x] / region.width)
    return f"{name} x{factor:.3g} [{model}]"


def find_layer(viewer: Any, unique_id: str | None) -> Any | None:
    """The layer of that `unique_id`, if it is (still) there."""
    return next((layer for layer in viewer.layers if str(layer.unique_id) == unique_id), None)


def whole_region(layer: Any, axes: Axes) -> Rect:
    return whole(axes, spatial_shape(layer))
