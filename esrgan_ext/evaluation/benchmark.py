"""Evaluates models on HR images: upscales the LR images and measures the results.

All models get the same images; one that fails for one model counts for none, so that the means
compare.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from esrgan_ext.errors import EsrganError, OptionError, UpscaleCancelled
from esrgan_ext.evaluation.metrics import luma, psnr, ssim
from esrgan_ext.evaluation.pairs import Failure, PairFiles, find_pairs, read_pair
from esrgan_ext.evaluation.perceptual import (
    PerceptualDistance,
    find_st_lpips,
    load_perceptual,
)
from esrgan_ext.evaluation.results import Evaluation, ImageResult, Scores
from esrgan_ext.inference.devices import choose_device
from esrgan_ext.inference.headers import MAX_PIXELS
from esrgan_ext.inference.progress import Progress
from esrgan_ext.inference.resample import imresize
from esrgan_ext.inference.upscaler import Upscaler
from esrgan_ext.weights.loading import info_of

BICUBIC = "bicubic"
"""The name that stands for MATLAB's bicubic interpolation in place of a model."""

Model = str | os.PathLike[str] | nn.Module
Perceptual = str | os.PathLike[str] | PerceptualDistance | None

# What an image may fail of without stopping the others, as in a folder job.
_EXPECTED = (EsrganError, MemoryError, OSError)


class Events(Protocol):
    """Events that a caller may hear while images are evaluated."""

    def started(self, names: Sequence[str], models: Sequence[str], perceptual: str | None) -> None:
        """The images and models that there are."""

    def evaluated(self, results: Sequence[ImageResult]) -> None:
        """One image's results, one for each model."""

    def failed(self, failure: Failure) -> None:
        """An image was not evaluated."""


def evaluate(
    models: Model | Sequence[Model],
    hr: str | os.PathLike[str],
    lr: str | os.PathLike[str] | None = None,
    *,
    scale: int | None = None,
    border: int | None = None,
    perceptual: Perceptual = "auto",
    recursive: bool = False,
    tile: int | str = "auto",
    overlap: int | str = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    ensemble: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
    events: Events | None = None,
) -> Evaluation:
    """Upscale LR images with one or more models and measure the results against HR images.

    Parameters
    ----------
    models : str, path, SRNetwork, or a sequence of them
        Models as `Upscaler` takes them, or "bicubic" for MATLAB's interpolation.
    hr : str or path
        A folder of HR images, or one.
    lr : str or path, optional
        A folder of LR images of the same names, or one; made by MATLAB's bicubic if not given.
    scale : int, optional
        HR pixels per LR pixel. Default: the models', 4 for bicubic alone.
    border : int, optional
        Pixels cut from each side before anything is measured. Default: the scale.
    perceptual : str, path, PerceptualDistance or None
        See `load_perceptual`. "auto": ST-LPIPS where its weights are found, else none.
    recursive : bool
        Include subfolders.
    tile, overlap : int or 'auto'
        In input pixels, see `UpscaleOptions`.
    device : str or torch.device
        See `UpscaleOptions`.
    precision : str
        'auto', 'fp32', 'fp16' or 'bf16'.
    ensemble : bool
        Average the 8 flips and rotations.
    max_pixels : int
        Files whose header claims more pixels are not read.
    progress : callable, optional
        ``progress(done, total)`` in LR pixels, all models and images together; returning False
        stops the work.
    events : Events, optional
        Hears of each image as soon as it is done.

    Returns
    -------
    Evaluation
        Files that do not pair, differ in size or cannot be read are its `failures`.

    Raises
    ------
    OptionError
        An option cannot be used, the models' scales differ, or there are no images.
    ModelError, DeviceError
        A model or a device is not there.
    UpscaleCancelled
        `progress` asked to stop.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> found = esr.evaluate("bicubic", "photos/HR", scale=4, perceptual=None)
    >>> [(result.image, round(result.scores.psnr_y, 1)) for result in found.results]
    [('a.png', 24.8)]
    """
    if isinstance(models, str | os.PathLike | nn.Module):
        models = [models]
    scale, upscalers = named_upscalers(
        models, scale,
        tile=tile, overlap=overlap, device=device, precision=precision, ensemble=ensemble,
    )  # fmt: skip
    border = scale if border is None else border
    if border < 0:
        raise OptionError(f"border must not be negative, but it is {border}")
    pairs, unpaired = find_pairs(
        Path(hr), None if lr is None else Path(lr), scale, recursive=recursive
    )
    distance = _distance(perceptual, choose_device(device, precision).device)
    methods = [_Method(name, upscaler, scale) for name, upscaler in upscalers]
    run = _Run(methods, scale, border, distance, max_pixels, events)
    run.all(pairs, unpaired, progress)
    return Evaluation(
        tuple(method.name for method in methods), scale, border,
        distance.name if distance else None, tuple(run.results), tuple(run.failures),
    )  # fmt: skip


