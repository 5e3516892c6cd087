"""What the axes of a layer are taken for."""

from __future__ import annotations

import pytest

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work.axes import Axes, axis_name, doubtful_axis, guess_axes, whole


@pytest.mark.parametrize(
    ("shape", "rgb", "labels", "roles"),
    [
        ((256, 256), False, (), "y x"),
        ((5, 256, 256), False, (), "plane y x"),
        ((3, 395, 695), False, (), "channel y x"),
        ((41, 150, 150), False, ("-3", "-2", "-1"), "plane y x"),
        ((3, 64, 64), False, ("t", "y", "x"), "plane y x"),
        ((12, 64, 64), False, ("c", "y", "x"), "channel y x"),
        ((64, 48, 20), False, ("y", "x", "z"), "y x plane"),
        ((10, 2, 64, 64), False, (), "plane channel y x"),
        ((2, 3, 64, 64), False, ("t", "c", "y", "x"), "plane channel y x"),
        ((3, 64, 64), True, (), "plane y x"),
        ((64, 48, 3), False, ("-3", "-2", "-1"), "y x channel"),
        ((5, 64, 48, 2), False, (), "plane y x channel"),
        ((64, 48, 4), False, ("a", "b", "z"), "plane y x"),
        ((3, 3, 3), False, (), "channel y x"),
    ],
)
def test_guess(shape, rgb, labels, roles):
    assert guess_axes(shape, rgb, labels) == Axes(tuple(roles.split()), rgb)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="one axis must be y"):
        Axes(("y", "y"))
    with pytest.raises(ValueError, match="at most one"):
        Axes(("channel", "channel", "y", "x"))


def test_planes_channels_and_indices():
    axes = Axes(("x", "channel", "y", "plane"))
    shape = (7, 2, 5, 3)
    assert axes.outer == (1, 3)
    assert len(axes.planes(shape)) == 6
    assert axes.transposed
    assert {axes.channel_of(plane) for plane in axes.planes(shape)} == {0, 1}
    assert axes.index((1, 2), slice(0, 4), slice(2, 3)) == (slice(2, 3), 1, slice(0, 4), 2)
    assert whole(axes, shape) == Rect(0, 5, 0, 7)


def test_regions_are_clipped():
    assert Rect(-5, 10, 3, 99).clipped(8, 20) == Rect(0, 8, 3, 20)
    assert Rect(8, 10, 0, 5).clipped(8, 20) is None


@pytest.mark.parametrize(
    ("label", "role", "name"),
    [("z", "plane", "z"), ("-3", "plane", "axis 0"), ("-2", "y", "y"), ("", "x", "x")],
)
def test_axes_have_names(label, role, name):
    assert axis_name(0, role, label) == name


@pytest.mark.parametrize(
    ("shape", "rgb", "labels", "axis"),
    [
        ((3, 64, 64), False, ("-3", "-2", "-1"), 0),
        ((64, 48, 3), False, (), 2),
        ((10, 2, 64, 64), False, (), 1),
        ((3, 64, 64), False, ("c", "y", "x"), None),
        ((3, 64, 64), False, ("z", "y", "x"), None),
        ((5, 64, 64), False, (), None),
        ((3, 64, 64), True, (), None),
        ((64, 64), False, (), None),
    ],
)
def test_what_only_the_user_can_say(shape, rgb, labels, axis):
    assert doubtful_axis(shape, rgb, labels) == axis
