"""Requests: all that a worker thread needs to upscale, taken on the GUI thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esrgan_ext.weights.catalogue import CATALOGUE
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.pixel_size import PixelSize
from napari_esrgan._work.ranges import RangeChoice

if TYPE_CHECKING:
    from esrgan_ext.inference.tiles import Rect

# Work longer than this is shown as it grows; shorter work appears whole under the bar.
FILL_IN_SECONDS = 10.0
# Tiles that are shown as they come: large enough that their overlap costs little.
FILL_IN_TILE = 512


@dataclass(frozen=True)
class Mix:
    """A model between two others, as `esrgan_ext.interpolate` makes it."""

    a: str
    b: str
    alpha: float


def denoising(model: str, strength: float) -> str | Mix:
    """A model of a pair (`ModelInfo.denoise`) with so much denoising, from 0 to 1."""
    pair = CATALOGUE[model].denoise
    assert pair is not None
    return {0.0: pair[0], 1.0: pair[1]}.get(float(strength)) or Mix(*pair, float(strength))


@dataclass(frozen=True)
class UpscaleRequest:
    """Everything a run needs, taken from the form and the layer on the GUI thread.

    Attributes
    ----------
    data : array-like
        The layer's array (its finest level); NumPy, dask, zarr, ...
    axes : Axes
    region : Rect
    model : str or Mix
        A catalogue name or a path.
    outscale : float or None
        None: the model's own scale.
    value_range : RangeChoice
    device, precision : str
    tile : int or 'auto'
    centre : (float, float)
        Row and column of the array that the user is looking at; done first.
    shown : tuple of int
        The plane that the user is looking at, along `axes.outer`; done first.
    consistent : bool
        Project the result onto what was measured; see `esrgan_ext.Upscaler`.
    denoise_auto : bool
        Where the model comes in two forms and follows noise, mix them as the layer's noise asks
        for: each channel by itself, once for all its planes.
    strengths : tuple of float
        Strengths of denoising from 0 to 1, one for each channel (of RGB: colour), where that was
        found and they ask for different ones.
    only_shown : bool
        Upscale that plane only; the result keeps its axes, with one entry.
    budget_bytes : float
        Larger results go to disk.
    folder : Path or None
        Where to; None is `stores.default_folder`.
    fill_in_seconds : float
    fill_in_tile : int
    """

    data: Any = field(repr=False)
    axes: Axes
    region: Rect
    model: str | Mix
    outscale: float | None
    value_range: RangeChoice
    device: str = "auto"
    precision: str = "auto"
    tile: int | str = "auto"
    centre: tuple[float, float] = (0.0, 0.0)
    shown: tuple[int, ...] = ()
    only_shown: bool = False
    consistent: bool = False
    denoise_auto: bool = False
    strengths: tuple[float, ...] = ()
    budget_bytes: float = 4e9
    folder: Path | None = None
    fill_in_seconds: float = FILL_IN_SECONDS
    fill_in_tile: int = FILL_IN_TILE

    @property
    def planes(self) -> list[tuple[int, ...]]:
        """The planes to do, the one on show first."""
        if self.only_shown:
            return [self.shown]
        planes = self.axes.planes(self.data.shape)
        return sorted(planes, key=lambda plane: plane != self.shown)  # stable: the rest in order

    @property
    def models(self) -> tuple[str | Mix, ...]:
        """The model of each channel; a single one where all have the same, and for RGB, whose
        colours are told apart by the upscaler."""
        if not self.strengths or self.axes.rgb:
            return (self.model,)
        assert isinstance(self.model, str)
        return tuple(denoising(self.model, strength) for strength in self.strengths)

    def place(self, plane: tuple[int, ...]) -> int:
        """Where in `models` a plane's is."""
        return self.axes.channel_of(plane) if len(self.models) > 1 else 0

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape of the region of one plane as the network gets it."""
        size = (self.region.height, self.region.width)
        return (*size, self.data.shape[-1]) if self.axes.rgb else size


@dataclass(frozen=True)
class FolderRequest:
    """A folder of files and how they are upscaled.

    Attributes
    ----------
    source, target : Path
        The folder of the images, and another one for the results.
    recursive : bool
        Include subfolders; the results keep their relative paths.
    overwrite : bool
        Redo files that already have a result.
    value_range : RangeChoice or None
        None: what a layer of the file's type would have.
    options : dict
        The other fields of `UpscaleRequest`: model, outscale, device, ...
    pixel_size : PixelSize or None
        Each file is scaled to pixels of this size, whatever `outscale` says.
    """

    source: Path
    target: Path
    recursive: bool
    overwrite: bool
    value_range: RangeChoice | None
    options: dict[str, Any]
    pixel_size: PixelSize | None = None
