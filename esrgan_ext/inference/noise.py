"""How much noise an image shows, and how much denoising that asks for.

Noise is what is left of small blocks when everything smooth is taken away, read off the flattest
blocks at each brightness: variance against mean is a line for a camera (photons make its slope,
read noise its start). Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from esrgan_ext.inference.hot_pixels import without_lone_pixels

#: Side of a block in pixels.
BLOCK = 8

#: Classes of brightness, each with as many blocks, and the fewest blocks in one.
_CLASSES, FEWEST = 12, 12

#: Share of a class's blocks, from the flattest, whose median is taken for its noise.
_FLATTEST = 0.3

#: A stack's planes that are looked at, evenly spread.
PLANES = 16

#: Of `NoiseEstimate.share`: up to here nothing is taken away, and from here all is. Chosen on
#: training images, see docs/models.md.
LEAST, MOST = 0.036, 0.041

#: Variance of rounding to whole numbers: images of integers have no less noise.
_ROUNDING = 1 / 12


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
        Flat blocks that it rests on; 0 if the image was too small or too even for them.
    contrast : float
        Standard deviation of the image itself.
    detail : float
        Root mean square of what neighbours do not tell of a pixel, noise included, scaled so that
        it is `level` where there is nothing but white noise.
    """

    slope: float
    start: float
    level: float
    blocks: int
    contrast: float = 0.0
    detail: float = 0.0

    @property
    def share(self) -> float:
        """How much of the image is noise: its share of the contrast times its share of the detail.

        0 to about 1. A network that sharpens gains by detail and loses by noise, in images of
        little contrast as in others.
        """
        if self.contrast <= 0 or self.level <= 0:
            return 0.0
        of_detail = self.level / self.detail if self.detail > self.level else 1.0
        return self.level / self.contrast * of_detail


