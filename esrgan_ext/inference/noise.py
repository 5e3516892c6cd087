"""How much noise an image shows, and how much denoising that asks for.

Noise is what is left of small blocks when everything smooth is taken away, read off the flattest
blocks at each brightness: variance against mean is a line for a camera (photons make its slope,
read noise its start). Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

#: Side of a block in pixels.
BLOCK = 8

#: Classes of brightness, each with as many blocks, and the fewest blocks in one.
_CLASSES, _FEWEST = 12, 12

#: Share of a class's blocks, from the flattest, whose median is taken for its noise.
_FLATTEST = 0.3

#: A stack's planes that are looked at, evenly spread.
PLANES = 16

#: Noise (share of the range) up to which nothing is taken away, and from which all is. Measured on
#: the training images, see docs/models.md.
LEAST, MOST = 0.010, 0.012


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise of an image, in its own values.

    Attributes
    ----------
    slope, start : float
        Variance = slope * value + start, never below 0: slope is the camera's values a photon.
    level : float
        Standard deviation over the whole image (root of the mean variance).
    blocks : int
        Flat blocks that it rests on; 0 if the image was too small or too even to tell.
    """

    slope: float
    start: float
    level: float
    blocks: int


def estimate_noise(planes: np.ndarray | Iterable[np.ndarray]) -> NoiseEstimate:
    """The noise that an image shows, one estimate for all planes.

    Parameters
    ----------
    planes : ndarray, shape (H, W) or (N, H, W), or an iterable of (H, W)
        Any number type; blocks with values that are not finite do not count. Of more than 16
        planes of an array 16 are looked at, evenly spread.

    Returns
    -------
    NoiseEstimate
        All zeros where nothing can be told (less than 12 blocks of 8x8 pixels that are not all of
        one value).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> image = rng.poisson(np.linspace(50, 200, 256)[:, None] * np.ones(256)) * 2.0
    >>> found = estimate_noise(image)
    >>> round(found.slope, 1)
    2.0
    """
    if isinstance(planes, np.ndarray):
        count = math.prod(planes.shape[:-2])
        stack = planes.reshape(count, *planes.shape[-2:])
        spread = np.linspace(0, len(stack) - 1, min(len(stack), PLANES)).round().astype(int)
        planes = (stack[k] for k in spread)
    parts = [_blocks(plane) for plane in planes]
    means = np.concatenate([np.zeros(0), *(m for m, _ in parts)])
    variances = np.concatenate([np.zeros(0), *(v for _, v in parts)])
    if len(means) < _FEWEST:
        return NoiseEstimate(0.0, 0.0, 0.0, 0)
    levels, noises, used = _flattest(means, variances)
    slope, start = _line(levels, noises)
    everywhere = np.maximum(slope * means + start, 0).mean()
    return NoiseEstimate(slope, start, math.sqrt(everywhere), used)


def denoise_strength(estimate: NoiseEstimate, low: float, high: float) -> float:
    """How far to go from the faithful network of a pair to the denoising one.

    Parameters
    ----------
    estimate : NoiseEstimate
    low, high : float
        The values that become black and white, as of `estimate`'s image.

    Returns
    -------
    float
        0 to 1, in steps of 0.05, so that images of one camera share a network.
    """
    if not high > low or estimate.level <= 0:
        return 0.0
    relative = estimate.level / (high - low)
    way = math.log(relative / LEAST) / math.log(MOST / LEAST)
    return round(20 * min(max(way, 0.0), 1.0)) / 20


def _blocks(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and noise variance of each block of a plane, without those of one value."""
    values = np.asarray(plane, np.float64)
    rows, columns = ((side - 2) // BLOCK * BLOCK for side in values.shape)
    if rows < BLOCK or columns < BLOCK:
        return np.zeros(0), np.zeros(0)
    values = values[: rows + 2, : columns + 2]
    # Second differences along both axes: blind to slopes and straight edges along an axis, and
    # white noise of variance 1 comes out with 36 (Immerkaer 1996).
    with np.errstate(invalid="ignore", over="ignore"):
        across = values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]
        both = across[:-2] - 2 * across[1:-1] + across[2:]
        variances = _mean_of_blocks(both * both) / 36
        means = _mean_of_blocks(values[1:-1, 1:-1])
    told = np.isfinite(variances) & np.isfinite(means) & (variances > 0)
    return means[told], variances[told]


def _mean_of_blocks(values: np.ndarray) -> np.ndarray:
    rows, columns = values.shape
    blocks = values.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return np.asarray(blocks.mean((1, 3)).ravel())


def _flattest(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Brightness and noise variance of the flattest blocks of each class of brightness."""
    order = np.argsort(means, kind="stable")
    classes = np.array_split(order, max(1, min(_CLASSES, len(order) // _FEWEST)))
    levels, noises, used = [], [], 0
    for members in classes:
        count = max(4, round(len(members) * _FLATTEST))
        flattest = members[np.argsort(variances[members], kind="stable")[:count]]
        levels.append(means[flattest].mean())
        noises.append(np.median(variances[flattest]) / _BIAS)
        used += count
    return np.array(levels), np.array(noises), used


# Of blocks with nothing but white noise the flattest 30 % lie below its variance: the median of
# them is this share of it (from a simulation of 200,000 blocks).
_BIAS = 0.68


def _line(levels: np.ndarray, noises: np.ndarray) -> tuple[float, float]:
    """Slope and start of noise over brightness, slope at least 0, each class weighed alike in
    relative error."""
    weights = 1 / np.maximum(noises, noises.max() * 1e-6)
    matrix = np.stack([levels, np.ones_like(levels)], 1) * weights[:, None]
    (slope, start), *_ = np.linalg.lstsq(matrix, noises * weights, rcond=None)
    if slope < 0 or len(levels) < 2:
        return 0.0, float(np.exp(np.mean(np.log(np.maximum(noises, 1e-300)))))
    return float(slope), float(start)
