"""Patches cut, turned and degraded on the device that trains, out of images that lie there.

One random number a property and patch, drawn on the device: no loader, no copy, no waiting. All of
it is made of operators without a decision on the host, so that a CUDA graph can hold it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.training.pack import PackedImages
from esrgan_ext.training.recipe import DataOptions


class ResidentPatches(Protocol):
    """Draws batches from images on a device, with torch's default random generator there."""

    def draw(self) -> tuple[Tensor, Tensor]:
        """LR and HR patches, float32, N,C,h,w and N,C,scale*h,scale*w, about [0, 1]."""
        ...


class Images:
    """Images that lie one behind the other in one tensor, and where.

    Parameters
    ----------
    heights, widths : sequence of int
        In LR pixels (the images' own sides are `scale` times these).
    device : torch.device
    """

    def __init__(self, heights: list[int], widths: list[int], device: torch.device) -> None:
        self.heights = torch.tensor(heights, device=device)
        self.widths = torch.tensor(widths, device=device)
        areas = np.array(heights, np.float64) * np.array(widths, np.float64)
        # Large images are drawn as often as the sub-images cut out of them would be.
        shares = np.cumsum(areas / areas.sum())
        self.cumulative = torch.tensor(shares, dtype=torch.float32, device=device)


class Places:
    """Where patches lie and how they are turned: one entry a patch, all on the device.

    Parameters
    ----------
    image, top, left : Tensor, int64
        Which image, and the first row and column in LR pixels.
    transposed, upside_down, mirrored : Tensor, bool
    """

    def __init__(
        self,
        image: Tensor,
        top: Tensor,
        left: Tensor,
        transposed: Tensor,
        upside_down: Tensor,
        mirrored: Tensor,
    ) -> None:
        self.image, self.top, self.left = image, top, left
        self.transposed, self.upside_down, self.mirrored = transposed, upside_down, mirrored

    @classmethod
    def drawn(cls, images: Images, count: int, side: int, options: DataOptions) -> Places:
        """`count` patches of `side` LR pixels, every position and allowed turn alike likely."""
        u = torch.rand((6, count), device=images.cumulative.device)
        image = torch.searchsorted(images.cumulative, u[0].contiguous(), right=True)
        image = image.clamp(max=len(images.cumulative) - 1)
        rows = images.heights[image] - (side - 1)
        columns = images.widths[image] - (side - 1)
        top = torch.minimum((u[1] * rows).long(), rows - 1)  # rounding may reach the end
        left = torch.minimum((u[2] * columns).long(), columns - 1)
        odd = u[3] < 0.5
        half = u[4] < 0.5
        reflected = u[5] < 0.5
        never = torch.zeros_like(odd)
        transposed = odd if options.rotate else never
        upside_down = half if options.rotate else never
        # A rotation transposes as often as it mirrors; a reflection adds one mirroring.
        mirrored = transposed ^ upside_down
        if options.flip:
            mirrored = mirrored ^ reflected
        return cls(image, top, left, transposed, upside_down, mirrored)

    def pixels(self, side: int) -> tuple[Tensor, Tensor]:
        """Row and column within the patch of each pixel of the turned patch: two N,side,side."""
        i = torch.arange(side, device=self.image.device)
        rows = torch.where(self.upside_down[:, None], side - 1 - i, i)
        columns = torch.where(self.mirrored[:, None], side - 1 - i, i)
        turned = self.transposed[:, None, None]
        row = torch.where(turned, rows[:, None, :], rows[:, :, None])
        column = torch.where(turned, columns[:, :, None], columns[:, None, :])
        shape = (len(self.image), side, side)
        return row.expand(shape), column.expand(shape)


class PhotoPatches:
    """Patches of packed photos with the LR images that were packed with them.

    Parameters
    ----------
    packed : PackedImages
        With LR images.
    options : DataOptions
    scale : int
    device : torch.device
        All the pixels are copied there.
    """

    def __init__(
        self, packed: PackedImages, options: DataOptions, scale: int, device: torch.device
    ) -> None:
        self._options, self._scale = options, scale
        self._pixels = torch.from_numpy(np.array(packed.pixels)).to(device)
        placed = packed.images
        self._images = Images(
            [i.height // scale for i in placed], [i.width // scale for i in placed], device
        )
        self._hr = torch.tensor([i.hr_offset for i in placed], device=device)
        self._lr = torch.tensor([i.lr_offset for i in placed], device=device)

    def draw(self) -> tuple[Tensor, Tensor]:
        side = self._options.patch // self._scale
        places = Places.drawn(self._images, self._options.batch, side, self._options)
        return self._cut(places, self._lr, 1, side), self._cut(places, self._hr, self._scale, side)

    def _cut(self, places: Places, offsets: Tensor, factor: int, side: int) -> Tensor:
        row, column = places.pixels(side * factor)
        row = row + (places.top * factor)[:, None, None]
        column = column + (places.left * factor)[:, None, None]
        width = (self._images.widths[places.image] * factor)[:, None, None]
        first = offsets[places.image][:, None, None] + (row * width + column) * 3
        channels = torch.arange(3, device=first.device)
        values = self._pixels[first[..., None] + channels]
        return values.permute(0, 3, 1, 2).to(torch.float32) / 255