def estimate_noise(planes: np.ndarray | Iterable[np.ndarray]) -> NoiseEstimate:
    """The noise that an image shows, one estimate for all planes.

    Hot pixels do not count.

    Parameters
    ----------
    planes : ndarray, shape (H, W) or (N, H, W), or an iterable of (H, W)
        Any number type; blocks with values that are not finite do not count. Of more than 16
        planes of an array 16 are looked at, evenly spread.

    Returns
    -------
    NoiseEstimate
        With less than 12 blocks of 8x8 pixels that are not all of one value, the level is the
        median second difference, detail included, and the slope 0; all zeros where all is one
        value. Integers have at least the noise of rounding.

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
    parts = [_looked_at(plane) for plane in planes]
    means = np.concatenate([np.zeros(0), *(part.means for part in parts)])
    variances = np.concatenate([np.zeros(0), *(part.variances for part in parts)])
    flattest = _flattest(means, variances) if len(means) >= FEWEST else None
    return conclude(
        [(part.contrast, part.detail, part.median) for part in parts],
        flattest,
        lambda slope, start: float(np.maximum(slope * means + start, 0).mean()),
        whole=all(part.whole for part in parts),
    )


def conclude(
    planes: Sequence[tuple[float, float, float]],
    flattest: tuple[np.ndarray, np.ndarray, int] | None,
    everywhere: Callable[[float, float], float],
    *,
    whole: bool,
) -> NoiseEstimate:
    """The estimate out of what was measured of the planes.

    Parameters
    ----------
    planes : sequence of (float, float, float)
        Variance, mean squared detail, and noise by the median second difference of each; NaN where
        a plane tells nothing.
    flattest : (ndarray, ndarray, int) or None
        Brightness and noise variance of the flattest blocks of each class of brightness, and how
        many blocks those are; None where there are too few blocks.
    everywhere : callable
        ``everywhere(slope, start)``: the mean noise variance of all blocks.
    whole : bool
        Whether the values are whole numbers.
    """
    variance, detail, median = (_mean([plane[k] for plane in planes]) for k in range(3))
    contrast, detail = math.sqrt(variance), math.sqrt(detail)
    least = _ROUNDING if whole and contrast else 0.0
    if flattest is None:
        level = math.sqrt(max(median**2, least))
        return NoiseEstimate(0.0, level**2, level, 0, contrast, detail)
    levels, noises, used = flattest
    slope, start = _line(levels, noises)
    level = math.sqrt(max(everywhere(slope, start), least))
    return NoiseEstimate(slope, start, level, used, contrast, detail)


def denoise_strength(estimate: NoiseEstimate) -> float:
    """How far to go from the faithful network of a pair to the denoising one.

    Parameters
    ----------
    estimate : NoiseEstimate

    Returns
    -------
    float
        0 to 1, in steps of 0.05, so that images of one camera share a network.
    """
    if estimate.share <= 0:
        return 0.0
    way = math.log(estimate.share / LEAST) / math.log(MOST / LEAST)
    return round(20 * min(max(way, 0.0), 1.0)) / 20


@dataclass(frozen=True)
class _Plane:
    """Statistics of one plane: mean and noise variance of each block that is not of one value,
    variance and mean squared detail of all, and the noise by its median second difference."""

    means: np.ndarray
    variances: np.ndarray
    contrast: float
    detail: float
    median: float
    whole: bool


def _looked_at(plane: np.ndarray) -> _Plane:
    whole = plane.dtype.kind in "iu"
    values = np.asarray(without_lone_pixels(plane), np.float64)
    if min(values.shape) < 3:
        return _Plane(np.zeros(0), np.zeros(0), math.nan, math.nan, math.nan, whole)
    with np.errstate(invalid="ignore", over="ignore"):
        both = _second_differences(values)
        rows, columns = (side // BLOCK * BLOCK for side in both.shape)
        variances = _mean_of_blocks(both[:rows, :columns] ** 2) / 36
        means = _mean_of_blocks(values[1 : rows + 1, 1 : columns + 1])
        told = np.isfinite(variances) & np.isfinite(means) & (variances > 0)
        sizes = np.abs(both[np.isfinite(both)])
        finite = values[np.isfinite(values)]
        if not sizes.size:
            return _Plane(means[told], variances[told], math.nan, math.nan, math.nan, whole)
    return _Plane(
        means[told],
        variances[told],
        float(finite.var()),
        float(np.mean(sizes**2)) / 36,
        float(np.median(sizes)) / (6 * MEDIAN),
        whole,
    )


# Half of a normal distribution's values lie within so many standard deviations of its mean.
MEDIAN = 0.6745


def _second_differences(values: np.ndarray) -> np.ndarray:
    """Along both axes: blind to slopes and straight edges along an axis, and white noise of
    variance 1 comes out with 36 (Immerkaer 1996)."""
    across = values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]
    return np.asarray(across[:-2] - 2 * across[1:-1] + across[2:])


def _mean(values: list[float]) -> float:
    """Of those that are a number; 0 where none is."""
    told = [value for value in values if not math.isnan(value)]
    return sum(told) / len(told) if told else 0.0


def _mean_of_blocks(values: np.ndarray) -> np.ndarray:
    rows, columns = values.shape
    blocks = values.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return np.asarray(blocks.mean((1, 3)).ravel())


def _flattest(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Brightness and noise variance of the flattest blocks of each class of brightness."""
    order = np.argsort(means, kind="stable")
    classes = np.array_split(order, number_of_classes(len(order)))
    levels, noises, used = [], [], 0
    for members in classes:
        count = number_of_flattest(len(members))
        flattest = members[np.argsort(variances[members], kind="stable")[:count]]
        levels.append(means[flattest].mean())
        noises.append(np.median(variances[flattest]) / BIAS)
        used += count
    return np.array(levels), np.array(noises), used


# Of blocks with nothing but white noise the flattest 30 % lie below its variance: the median of
# them is this share of it (from a simulation of 200,000 blocks).
BIAS = 0.68


def number_of_classes(blocks: int) -> int:
    """How many classes of brightness so many blocks are put into."""
    return max(1, min(_CLASSES, blocks // FEWEST))


def number_of_flattest(blocks: int) -> int:
    """How many of the blocks of a class are taken, from the flattest."""
    return max(4, round(blocks * _FLATTEST))


def _line(levels: np.ndarray, noises: np.ndarray) -> tuple[float, float]:
    """Slope and start of noise over brightness, slope at least 0, each class weighed alike in
    relative error."""
    weights = 1 / np.maximum(noises, noises.max() * 1e-6)
    matrix = np.stack([levels, np.ones_like(levels)], 1) * weights[:, None]
    (slope, start), *_ = np.linalg.lstsq(matrix, noises * weights, rcond=None)
    if slope < 0 or len(levels) < 2:
        return 0.0, float(np.exp(np.mean(np.log(np.maximum(noises, 1e-300)))))
    return float(slope), float(start)
