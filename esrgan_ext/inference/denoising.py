"""`denoise="auto"`: the strength that an image's own noise asks for, channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from esrgan_ext.inference.arrays import GRAY_ALPHA, RGBA, Layout
from esrgan_ext.inference.device_tensors import noise as device_noise
from esrgan_ext.inference.device_tensors.job import result_like
from esrgan_ext.inference.job import Call
from esrgan_ext.inference.noise import NoiseEstimate, denoise_strength, estimate_noise
from esrgan_ext.inference.samples import channel_samples
from esrgan_ext.inference.tensor_values import wide
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.weights.catalogue import FOLLOWS_NOISE


def follows_noise(model: str, denoise: Any) -> bool:
    """Whether a model's strength is left to the image: `denoise="auto"`, and a model that can."""
    return isinstance(denoise, str) and model in FOLLOWS_NOISE


def channel_strengths(array: Any, layout: Layout) -> list[float]:
    """The strength that each channel of an array (NumPy, zarr or dask), or of a tensor, asks for.

    Planes of a stack are looked at together, up to 16 of them, evenly spread. A tensor is looked at
    on its device.

    Returns
    -------
    list of float
        One for each position along the channel axis; a single one where there is no such axis, or
        alpha, which is no channel of its own.
    """
    axis = layout.channel_axis
    taken: Callable[[Any], Any] = np.asarray
    estimate: Callable[[Any], NoiseEstimate] = estimate_noise
    if isinstance(array, Tensor):
        taken, estimate = wide, device_noise.estimate_noise
    if axis is None or layout.channels_per_image in (GRAY_ALPHA, RGBA):
        found = [estimate(planes) for planes in channel_samples(array, layout, taken)]
        return [max(map(denoise_strength, found))]
    strengths = []
    for number in range(layout.shape[axis]):
        channel = _Channel(array, layout, number)
        (planes,) = channel_samples(channel, channel.layout, taken)
        strengths.append(denoise_strength(estimate(planes)))
    return strengths


def split_by_strength(layout: Layout, strengths: Sequence[Any]) -> tuple[Layout, tuple[Any, ...]]:
    """The layout that goes through the network, and its strengths: channels of different strengths
    are images of their own, with a strength each; what is of one strength stays together and has
    one. The one place where that is decided, for arrays, dask arrays and stores."""
    if len(set(strengths)) > 1:
        return layout.by_channel(), tuple(strengths)
    return layout, (strengths[0],)


def upscale_channels(
    run_one: Callable[[float, Any, Layout, Call], Any],
    pixels: np.ndarray | Tensor,
    layout: Layout,
    strengths: Sequence[float],
    call: Call,
) -> Any:
    """Upscale an array in memory whose channels `split_by_strength` took apart, one by one; chunks
    of dask arrays and stores have one channel each and need no loop.

    Parameters
    ----------
    run_one : callable
        ``run_one(strength, channel, layout, call)`` upscales one channel, a stack of planes.
    pixels : ndarray, or Tensor that stays on its GPU
    layout : Layout
        With a channel axis.
    strengths : sequence of float
        One for each channel.
    call : Call

    Returns
    -------
    ndarray or Tensor, or two of them
        As `Upscaler.__call__`.
    """
    axis, count = layout.channel_axis, len(strengths)
    assert axis is not None
    region = call.region or Rect(0, layout.height, 0, layout.width)
    progress, on_tile = call.progress, call.on_tile
    made: list[Any] = []
    for number, strength in enumerate(strengths):

        def on_progress(done: int, total: int, number: int = number) -> bool | None:
            return progress(number * total + done, count * total) if progress else None

        def on_piece(
            piece: np.ndarray, slices: tuple[int | slice, ...], number: int = number
        ) -> None:
            if on_tile is not None:
                on_tile(piece, (*slices[:axis], number, *slices[axis:]))

        one = replace(
            call,
            progress=on_progress if progress else None,
            on_tile=on_piece if on_tile else None,
            out=None,
            region=region,
        )
        channel = _Channel(pixels, layout, number)
        here = (slice(None),) * axis + (number,)
        found = run_one(strength, pixels[here], channel.layout, one)
        parts = found if call.return_std else (found,)
        if not made:
            shape = (*parts[0].shape[:axis], count, *parts[0].shape[axis:])
            made = [
                result_like(part, shape, out)
                for part, out in zip(parts, (call.out, None), strict=False)
            ]
        for whole, part in zip(made, parts, strict=True):
            whole[here] = part
    return tuple(made) if call.return_std else made[0]


class _Channel:
    """One channel of an array, of which only what is indexed is read."""

    def __init__(self, array: Any, layout: Layout, number: int) -> None:
        assert layout.channel_axis is not None
        self._array, self._axis, self._number = array, layout.channel_axis, number
        shape = layout.shape[: self._axis] + layout.shape[self._axis + 1 :]
        places = [place for place in range(len(layout.shape)) if place != self._axis]
        y_axis, x_axis = places.index(layout.y_axis), places.index(layout.x_axis)
        self.layout = Layout(shape, y_axis, x_axis, None, 1)

    def __getitem__(self, index: tuple[int | slice, ...]) -> Any:
        return self._array[(*index[: self._axis], self._number, *index[self._axis :])]
