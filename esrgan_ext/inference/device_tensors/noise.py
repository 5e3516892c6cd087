"""`inference.noise` and `samples` of tensors on a GPU. What crosses are three numbers for each
plane, and two for each class of brightness."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.inference import noise
from esrgan_ext.inference.arrays import RGB, RGBA, Layout
from esrgan_ext.inference.device_tensors.hot_pixels import without_lone_pixels
from esrgan_ext.inference.noise import BLOCK, NoiseEstimate
from esrgan_ext.inference.samples import channel_samples
from esrgan_ext.inference.tensor_values import wide


def has_empty_channel(image: Tensor, layout: Layout) -> bool:
    """`samples.has_empty_channel`."""
    if layout.channels_per_image not in (RGB, RGBA):
        return False
    even = []
    for planes in channel_samples(image, layout, wide):
        stack = torch.stack(planes)
        even.append((stack == stack[:1, :1, :1]).all())
    found: list[bool] = torch.stack(even).cpu().tolist()
    return any(found) and not all(found)


def estimate_noise(planes: Sequence[Tensor]) -> NoiseEstimate:
    """`noise.estimate_noise`.

    Parameters
    ----------
    planes : sequence of Tensor, shape (H, W)
        Pixels of a type that torch computes with.
    """
    parts = [_looked_at(plane) for plane in planes]
    means = torch.cat([part[0] for part in parts])
    variances = torch.cat([part[1] for part in parts])
    measured = torch.stack([part[2] for part in parts]).cpu().tolist()

    def everywhere(slope: float, start: float) -> float:
        return float((slope * means + start).clamp(min=0).mean())

    return noise.conclude(
        [(variance, detail, median) for variance, detail, median in measured],
        _flattest(means, variances) if len(means) >= noise.FEWEST else None,
        everywhere,
        whole=not any(plane.is_floating_point() or plane.dtype == torch.bool for plane in planes),
    )


def _looked_at(plane: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and noise variance of each block that is not of one value; variance, mean squared detail
    and noise by the median second difference of the whole plane. All float64."""
    values = without_lone_pixels(plane).double()
    if min(values.shape) < 3:
        none = values.new_empty(0)
        return none, none, values.new_full((3,), math.nan)
    across = values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]
    rows, columns = (side // BLOCK * BLOCK for side in both.shape)
    variances = _mean_of_blocks(both[:rows, :columns] ** 2) / 36
    means = _mean_of_blocks(values[1 : rows + 1, 1 : columns + 1])
    told = variances.isfinite() & means.isfinite() & (variances > 0)
    finite = values.isfinite()
    number = finite.sum()
    mean = values.masked_fill(~finite, 0).sum() / number
    variance = (values - mean).masked_fill_(~finite, 0).square_().sum() / number
    told_of = both.isfinite()
    count = told_of.sum()
    detail = both.masked_fill(~told_of, 0).square_().sum() / count / 36
    sizes = both.abs().masked_fill_(~told_of, math.inf).flatten().sort().values
    middle = torch.stack(((count - 1).clamp(min=0) // 2, count // 2)).clamp(max=len(sizes) - 1)
    median = sizes[middle].mean() / (6 * noise.MEDIAN)
    measured = torch.stack((variance, detail, median)).masked_fill(count == 0, math.nan)
    return means[told], variances[told], measured


def _mean_of_blocks(values: Tensor) -> Tensor:
    rows, columns = values.shape
    blocks = values.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return blocks.mean((1, 3)).flatten()


def _flattest(means: Tensor, variances: Tensor) -> tuple[np.ndarray, np.ndarray, int]:
    """Brightness and noise variance of the flattest blocks of each class of brightness."""
    order = means.argsort(stable=True)
    found, used = [], 0
    for members in order.tensor_split(noise.number_of_classes(len(order))):
        count = noise.number_of_flattest(len(members))
        ordered, rank = variances[members].sort(stable=True)
        ordered, flattest = ordered[:count], members[rank[:count]]
        n = len(ordered)
        median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
        found.append(torch.stack((means[flattest].mean(), median / noise.BIAS)))
        used += count
    levels, noises = torch.stack(found, 1).cpu().numpy()
    return levels, noises, used