def named_upscalers(
    models: Sequence[Model], scale: int | None = None, **options: Any
) -> tuple[int, list[tuple[str, Upscaler | None]]]:
    """Models that are compared with one another.

    Parameters
    ----------
    models : sequence of str, path or SRNetwork
        "bicubic" for interpolation.
    scale : int, optional
        That all must have. Default: the models', 4 for bicubic alone.
    **options
        Options of `Upscaler`.

    Returns
    -------
    scale, named
        The common scale; for each model a name of its own and its upscaler, None for bicubic.

    Raises
    ------
    OptionError
        No models, or different scales.
    ModelError, DeviceError
        A model or a device is not there.
    """
    upscalers = [None if model == BICUBIC else Upscaler(model, **options) for model in models]
    scale = _common_scale(upscalers, scale)
    return scale, list(zip(_names(upscalers), upscalers, strict=True))


def measure(
    sr: np.ndarray, hr: np.ndarray, border: int, distance: PerceptualDistance | None = None
) -> Scores:
    """Scores of one result.

    Parameters
    ----------
    sr, hr : ndarray, shape (H, W) or (H, W, 3), uint8
        Both gray or both RGB.
    border : int
        Pixels cut from each side.
    distance : PerceptualDistance, optional

    Raises
    ------
    ImageError
        They cannot be compared, or are too small for a metric.
    """
    y_sr, y_hr = (sr, hr) if hr.ndim == 2 else (luma(sr), luma(hr))
    psnr_y, ssim_y = psnr(y_sr, y_hr, border=border), ssim(y_sr, y_hr, border=border)
    if hr.ndim == 2:
        psnr_rgb, ssim_rgb = psnr_y, ssim_y
    else:
        psnr_rgb, ssim_rgb = psnr(sr, hr, border=border), ssim(sr, hr, border=border)
    perceptual = None if distance is None else distance(sr, hr, border=border)
    return Scores(psnr_y, ssim_y, psnr_rgb, ssim_rgb, perceptual)


@dataclass(frozen=True)
class _Method:
    """A model, or bicubic interpolation."""

    name: str
    upscaler: Upscaler | None
    scale: int

    def __call__(self, lr: np.ndarray, progress: Progress) -> np.ndarray:
        if self.upscaler is None:
            result = imresize(lr, (lr.shape[0] * self.scale, lr.shape[1] * self.scale))
            if progress(lr.shape[0] * lr.shape[1], lr.shape[0] * lr.shape[1]) is False:
                raise UpscaleCancelled("evaluating was cancelled")
            return result
        axis: Literal[2, False] = 2 if lr.ndim == 3 else False
        return self.upscaler(lr, channel_axis=axis, progress=progress)


