"""Several models' results of the same images, ready to be looked at side by side.

Upscales, measures against references where there are any, and turns everything into 8-bit
pictures over one range of values for each image. The page that shows them is made by `page`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from esrgan_ext.errors import EsrganError, ImageError, OptionError, UpscaleCancelled
from esrgan_ext.evaluation.benchmark import BICUBIC, measure, named_upscalers
from esrgan_ext.evaluation.pairs import Failure
from esrgan_ext.inference.files import ImageFile, read_image
from esrgan_ext.inference.folder import images_below
from esrgan_ext.inference.headers import MAX_PIXELS
from esrgan_ext.inference.progress import Progress
from esrgan_ext.inference.ranges import value_map
from esrgan_ext.inference.resample import bicubic
from esrgan_ext.inference.upscaler import Upscaler

SOURCE, REFERENCE = "source", "reference"

# A browser holds 4 bytes for each pixel of each picture; phones stop at canvases of 16 million.
MAX_RESULT_PIXELS = 16_000_000


@dataclass(frozen=True, eq=False)
class Picture:
    """One of the images that are compared.

    Attributes
    ----------
    name : str
        "source", a model's name, or "reference".
    pixels : ndarray, shape (H, W) or (H, W, 3), uint8
    psnr, ssim : float or None
        PSNR of the luma against the reference; None without one.
    """

    name: str
    pixels: np.ndarray
    psnr: float | None = None
    ssim: float | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """One image as measured, as each model makes it, and as it should be where that is known.

    Attributes
    ----------
    name : str
        The file's.
    scale : int
        Pixels of a result per pixel of the source.
    low, high : float
        The values that are shown as 0 and 255.
    dtype : str
        Type of the file's pixels.
    pictures : tuple of Picture
        The source first, the reference last.
    """

    name: str
    scale: int
    low: float
    high: float
    dtype: str
    pictures: tuple[Picture, ...]


def compare(
    images: Sequence[str | os.PathLike[str]],
    models: Sequence[str | os.PathLike[str] | nn.Module],
    reference: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> tuple[list[Comparison], list[Failure]]:
    """Upscale images with several models.

    Parameters
    ----------
    images : sequence of str or path
        Files, gray or RGB; 8 or 16 bits, floats.
    models : sequence of str, path or network
        Models of one scale as `Upscaler` takes them, or "bicubic".
    reference : str or path, optional
        The image as it should be, `scale` times as large; or a folder with one for each image, of
        the same name but for the suffix (or without ``x4`` or ``_x4`` after it).
    device : str or torch.device
    max_pixels : int
        Files whose header claims more pixels are not read.
    progress : callable, optional
        ``progress(done, total)`` in pictures; returning False stops the work.

    Returns
    -------
    comparisons, failures
        The failures are images that could not be read, upscaled or compared.

    Raises
    ------
    OptionError
        No images, no models, models of different scales, or one reference for several images.
    ModelError, DeviceError
        A model or a device is not there.
    UpscaleCancelled
        `progress` asked to stop.

    Examples
    --------
    >>> from esrgan_ext.evaluation.comparison import compare
    >>> comparisons, failures = compare(["photo.png"], ["bicubic", "lite-psnr-x4"])
    >>> len(comparisons[0].pictures)  # the source and two results
    3
    """
    if not images:
        raise OptionError("name at least one image")
    scale, methods = named_upscalers(models, device=device)
    references = None if reference is None else _References(Path(reference), len(images), scale)
    found: list[Comparison] = []
    failures: list[Failure] = []
    total = len(images) * len(methods)
    for number, path in enumerate(map(Path, images)):

        def step(done: int, before: int = number * len(methods)) -> None:
            if progress is not None and progress(before + done, total) is False:
                raise UpscaleCancelled("comparing was cancelled")

        try:
            found.append(_compare_one(path, methods, scale, references, max_pixels, step))
        except UpscaleCancelled:
            raise
        except (EsrganError, MemoryError, OSError) as error:
            text = str(error) or type(error).__name__
            failures.append(Failure(str(path), text.removeprefix(f"{path}: ")))
    return found, failures


def _compare_one(
    path: Path,
    methods: Sequence[tuple[str, Upscaler | None]],
    scale: int,
    references: _References | None,
    max_pixels: int,
    step: Any,
) -> Comparison:
    source = _plane(read_image(path, max_pixels=max_pixels))
    size = (source.shape[0] * scale, source.shape[1] * scale)
    if size[0] * size[1] > MAX_RESULT_PIXELS:
        raise ImageError(
            f"its result has {size[0] * size[1] / 1e6:.0f} million pixels; a page that phones can "
            f"show holds {MAX_RESULT_PIXELS // 1_000_000} million. Compare a part of it"
        )
    should = None if references is None else _plane(references.of(path, max_pixels))
    if should is not None and (should.shape[:2] != size or should.ndim != source.ndim):
        raise ImageError(
            f"its reference has shape {should.shape}, at x{scale} it needs {size} and as many "
            "channels"
        )
    # One range for all, so that a difference that is seen is one of the values.
    shown = value_map(source, None)
    low, high = float(shown.low), float(shown.high)
    span = (high - low) or 1.0

    def picture(name: str, pixels: np.ndarray, scored: bool = True) -> Picture:
        eight = np.rint(np.clip((pixels.astype(np.float64) - low) / span, 0, 1) * 255)
        eight = eight.astype(np.uint8)
        if should is None or not scored:
            return Picture(name, eight)
        scores = measure(eight, target, scale)
        return Picture(name, eight, scores.psnr_y, scores.ssim_y)

    pictures = [picture(SOURCE, source, scored=False)]
    if should is not None:
        target = picture(REFERENCE, should, scored=False).pixels
    axis: Literal[2, False] = 2 if source.ndim == 3 else False
    for done, (name, upscaler) in enumerate(methods, 1):
        result: np.ndarray = (
            bicubic(source, size) if upscaler is None else upscaler(source, channel_axis=axis)
        )
        pictures.append(picture(name, result))
        step(done)
    if should is not None:
        pictures.append(Picture(REFERENCE, target))
    return Comparison(path.name, scale, low, high, str(source.dtype), tuple(pictures))


def _plane(image: ImageFile) -> np.ndarray:
    """One plane, gray or RGB."""
    pixels = image.pixels
    colour = image.channel_axis is not False
    if image.further or pixels.ndim != (3 if colour else 2):
        raise ImageError("it is a stack; a page compares single planes")
    if not colour:
        return pixels
    if pixels.shape[2] in (2, 4):
        opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
        if (pixels[..., -1] != opaque).any():
            raise ImageError("it is transparent in places; a page compares opaque images")
        pixels = pixels[..., :-1]
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


class _References:
    """Finds the reference of an image."""

    def __init__(self, path: Path, images: int, scale: int) -> None:
        if not path.exists():
            raise OptionError(f"{path}: there is no such file or folder")
        if not path.is_dir() and images > 1:
            raise OptionError(f"{path}: one reference for {images} images; give a folder of them")
        self._path, self._scale = path, scale
        self._files = list(images_below(path, recursive=False)) if path.is_dir() else []

    def of(self, image: Path, max_pixels: int) -> ImageFile:
        if not self._path.is_dir():
            return read_image(self._path, max_pixels=max_pixels)
        endings = ("", f"x{self._scale}", f"_x{self._scale}")
        names = {image.stem.removesuffix(ending) for ending in endings}
        files = [file for file in self._files if file.stem in names]
        if len(files) > 1:
            files = [file for file in files if file.suffix == image.suffix] or files
        if len(files) != 1:
            known = "no reference" if not files else f"{len(files)} references"
            raise ImageError(f"{known} of this name in {self._path}")
        return read_image(files[0], max_pixels=max_pixels)


__all__ = ["BICUBIC", "Comparison", "Picture", "compare"]
