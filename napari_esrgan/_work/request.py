"""What is to be upscaled and how, and what follows from it: network, ranges, shape.

Everything a worker thread needs, taken from the form and the layer on the GUI thread. Knows
neither Qt nor napari; what loads or reads is for worker threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_esrgan._work import models
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.kernels import have_kernels
from napari_esrgan._work.messages import Cancelled, Progress, Report, Status, stop_if
from napari_esrgan._work.ranges import RangeChoice, data_range, finite_extent_of

if TYPE_CHECKING:
    from esrgan_ext import Upscaler
    from esrgan_ext.inference.tiles import Rect
    from esrgan_ext.models import SRNetwork

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
    def plane_shape(self) -> tuple[int, ...]:
        """Shape of the region of one plane as the network gets it."""
        size = (self.region.height, self.region.width)
        return (*size, self.data.shape[-1]) if self.axes.rgb else size


def load_model(model: str | Mix, report: Report, cancelled: Cancelled) -> SRNetwork:
    """The network of a request, downloading it where it must be."""

    def downloading(done: int, total: int) -> None:
        stop_if(cancelled)
        report(Progress(done, total, text="Downloading the model"))

    report(Status("Reading the model…"))
    if isinstance(model, Mix):
        from esrgan_ext import interpolate

        a, b = (models.load(name, downloading) for name in (model.a, model.b))
        return interpolate(a, b, model.alpha)  # type: ignore[return-value]
    return models.load(model, downloading)


def make_upscaler(
    request: UpscaleRequest,
    network: SRNetwork,
    report: Report,
    cancelled: Cancelled,
    tile: int | str | None = None,
) -> Upscaler:
    """The upscaler of a request, its kernels compiled."""
    from esrgan_ext import Upscaler
    from esrgan_ext.inference.devices import choose_device

    have_kernels(choose_device(request.device, request.precision), report, cancelled)
    return Upscaler(
        network,
        outscale=request.outscale,
        tile=request.tile if tile is None else tile,
        device=request.device,
        precision=request.precision,
        channel_axis=-1 if request.axes.rgb else False,
    )


def channel_ranges(request: UpscaleRequest, cancelled: Cancelled) -> list[Any]:
    """The `data_range` of each channel (one entry where there is no channel axis)."""
    choice, axes, data = request.value_range, request.axes, request.data
    if choice.kind == "type":
        return [None] * axes.channels(data.shape)
    if choice.kind in ("limits", "own"):
        assert choice.values is not None
        return [data_range(choice.values)] * axes.channels(data.shape)
    planes = axes.planes(data.shape)
    return [
        data_range(
            finite_extent_of(
                (
                    np.asarray(data[axes.index(plane)])
                    for plane in planes
                    if axes.channel_of(plane) == channel
                ),
                cancelled,
            )
        )
        for channel in range(axes.channels(data.shape))
    ]


def output_shape(request: UpscaleRequest, upscaler: Upscaler) -> tuple[int, ...]:
    """Shape of a request's result: the axes of the layer, its planes of the new size."""
    shape = list(request.data.shape)
    if request.only_shown:
        for axis in request.axes.outer:
            shape[axis] = 1
    shape[request.axes.y], shape[request.axes.x] = upscaler.output_size(
        request.region.height, request.region.width
    )
    return tuple(shape)