class _Run:
    """Goes through images and models, and keeps what comes of it."""

    def __init__(
        self,
        methods: list[_Method],
        scale: int,
        border: int,
        distance: PerceptualDistance | None,
        max_pixels: int,
        events: Events | None,
    ) -> None:
        self._methods, self._scale, self._border = methods, scale, border
        self._distance, self._max_pixels, self._events = distance, max_pixels, events
        self.results: list[ImageResult] = []
        self.failures: list[Failure] = []

    def all(
        self, pairs: list[PairFiles], unpaired: list[Failure], progress: Progress | None
    ) -> None:
        if self._events is not None:
            names = [files.name for files in pairs]
            kind = self._distance.name if self._distance else None
            self._events.started(names, [method.name for method in self._methods], kind)
        for failure in unpaired:
            self._failed(failure)
        pixels = [files.lr_pixels(self._scale) * len(self._methods) for files in pairs]
        done, total = 0, max(1, sum(pixels))
        for files, share in zip(pairs, pixels, strict=True):
            self._image(files, _image_part(progress, done, total))
            done += share
            if progress is not None and progress(done, total) is False:
                raise UpscaleCancelled("evaluating was cancelled")

    def _image(self, files: PairFiles, progress: Callable[[int], bool | None]) -> None:
        found = []
        try:
            pair = read_pair(files, self._scale, max_pixels=self._max_pixels)
            pixels = pair.lr.shape[0] * pair.lr.shape[1]
            for number, method in enumerate(self._methods):
                begin = time.monotonic()
                sr = method(pair.lr, _model_part(progress, number * pixels))
                seconds = time.monotonic() - begin
                scores = measure(sr, pair.hr, self._border, self._distance)
                found.append(ImageResult(files.name, method.name, scores, seconds))
        except UpscaleCancelled:
            raise
        except _EXPECTED as error:
            text = str(error) or ("not enough memory" if isinstance(error, MemoryError) else "")
            reason = (text or type(error).__name__).removeprefix(f"{files.hr}: ")
            self._failed(Failure(str(files.hr), reason))
            return
        self.results += found
        if self._events is not None:
            self._events.evaluated(found)

    def _failed(self, failure: Failure) -> None:
        self.failures.append(failure)
        if self._events is not None:
            self._events.failed(failure)


def _model_part(progress: Callable[[int], bool | None], before: int) -> Progress:
    """The progress of one model on an image, within that of all models on it."""
    return lambda done, _: progress(before + done)


def _image_part(progress: Progress | None, before: int, total: int) -> Callable[[int], bool | None]:
    """The progress of one image, within that of all."""
    return lambda done: None if progress is None else progress(min(before + done, total), total)


def _common_scale(upscalers: Sequence[Upscaler | None], scale: int | None) -> int:
    if not upscalers:
        raise OptionError("name at least one model, or bicubic")
    scales = {upscaler.scale for upscaler in upscalers if upscaler is not None}
    if scale is not None:
        scales.add(scale)
    if len(scales) > 1:
        listed = ", ".join(f"x{s}" for s in sorted(scales))
        raise OptionError(f"models of different scales cannot be compared ({listed})")
    chosen = scales.pop() if scales else 4
    if chosen < 1:
        raise OptionError(f"scale must be at least 1, not {chosen}")
    return chosen


def _names(upscalers: Sequence[Upscaler | None]) -> list[str]:
    """One name for each; files of the same name are told apart by their paths."""
    infos = [None if upscaler is None else info_of(upscaler.network) for upscaler in upscalers]
    plain = [BICUBIC if info is None else info.name for info in infos]
    names: list[str] = []
    for name, info in zip(plain, infos, strict=True):
        if plain.count(name) > 1 and info is not None and info.path is not None:
            name = str(info.path)
        number = 2
        unique = name
        while unique in names:
            unique, number = f"{name} ({number})", number + 1
        names.append(unique)
    return names


def _distance(perceptual: Perceptual, device: torch.device) -> PerceptualDistance | None:
    if perceptual is None or isinstance(perceptual, PerceptualDistance):
        return perceptual
    if perceptual == "auto":
        path = find_st_lpips()
        return None if path is None else load_perceptual(path, device=device)
    return load_perceptual(perceptual, device=device)
