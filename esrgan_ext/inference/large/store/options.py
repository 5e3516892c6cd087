"""Options of a large run, and the reading of regions."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from esrgan_ext.errors import OptionError
from esrgan_ext.inference.large.images.image import Channels
from esrgan_ext.inference.large.sizes import MEMORY_LIMIT
from esrgan_ext.inference.options import UpscaleOptions
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.inference.upscaler import Model
from esrgan_ext.weights.choice import AUTO


@dataclass(frozen=True, kw_only=True)
class StoreOptions(UpscaleOptions):
    """Options of `upscale_store`: those of `UpscaleOptions`, and more.

    A tile is what one task computes; 'auto' is the largest that fits into `memory_limit`, at most
    1024. A range that follows the data (the default for more than 8 bits and for floats) reads the
    region once before. In place of `channel_axis` there is `channels`.

    Attributes
    ----------
    model : str, path or SRNetwork
        See `Upscaler`; 'auto' takes the model that is true to the data.
    level : int
        Level of the source's pyramid; 0 is the finest.
    series : int or None
        Image of a TIFF that holds several, counted from 0; None: all of them, each
        into a group of its own ("0", "1", ...), as bioformats2raw lays them out.
    region : Rect or None
        The part of that level to upscale, in its pixels. The network sees what lies around it.
    channels : {'auto', 'rgb', 'separate'}
        Whether three or four channels are the colours of one image, or images of their own.
    version : {'0.4', '0.5'} or None
        OME-Zarr version of the result; the source's by default, 0.5 for a TIFF.
    scheduler : str
        'threads', 'processes', or the address of a dask scheduler (tcp://host:port).
    workers : int or None
        Threads or processes; two by default, or one process for each GPU.
    memory_limit : int
        Bytes that one worker may take.
    overwrite : bool
        Start over where there is an unfinished result, and replace a finished one.
    retries : int
        How often a chunk that failed is tried again, after all others.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> options = esr.StoreOptions(model="lite-micro-x4", outscale=2, workers=1)
    >>> options.scheduler, options.memory_limit
    ('threads', 3000000000)
    """

    model: Model = AUTO
    level: int = 0
    series: int | None = None
    region: Rect | None = None
    channels: Channels = "auto"
    version: str | None = None
    scheduler: str = "threads"
    workers: int | None = None
    memory_limit: int = MEMORY_LIMIT
    overwrite: bool = False
    retries: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channel_axis is not None:
            raise OptionError("a store's axes have names: give channels, not channel_axis")

    def upscaling(self) -> UpscaleOptions:
        """Those that images in memory have too.

        Returns
        -------
        UpscaleOptions

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> esr.StoreOptions(outscale=2, workers=1).upscaling() == esr.UpscaleOptions(outscale=2)
        True
        """
        return UpscaleOptions(**{f.name: getattr(self, f.name) for f in fields(UpscaleOptions)})


def parse_region(text: str) -> Rect:
    """A region "y0:y1,x0:x1" in pixels, ends exclusive.

    Raises
    ------
    OptionError
        It is not written so, or empty.
    """
    found = re.fullmatch(r"\s*(\d+):(\d+)\s*,\s*(\d+):(\d+)\s*", text)
    if found is None:
        raise OptionError(f"a region is written y0:y1,x0:x1 in whole pixels, not {text!r}")
    y0, y1, x0, x1 = map(int, found.groups())
    if y0 >= y1 or x0 >= x1:
        raise OptionError(f"the region {text} is empty: ends are exclusive")
    return Rect(y0, y1, x0, x1)


def within(region: Rect | None, height: int, width: int) -> Rect:
    """The region, or everything.

    Raises
    ------
    OptionError
        It reaches beyond the image.
    """
    if region is None:
        return Rect(0, height, 0, width)
    if region.y1 > height or region.x1 > width:
        raise OptionError(
            f"the region {region.y0}:{region.y1},{region.x0}:{region.x1} reaches beyond the image "
            f"of {height} x {width} pixels (height x width)"
        )
    return region
