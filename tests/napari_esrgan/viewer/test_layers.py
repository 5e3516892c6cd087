"""Results lie exactly on their source, whatever the transform; regions are what is meant."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Shapes

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._viewer import layers
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.result import MemoryResult
from napari_esrgan._work.upscale import run_upscale
from tests.napari_esrgan.conftest import transforms

KINDS = ["plain", "rotate", "shear", "affine", "all"]
FILES = {
    "membrane2d.tif": 1,
    "membrane_2d_timelapse.tif": 5,
    "Bead_Image1_crop.tif": 41,
    "IXMtest_A02_s9.tif": 3,
    "psf.tif": 41,
    "img3d.tif": 31,
}


def corners(axes: Axes, shape, region: Rect | None = None) -> np.ndarray:
    """The outer corners of the planes of an array, or of a region of it, in data coordinates."""
    region = region or Rect(0, shape[axes.y], 0, shape[axes.x])
    ranges = [(0, shape[k] - 1) for k in range(len(axes.roles))]
    ranges[axes.y] = (region.y0 - 0.5, region.y1 - 0.5)
    ranges[axes.x] = (region.x0 - 0.5, region.x1 - 0.5)
    return np.array(list(itertools.product(*ranges)))


def world(layer, points) -> np.ndarray:
    return np.array([layer.data_to_world(point) for point in points])


def assert_in_register(source, result, axes, region=None, source_shape=None) -> None:
    shape = source_shape or source.data.shape
    here = world(source, corners(axes, shape, region))
    there = world(result, corners(axes, result.data.shape))
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-9)


@pytest.mark.parametrize("outscale", [1.5, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_every_file_lies_on_its_source(microscopy, make_request, name, kind, outscale):
    """Through the job: shape, dtype, range; a crop, since only geometry is in question here."""
    full = microscopy(name)
    crop = full[..., :19, :23]
    data = np.ascontiguousarray(crop if crop.ndim == 2 else crop[:3])
    source = Image(data, **transforms(kind, data.ndim))
    axes = layers.guess_axes(full.shape, False)
    outcome = run_upscale(
        make_request(data, axes=axes, outscale=outscale), lambda _: None, lambda: False
    )
    array = outcome.result.levels
    place = layers.placement(source, axes, make_request(data, axes=axes).region, array.shape)
    result = Image(array, **place)
    assert array.shape == (*data.shape[:-2], round(19 * outscale), round(23 * outscale))
    assert array.dtype == full.dtype
    assert_in_register(source, result, axes)
    assert result.units == source.units
    assert result.axis_labels == source.axis_labels
    np.testing.assert_allclose(result.rotate, source.rotate, atol=1e-12)
    np.testing.assert_allclose(result.shear, source.shear, atol=1e-12)
    if data.dtype.kind == "f":
        assert np.isnan(array).all()  # psf.tif is NaN throughout
    else:
        # The network overshoots a little; a result that is not mapped back is far off.
        span = float(data.max()) - float(data.min())
        assert array.min() >= data.min() - 0.5 * span
        assert array.max() <= data.max() + 0.5 * span


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_whole_files_lie_on_their_source(microscopy, name, kind):
    """At full size, by geometry alone."""
    data = microscopy(name)
    source = Image(data, **transforms(kind, data.ndim))
    axes = layers.guessed_axes(source)
    for outscale in (1.5, 2, 3, 4):
        shape = (*data.shape[:-2], *(round(n * outscale) for n in data.shape[-2:]))
        placed = layers.placement(source, axes, layers.whole_region(source, axes), shape)
        assert_in_register(source, Image(np.broadcast_to(np.uint8(0), shape), **placed), axes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_lies_where_it_was_cut(kind):
    source = Image(np.zeros((3, 40, 50), np.uint8), **transforms(kind, 3))
    axes, region = Axes(("plane", "y", "x")), Rect(7, 20, 11, 48)
    shape = (3, 20, 56)  # not the same factor along both axes
    result = Image(np.zeros(shape, np.uint8), **layers.placement(source, axes, region, shape))
    assert_in_register(source, result, axes, region)


@pytest.mark.parametrize("kind", KINDS)
def test_space_may_be_any_axes(kind):
    source = Image(np.zeros((20, 4, 30), np.uint8), **transforms(kind, 3))
    axes = Axes(("x", "plane", "y"))
    shape = (80, 4, 120)
    placed = layers.placement(source, axes, layers.whole_region(source, axes), shape)
    assert_in_register(source, Image(np.zeros(shape, np.uint8), **placed), axes)


def test_one_plane_of_a_stack_stays_at_its_place():
    source = Image(np.zeros((9, 20, 30), np.uint8), **transforms("all", 3))
    axes = Axes(("plane", "y", "x"))
    placed = layers.placement(
        source, axes, layers.whole_region(source, axes), (1, 80, 120), plane=(6,)
    )
    result = Image(np.zeros((1, 80, 120), np.uint8), **placed)
    here = source.data_to_world((6, -0.5, 29.5))
    np.testing.assert_allclose(result.data_to_world((0, -0.5, 119.5)), here, atol=1e-9)


def test_offset_is_three_eighths_at_four():
    source = Image(np.zeros((8, 8)))
    placed = layers.placement(source, Axes(("y", "x")), Rect(0, 8, 0, 8), (32, 32))
    np.testing.assert_allclose(placed["translate"], [-0.375, -0.375])


def test_multiscale_sources_use_their_finest_level():
    fine = np.zeros((64, 48), np.uint16)
    layer = Image([fine, fine[::2, ::2]], multiscale=True)
    assert layers.finest(layer) is fine
    assert layers.spatial_shape(layer) == (64, 48)


def test_rectangle_covers_the_pixels_whose_centres_it_covers():
    layer = Image(np.zeros((40, 50)), scale=(2, 2), translate=(10, 20))
    axes = Axes(("y", "x"))
    # In data coordinates rows 4.6 to 9.4 and columns 9.5 to 30.2.
    box = np.array([[4.6, 9.5], [4.6, 30.2], [9.4, 30.2], [9.4, 9.5]]) * 2 + [10, 20]
    shapes = Shapes([box], name="roi")
    assert layers.rectangle_region(shapes, layer, axes) == Rect(5, 10, 10, 31)


def test_rectangles_without_pixels_say_why():
    layer, axes = Image(np.zeros((40, 50)), name="cells"), Axes(("y", "x"))
    with pytest.raises(layers.RegionError, match="draw a rectangle"):
        layers.rectangle_region(Shapes(name="roi"), layer, axes)
    far = Shapes([np.array([[100, 100], [100, 120], [120, 120], [120, 100]])])
    with pytest.raises(layers.RegionError, match="no pixels of 'cells'"):
        layers.rectangle_region(far, layer, axes)


def test_a_flat_shapes_layer_cuts_a_stack():
    layer = Image(np.zeros((5, 40, 50)))
    shapes = Shapes([np.array([[4, 5], [4, 14], [13, 14], [13, 5]])])
    region = layers.rectangle_region(shapes, layer, Axes(("plane", "y", "x")))
    assert region == Rect(4, 14, 5, 15)


def test_the_current_view_needs_the_plane_on_show():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((5, 40, 50)))
    layer.corner_pixels = np.array([[0, 3, 4], [4, 20, 30]])
    axes = Axes(("plane", "y", "x"))
    assert layers.view_region(viewer, layer, axes) == Rect(3, 21, 4, 31)
    with pytest.raises(layers.RegionError, match="current view"):
        layers.view_region(viewer, layer, Axes(("y", "plane", "x")))


def test_the_shown_plane_follows_the_sliders():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((5, 40, 50)), scale=(10, 1, 1))
    viewer.dims.set_point(0, 30)
    assert layers.shown_plane(viewer, layer, Axes(("plane", "y", "x"))) == (3,)


def test_large_results_are_pyramids_of_one_memory():
    result = MemoryResult((4097, 8), np.dtype(np.uint8), 0, 1)
    levels = result.levels
    assert [level.shape[0] for level in levels][:3] == [4097, 2049, 1025]
    result.array[0, 0] = 200
    assert all(level[0, 0] == 200 for level in levels)
