"""Which axes of a layer are space, channels and planes, and how planes are read by them.

Knows neither napari nor networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from esrgan_ext.inference.tiles import Rect

Role = Literal["y", "x", "channel", "plane"]
ROLES: tuple[Role, ...] = ("y", "x", "channel", "plane")

# An unlabelled axis this short is more often colours of a microscope than time or depth.
MOST_CHANNELS = 4

_CHANNEL_LABELS = {"c", "ch", "chan", "channel", "channels", "lambda", "wavelength"}
_PLANE_LABELS = {"t", "z", "time", "depth", "plane", "slice", "frame", "scene", "position", "alpha"}


@dataclass(frozen=True)
class Axes:
    """The meaning of each axis of a layer.

    Attributes
    ----------
    roles : tuple of {'y', 'x', 'channel', 'plane'}
        One for each axis; the colour axis of an RGB layer, always the last of its array, is
        not counted.
    rgb : bool
        Whether the array has that further axis.
    """

    roles: tuple[Role, ...]
    rgb: bool = False

    def __post_init__(self) -> None:
        unknown = set(self.roles) - set(ROLES)
        if unknown:
            raise ValueError(f"no axis can be {sorted(unknown)[0]!r}: only {', '.join(ROLES)}")
        if self.roles.count("y") != 1 or self.roles.count("x") != 1:
            raise ValueError("exactly one axis must be y and one x")
        if self.roles.count("channel") > 1:
            raise ValueError("at most one axis can be channels")

    @property
    def y(self) -> int:
        return self.roles.index("y")

    @property
    def x(self) -> int:
        return self.roles.index("x")

    @property
    def channel(self) -> int | None:
        return self.roles.index("channel") if "channel" in self.roles else None

    @property
    def outer(self) -> tuple[int, ...]:
        """The axes that are not space, in order."""
        return tuple(k for k, role in enumerate(self.roles) if role not in ("y", "x"))

    def planes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The index of every plane along `outer`, in C order."""
        return list(itertools.product(*(range(shape[k]) for k in self.outer)))

    def index(
        self, plane: tuple[int, ...], rows: slice = slice(None), columns: slice = slice(None)
    ) -> tuple[int | slice, ...]:
        """The index of (part of) a plane in the array."""
        remaining = iter(plane)
        place = {self.y: rows, self.x: columns}
        return tuple(place[k] if k in place else next(remaining) for k in range(len(self.roles)))

    def read(self, data: Any, plane: tuple[int, ...], region: Rect | None = None) -> np.ndarray:
        """(A region of) a plane of an array as the network takes it.

        Parameters
        ----------
        data : array-like
        plane : tuple of int
            Along `outer`.
        region : Rect, optional

        Returns
        -------
        ndarray, shape (H, W) or (H, W, colours)
        """
        rows, columns = (region.rows, region.columns) if region else (slice(None), slice(None))
        return self.turned(np.asarray(data[self.index(plane, rows, columns)]))

    def turned(self, pixels: np.ndarray) -> np.ndarray:
        """A plane's y and x from the layer's order to the network's, or back."""
        return np.swapaxes(pixels, 0, 1) if self.transposed else pixels

    @property
    def transposed(self) -> bool:
        """Whether x comes before y, so that planes must be turned for the network."""
        return self.x < self.y

    def channel_of(self, plane: tuple[int, ...]) -> int:
        """Which channel a plane belongs to; 0 where there is no channel axis."""
        return 0 if self.channel is None else plane[self.outer.index(self.channel)]

    def channels(self, shape: Sequence[int]) -> int:
        return 1 if self.channel is None else shape[self.channel]


def axis_name(number: int, role: Role, label: str) -> str:
    """An axis for people: its label, where that is not napari's stand-in ("-3")."""
    if label.strip() and not label.strip().lstrip("-").isdigit():
        return label.strip()
    return role if role in ("y", "x") else f"axis {number}"


def whole(axes: Axes, shape: Sequence[int]) -> Rect:
    """The region that is the whole plane."""
    return Rect(0, shape[axes.y], 0, shape[axes.x])


def guess_axes(shape: Sequence[int], rgb: bool, labels: Sequence[str] = ()) -> Axes:
    """Guess the meaning of a layer's axes, for the user to correct.

    Labels decide where they say something. Otherwise y and x are the last two axes, or the two
    before a last one of 2 to `MOST_CHANNELS` entries, and the first other axis so short is
    channels.

    Parameters
    ----------
    shape : sequence of int
        Shape of the layer's array, the colour axis left out where there is one.
    rgb : bool
    labels : sequence of str
        `layer.axis_labels`; napari's own ("-2", "-1") say nothing.
    """
    names, (y, x) = _names(shape, labels), _space(shape, labels)
    roles: list[Role] = ["plane"] * len(shape)
    roles[y], roles[x] = "y", "x"
    named = [k for k in range(len(shape)) if k not in (y, x) and names[k] in _CHANNEL_LABELS]
    doubtful = None if rgb else doubtful_axis(shape, rgb, labels)
    channel = named[0] if named else doubtful
    if channel is not None and not rgb:
        roles[channel] = "channel"
    return Axes(tuple(roles), rgb)


def doubtful_axis(shape: Sequence[int], rgb: bool, labels: Sequence[str] = ()) -> int | None:
    """The axis that may be channels or planes, of which only its length speaks; None if there is
    none. Parameters as for `guess_axes`."""
    names, space = _names(shape, labels), _space(shape, labels)
    outer = [k for k in range(len(shape)) if k not in space]
    if rgb or any(names[k] in _CHANNEL_LABELS for k in outer):
        return None
    short = [k for k in outer if 2 <= shape[k] <= MOST_CHANNELS and names[k] not in _PLANE_LABELS]
    return short[0] if short else None


def _names(shape: Sequence[int], labels: Sequence[str]) -> list[str]:
    """The labels in small letters, empty where they say nothing."""
    if len(labels) != len(shape):
        return [""] * len(shape)
    names = [label.strip().lower() for label in labels]
    return ["" if name.lstrip("-").isdigit() else name for name in names]


def _space(shape: Sequence[int], labels: Sequence[str]) -> tuple[int, int]:
    """Which axes are y and x."""
    names = _names(shape, labels)
    ndim = len(shape)
    if names.count("y") == 1 and names.count("x") == 1:
        return names.index("y"), names.index("x")
    last_is_short = ndim > 2 and 2 <= shape[-1] <= MOST_CHANNELS < min(shape[-3:-1])
    if last_is_short and (not names[-1] or names[-1] in _CHANNEL_LABELS):
        return ndim - 3, ndim - 2
    return ndim - 2, ndim - 1
