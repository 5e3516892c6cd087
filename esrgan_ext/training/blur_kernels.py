"""Random blur kernels of Real-ESRGAN's degradation (arXiv 2107.10833, sections 3.1 and 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

SIDE = 21
"""All kernels are padded with zeros to this side."""

_SIDES = np.arange(7, SIDE + 1, 2)
_KINDS = ("gaussian", "generalized", "plateau")


@dataclass(frozen=True)
class BlurOptions:
    """Kinds of kernels that are drawn, and how often.

    Attributes
    ----------
    sigma
        Range of the standard deviations, in pixels.
    sinc_probability
        Probability of an ideal low pass, whose ringing imitates oversharpened images.
    probabilities
        Probabilities of Gaussian, generalized Gaussian and plateau-shaped kernels, a pair each:
        isotropic, anisotropic. Their sum is 1.
    generalized_beta, plateau_beta
        Ranges of the shape parameters; half of the draws are below 1, half above.
    """

    sigma: tuple[float, float] = (0.2, 3.0)
    sinc_probability: float = 0.1
    probabilities: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    generalized_beta: tuple[float, float] = (0.5, 4.0)
    plateau_beta: tuple[float, float] = (1.0, 2.0)


def random_kernel(rng: np.random.Generator, options: BlurOptions) -> np.ndarray:
    """A kernel of shape (21, 21), float64, that sums to 1."""
    side = int(rng.choice(_SIDES))
    if rng.random() < options.sinc_probability:
        return _padded(sinc_kernel(_random_cutoff(rng, side), side))
    drawn = int(rng.choice(6, p=options.probabilities))
    kind, isotropic = _KINDS[drawn // 2], drawn % 2 == 0
    sigma = rng.uniform(*options.sigma, size=2)
    angle = 0.0
    if isotropic:
        sigma[1] = sigma[0]
    else:
        angle = float(rng.uniform(-np.pi, np.pi))
    beta = 1.0
    if kind != "gaussian":
        low, high = options.generalized_beta if kind == "generalized" else options.plateau_beta
        beta = float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))
    kernel = blur_kernel(side, (float(sigma[0]), float(sigma[1])), angle, beta, kind == "plateau")
    return _padded(kernel)


def random_sinc(rng: np.random.Generator, probability: float) -> np.ndarray | None:
    """The last filter of the degradation: a sinc kernel, or None, which leaves it out."""
    if rng.random() >= probability:
        return None
    side = int(rng.choice(_SIDES))
    return _padded(sinc_kernel(float(rng.uniform(np.pi / 3, np.pi)), side))


def blur_kernel(
    side: int, sigma: tuple[float, float], angle: float, beta: float, plateau: bool
) -> np.ndarray:
    """exp(-q^beta / 2) or, with a plateau, 1 / (1 + q^beta), where q = x^T Sigma^-1 x.

    Parameters
    ----------
    side : int
        Odd.
    sigma : (float, float)
        Standard deviations along the two axes of the ellipse, in pixels.
    angle : float
        Angle of the first axis, in radians.
    beta : float
        1 is the Gaussian.
    plateau : bool
    """
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = turn @ np.diag([sigma[0] ** -2.0, sigma[1] ** -2.0]) @ turn.T
    points = np.stack(np.meshgrid(*[np.arange(side) - side // 2] * 2), -1).astype(np.float64)
    q = np.einsum("yxi,ij,yxj->yx", points, inverse, points)
    kernel = 1 / (1 + q**beta) if plateau else np.exp(-(q**beta) / 2)
    return kernel / kernel.sum()


def sinc_kernel(cutoff: float, side: int) -> np.ndarray:
    """Circular low pass, c J1(c r) / (2 pi r) (section 3.3), normalised.

    Parameters
    ----------
    cutoff : float
        c, in radians per pixel, up to pi.
    side : int
        Odd.
    """
    offsets = np.arange(side, dtype=np.float64) - side // 2
    r = np.hypot(offsets[:, None], offsets[None, :])
    r[side // 2, side // 2] = 1  # replaced below by the limit for r -> 0
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * r)).numpy()
    kernel = cutoff * bessel / (2 * np.pi * r)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * np.pi)
    return kernel / kernel.sum()


def _random_cutoff(rng: np.random.Generator, side: int) -> float:
    # Small kernels cannot hold the rings of a low cutoff.
    return float(rng.uniform(np.pi / 3 if side < 13 else np.pi / 5, np.pi))


def _padded(kernel: np.ndarray) -> np.ndarray:
    return np.pad(kernel, (SIDE - kernel.shape[0]) // 2)
