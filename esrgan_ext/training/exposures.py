"""Patches of single-channel images as a camera would expose them: for microscopy.

LR images are averages over 4x4 pixels (what a coarser camera measures) or bicubic; on them a
Poisson distribution of the photons and the camera's read noise; over all of it gain and offset.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import ImageError, ImageFileError, TrainingError
from esrgan_ext.inference.files import read_image
from esrgan_ext.inference.resample import cubic
from esrgan_ext.training.pack import image_files
from esrgan_ext.training.recipe import Recipe
from esrgan_ext.training.resident import Images, Places

#: Percentiles of an image's values that become 0 and 1, as for the range of results.
BLACK, WHITE = 0.1, 99.9


class Planes:
    """Single-channel images in memory, scaled by their own range.

    Attributes
    ----------
    images : list of ndarray, shape (H, W), float32
        Black 0 and white 1; single values lie beyond.
    skipped : list of (str, str)
        Name and reason of each file that could not be used.
    """

    def __init__(self, images: list[np.ndarray], skipped: list[tuple[str, str]]) -> None:
        self.images, self.skipped = images, skipped


def read_planes(folders: Sequence[Path], scale: int, smallest: int) -> Planes:
    """Read all images of folders; every plane and channel of a file is an image of its own.

    Parameters
    ----------
    folders : paths
    scale : int
        Images are cut to a multiple of it.
    smallest : int
        Shorter sides are skipped, in pixels.

    Raises
    ------
    OptionError
        A folder is missing or empty.
    TrainingError
        No image can be used.

    Warns
    -----
    UserWarning
        For each file that is skipped.
    """
    images: list[np.ndarray] = []
    skipped: list[tuple[str, str]] = []
    for path in image_files(folders):
        try:
            images += _planes(path, scale, smallest)
        except (ImageFileError, ImageError, OSError) as error:
            skipped.append((str(path), str(error).removeprefix(f"{path}: ")))
    for name, reason in skipped:
        warnings.warn(f"{name} is skipped: {reason}", stacklevel=2)
    if not images:
        raise TrainingError(f"no image of {', '.join(map(str, folders))} can be used")
    return Planes(images, skipped)


def _planes(path: Path, scale: int, smallest: int) -> list[np.ndarray]:
    file = read_image(path)
    pixels = file.pixels
    axis = file.channel_axis
    if axis is not False and axis is not None and pixels.ndim > 2:
        pixels = np.moveaxis(pixels, axis, 0)
    elif axis is None and pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        pixels = np.moveaxis(pixels, -1, 0)[:3]
    height, width = pixels.shape[-2:]
    if min(height, width) < smallest:
        raise ImageError(f"{width} x {height} pixels are less than a patch of {smallest}")
    planes = pixels.reshape(-1, height, width)
    cut = planes[:, : height - height % scale, : width - width % scale]
    return [plane for plane in (_scaled(p) for p in cut) if plane is not None]


def _scaled(plane: np.ndarray) -> np.ndarray | None:
    """Black 0 and white 1; None for a plane of one value, which teaches nothing."""
    values = plane.astype(np.float32)
    black, white = np.percentile(values, (BLACK, WHITE))
    if not white > black:
        return None
    return (values - np.float32(black)) / np.float32(white - black)


class ExposurePatches:
    """Draws exposures of planes; see `ExposureOptions` for what varies.

    Parameters
    ----------
    planes : Planes
    recipe : Recipe
    device : torch.device
    """

    def __init__(self, planes: Planes, recipe: Recipe, device: torch.device) -> None:
        self._data, self._options = recipe.data, recipe.exposure
        self._scale = scale = recipe.generator.scale
        self._channels = recipe.generator.channels
        sizes = [image.shape for image in planes.images]
        self._images = Images(
            [h // scale for h, _ in sizes], [w // scale for _, w in sizes], device
        )
        starts = np.cumsum([0, *(image.size for image in planes.images)])[:-1]
        self._starts = torch.tensor(starts, device=device)
        self._values = torch.from_numpy(np.concatenate([i.ravel() for i in planes.images]))
        self._values = self._values.to(device)
        self._side = recipe.data.patch // scale
        self._reductions = torch.stack(
            [_reduction(self._side, scale, kind) for kind in (_area(scale), _bicubic(scale))]
        ).to(device)

    def draw(self) -> tuple[Tensor, Tensor]:
        options, count = self._options, self._data.batch
        device = self._values.device
        u = torch.rand((6, count, 1, 1, 1), device=device)
        margin = _margin(self._scale)
        wide = self._cut(margin)
        hr = wide[..., margin:-margin, margin:-margin]
        matrix = self._reductions[(u[0] >= options.area).long().view(count)][:, None]
        lr = matrix @ wide @ matrix.mT
        if options.clean < 1:
            low, high = (math.log(p) for p in options.photons)
            photons = torch.exp(low + (high - low) * u[1])
            counts = torch.poisson((lr * photons).clamp_min(0))
            noise = torch.randn(lr.shape, device=device)
            noisy = (counts + options.read_noise * noise) / photons
            lr = torch.where(u[2] < options.clean, lr, noisy)
        gain = torch.exp(u[3] * math.log(options.least_gain))
        offset = options.largest_offset * u[4]
        memory = torch.channels_last
        return (
            (lr * gain + offset).contiguous(memory_format=memory),
            (hr * gain + offset).contiguous(memory_format=memory),
        )

    def _cut(self, margin: int) -> Tensor:
        """HR patches N,C,h,w with a margin; three channels alike, or of three places."""
        count, side, channels = self._data.batch, self._side, self._channels
        places = Places.drawn(self._images, channels * count, side, self._data)
        gray = torch.rand((count, 1), device=self._values.device) >= self._options.colour
        first = torch.arange(count, device=gray.device)[:, None] * channels
        own = first + torch.arange(channels, device=gray.device)
        chosen = torch.where(gray, first, own).view(-1)
        full = side * self._scale + 2 * margin
        row, column = places.pixels(full)
        image = places.image
        height = (self._images.heights[image] * self._scale)[:, None, None]
        width = (self._images.widths[image] * self._scale)[:, None, None]
        row = row + (places.top * self._scale - margin)[:, None, None]
        column = column + (places.left * self._scale - margin)[:, None, None]
        row = torch.minimum(row.clamp_min(0), height - 1)
        column = torch.minimum(column.clamp_min(0), width - 1)
        index = self._starts[image][:, None, None] + row * width + column
        return self._values[index[chosen]].view(count, channels, full, full)


def _margin(scale: int) -> int:
    """HR pixels around a patch that the widest of the reductions reads."""
    return 3 * scale // 2


def _area(scale: int) -> np.ndarray:
    weights = np.zeros(4 * scale)
    weights[_margin(scale) : _margin(scale) + scale] = 1 / scale
    return weights


def _bicubic(scale: int) -> np.ndarray:
    weights = cubic((np.arange(4 * scale) - (4 * scale - 1) / 2) / scale)
    return np.asarray(weights / weights.sum())


def _reduction(side: int, scale: int, weights: np.ndarray) -> Tensor:
    """The matrix that makes `side` LR pixels of a line of HR pixels with its margins."""
    matrix = torch.zeros(side, side * scale + 2 * _margin(scale))
    for k in range(side):
        matrix[k, k * scale : k * scale + len(weights)] = torch.from_numpy(weights)
    return matrix
