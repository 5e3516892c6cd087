"""`inference.consistency` of tensors on a GPU: the same projection, in double too."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.consistency import HALVINGS, Arithmetic


def _consistent(result: Tensor, measured: Tensor, factor: int, values: ValueMap) -> Tensor:
    """Project in the image's own values, from and to [0, 1] of `values`."""
    span = (values.high - values.low) or 1.0
    blocks = _blocks(result.double() * span + values.low, factor)
    means = measured.double()
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        low, high = float(limits.min), float(limits.max)
        blocks = _rounded(_projected(blocks, means, low, high, slack=0.5), means, low, high)
    else:
        blocks = _projected(blocks, means, -math.inf, math.inf, slack=0.0)
    return (_whole(blocks, factor) - values.low) / span


TORCH = Arithmetic(torch.cat, _consistent)


def _blocks(result: Tensor, factor: int) -> Tensor:
    """(N, C, factor * h, factor * w) as (N, C, h, w, factor * factor)."""
    n, channels, height, width = result.shape
    shape = (n, channels, height // factor, factor, width // factor, factor)
    return result.reshape(shape).transpose(3, 4).flatten(4)


def _whole(blocks: Tensor, factor: int) -> Tensor:
    """The inverse of `_blocks`."""
    n, channels, height, width, _ = blocks.shape
    apart = blocks.reshape(n, channels, height, width, factor, factor).transpose(3, 4)
    return apart.reshape(n, channels, height * factor, width * factor)


def _mean(blocks: Tensor) -> Tensor:
    """Of the last axis, row by row as NumPy adds, so that what ties there ties here."""
    factor = math.isqrt(blocks.shape[-1])
    rows = _sum(blocks.unflatten(-1, (factor, factor)).unbind(-1))
    return _sum(rows.unbind(-1)) / blocks.shape[-1]


def _sum(parts: tuple[Tensor, ...]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _projected(blocks: Tensor, measured: Tensor, low: float, high: float, slack: float) -> Tensor:
    """`consistency.project`."""
    inside = _mean(blocks.clamp(low, high))
    means = torch.minimum(torch.maximum(inside, measured - slack), measured + slack)
    means = means.clamp(low, high)
    shifted = blocks + (means - _mean(blocks))[..., None]
    outside = ((shifted < low) | (shifted > high)).any(-1)
    if bool(outside.any()):
        shifted[outside] = _clipped_shift(blocks[outside], means[outside], low, high)
    return shifted


def _clipped_shift(blocks: Tensor, means: Tensor, low: float, high: float) -> Tensor:
    """Shift each row of `blocks` so that it has its mean after it is clipped."""
    least = low - blocks.amax(1, keepdim=True)
    most = high - blocks.amin(1, keepdim=True)
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        below = (blocks + middle).clamp(low, high).mean(1, keepdim=True) < means[:, None]
        least, most = torch.where(below, middle, least), torch.where(below, most, middle)
    return (blocks + (least + most) / 2).clamp(low, high)


def _rounded(blocks: Tensor, measured: Tensor, low: float, high: float) -> Tensor:
    """Round to whole levels, the means kept to within half a level."""
    whole = blocks.round()
    off = _mean(whole) - measured
    bad = off.abs() > 0.5
    if bool(bad.any()):
        levels, off = whole[bad], off[bad][:, None]
        step = -off.sign()
        count = ((off.abs() - 0.5) * blocks.shape[-1] - 1e-9).ceil()
        gain = (blocks[bad] - levels) * step
        gain[(levels + step < low) | (levels + step > high)] = -math.inf
        rank = (-gain).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        whole[bad] = torch.where(rank < count, levels + step, levels)
    return whole
