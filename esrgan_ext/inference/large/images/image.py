"""Description of a large image, beside its pixels: axes, pixel sizes, levels, channels.

Read from OME-Zarr 0.4 and 0.5 or from a TIFF, and carried over to the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from esrgan_ext.errors import ImageError, OptionError
from esrgan_ext.inference.large.images.source import Source

Channels = Literal["auto", "rgb", "separate"]

# What most writers give the channels of a colour image.
_RGB_COLOURS = ["FF0000", "00FF00", "0000FF"]


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes
    ----------
    source : Source
    scale, translation : tuple of float
        World = scale * index + translation, one number an axis; pixel centres are at integers.
    """

    source: Source
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True)
class Scene:
    """A large image.

    Attributes
    ----------
    path : Path
    axes : tuple of dict
        OME-Zarr's: name, type and unit of each, in the order t, c, z, y, x.
    levels : tuple of Level
        From fine to coarse.
    version : {'0.4', '0.5'}
        Version of OME-Zarr that the result is written in.
    name : str
    transformations : list of dict
        OME-Zarr's transformations of all levels; carried over as they are.
    omero : dict
        Rendering: colours, names and windows of the channels; carried over.
    colour : bool
        The file itself says that the channels are red, green and blue.
    """

    path: Path
    axes: tuple[dict[str, Any], ...]
    levels: tuple[Level, ...]
    version: str
    name: str = ""
    transformations: list[dict[str, Any]] = field(default_factory=list)
    omero: dict[str, Any] = field(default_factory=dict)
    colour: bool = False

    def level(self, number: int) -> Level:
        """One of the levels.

        Raises
        ------
        OptionError
            There is no such level.
        """
        if not 0 <= number < len(self.levels):
            raise OptionError(
                f"{self.path} has levels 0 to {len(self.levels) - 1}; there is no level {number}"
            )
        return self.levels[number]

    @property
    def own_channels(self) -> int | None:
        """The axis of the channels, whether or not they belong together."""
        names = [axis["name"] for axis in self.axes]
        return names.index("c") if "c" in names else None

    def channel_axis(self, channels: Channels, level: Level) -> int | Literal[False]:
        """The axis whose channels go through the network together, as `Upscaler` takes it.

        Red, green and blue do, the stains of a microscope do not. 'auto' takes three 8-bit
        channels for a colour image unless their display colours say otherwise.

        Raises
        ------
        OptionError
            'rgb' was asked for, and there are not 3 or 4 channels.
        """
        axis = self.own_channels
        count = 0 if axis is None else level.source.shape[axis]
        if channels == "rgb":
            if axis is None or count not in (3, 4):
                raise OptionError(
                    f"{self.path}: RGB needs 3 or 4 channels, the image has "
                    f"{count if axis is not None else 1}"
                )
            return axis
        if channels == "separate" or axis is None:
            return False
        if self.colour:
            return axis if count in (2, 3, 4) else False
        colours = [str(c.get("color", "")).upper() for c in self.omero.get("channels", [])]
        likely = count == 3 and level.source.dtype == "uint8"
        return axis if likely and colours in ([], _RGB_COLOURS) else False


def result_transform(
    level: Level, ratio: tuple[float, ...], start: tuple[float, ...], step: int
) -> tuple[list[float], list[float]]:
    """Scale and translation of a level of the result, so that it lies on its source.

    Pixel u of the result has its centre at index (u + start + 1/2) / ratio - 1/2 of the source; a
    pixel of a coarser level lies at the middle of the `step` finer ones that it is the mean of.

    Parameters
    ----------
    level : Level
        The level of the source that is upscaled.
    ratio : tuple of float
        Pixels of the result per pixel of the source, one number an axis; 0 for the axes that are
        not upscaled.
    start : tuple of float
        Where the result begins, in its own pixels.
    step : int
        Pixels of the finest level of the result per pixel of this one.
    """
    scale, translation = [], []
    for size, origin, factor, first in zip(
        level.scale, level.translation, ratio, start, strict=True
    ):
        if factor == 0:  # not an axis that is upscaled
            scale.append(size)
            translation.append(origin)
            continue
        centre = (step - 1) / 2
        scale.append(size * step / factor)
        translation.append(origin + size * ((centre + first + 0.5) / factor - 0.5))
    return scale, translation


def check_names(path: Path, names: list[str]) -> None:
    """Raise ImageError unless the axes are two to five of t, c, z, y, x in that order."""
    wanted = [name for name in "tczyx" if name in names]
    if names != wanted or names[-2:] != ["y", "x"]:
        raise ImageError(
            f"{path}: its axes are {', '.join(map(repr, names)) or 'none'}; an image has y and x "
            "as its last axes, and t, c, z in this order before them"
        )


def check_shape(path: Path, names: list[str], shape: tuple[int, ...]) -> None:
    """Raise ImageError unless there is a pixel, and a length for each axis."""
    if len(names) != len(shape):
        raise ImageError(
            f"{path}: it names {len(names)} axes, its array has {len(shape)} (shape {shape})"
        )
    if 0 in shape:
        raise ImageError(f"{path}: the image has no pixels (shape {shape})")


def with_version(scene: Scene, version: str | None) -> Scene:
    """The scene, for a result in another version of OME-Zarr."""
    if version is None:
        return scene
    if version not in ("0.4", "0.5"):
        raise OptionError(f"the version of OME-Zarr must be 0.4 or 0.5, not {version!r}")
    return replace(scene, version=version)
