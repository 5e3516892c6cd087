"""Real-ESRGAN's blind degradation: blur, resize, noise and JPEG, twice (arXiv 2107.10833).

The probabilities and ranges are those of its published training options. All randomness comes
from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from esrgan_ext.training.blur_kernels import BlurOptions, random_kernel, random_sinc

_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class StageOptions:
    """One of the two rounds.

    Attributes
    ----------
    blur, blur_probability
    resize_probabilities
        Probabilities of enlarging, of shrinking and of keeping the size; their sum is 1.
    resize_range
        Smallest and largest factor.
    gaussian_probability
        Probability of Gaussian noise, from 0 to 1; else it is Poisson noise.
    noise_sigma
        Range of the Gaussian's standard deviation, on the scale of 0 to 255.
    poisson_scale
        Range of the factor on Poisson noise.
    gray_probability
        Probability that all channels get the same noise, from 0 to 1.
    jpeg_quality
        Range.
    """

    blur: BlurOptions = field(default_factory=BlurOptions)
    blur_probability: float = 1.0
    resize_probabilities: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: tuple[float, float] = (0.15, 1.5)
    gaussian_probability: float = 0.5
    noise_sigma: tuple[float, float] = (1.0, 30.0)
    poisson_scale: tuple[float, float] = (0.05, 3.0)
    gray_probability: float = 0.4
    jpeg_quality: tuple[int, int] = (30, 95)


FIRST = StageOptions()
SECOND = StageOptions(
    blur=BlurOptions(sigma=(0.2, 1.5)),
    blur_probability=0.8,
    resize_probabilities=(0.3, 0.4, 0.3),
    resize_range=(0.3, 1.2),
    noise_sigma=(1.0, 25.0),
    poisson_scale=(0.05, 2.5),
)
FINAL_SINC_PROBABILITY = 0.8


def degraded(image: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """A degraded LR image of an HR image.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
        Its sides are multiples of the scale.
    scale : int
    rng : numpy Generator
        The same state gives the same image.

    Returns
    -------
    ndarray, shape (H / scale, W / scale, 3), uint8
    """
    height, width = image.shape[:2]
    pixels = image.astype(np.float32) / 255
    pixels = _resized_at_random(_blurred_at_random(pixels, FIRST, rng), FIRST, (1, 1), rng)
    pixels = jpeg(noisy(pixels, FIRST, rng), _quality(FIRST, rng))

    pixels = _blurred_at_random(pixels, SECOND, rng)
    wanted = (height // scale, width // scale)
    relative = (wanted[0] / pixels.shape[0], wanted[1] / pixels.shape[1])
    pixels = noisy(_resized_at_random(pixels, SECOND, relative, rng), SECOND, rng)
    sinc = random_sinc(rng, FINAL_SINC_PROBABILITY)
    # Ringing before or after the compression: both are met with (section 3.3).
    jpeg_last = rng.random() < 0.5
    interpolation = _INTERPOLATIONS[int(rng.integers(3))]
    if jpeg_last:
        pixels = _filtered(_resized(pixels, wanted, interpolation), sinc)
        pixels = jpeg(pixels, _quality(SECOND, rng))
    else:
        pixels = jpeg(pixels, _quality(SECOND, rng))
        pixels = _filtered(_resized(pixels, wanted, interpolation), sinc)
    return _to_uint8(pixels)


def _blurred_at_random(
    pixels: np.ndarray, stage: StageOptions, rng: np.random.Generator
) -> np.ndarray:
    kernel = random_kernel(rng, stage.blur)
    return _filtered(pixels, kernel if rng.random() < stage.blur_probability else None)


def _filtered(pixels: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    if kernel is None:
        return pixels
    return cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def _resized_at_random(
    pixels: np.ndarray,
    stage: StageOptions,
    relative: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Resize by a random factor on top of the relative ones."""
    low, high = stage.resize_range
    what = int(rng.choice(3, p=stage.resize_probabilities))
    factor = (rng.uniform(1, high), rng.uniform(low, 1), 1.0)[what]
    interpolation = _INTERPOLATIONS[int(rng.integers(3))]
    height = max(1, round(pixels.shape[0] * relative[0] * factor))
    width = max(1, round(pixels.shape[1] * relative[1] * factor))
    return _resized(pixels, (height, width), interpolation)


def _resized(pixels: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    return cv2.resize(pixels, (size[1], size[0]), interpolation=interpolation)


def noisy(pixels: np.ndarray, stage: StageOptions, rng: np.random.Generator) -> np.ndarray:
    """With Gaussian or Poisson noise, in each channel by itself or alike in all.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, 3), float32 in [0, 1]

    Returns
    -------
    ndarray
        In [0, 1].
    """
    gaussian = rng.random() < stage.gaussian_probability
    gray = rng.random() < stage.gray_probability
    shape = (*pixels.shape[:2], 1) if gray else pixels.shape
    if gaussian:
        sigma = rng.uniform(*stage.noise_sigma) / 255
        noise = rng.standard_normal(shape, np.float32) * np.float32(sigma)
    else:
        source = np.clip(pixels, 0, 1)
        if gray:
            source = source @ np.array([[0.299], [0.587], [0.114]], np.float32)
        # As many photons at full brightness as there are levels, rounded up to a power of 2:
        # how a shot-noise-limited image of so many levels would come about.
        levels = len(np.unique(np.round(source * 255)))
        photons = 2.0 ** np.ceil(np.log2(levels))
        noise = (rng.poisson(source * photons) / photons - source).astype(np.float32)
        noise *= np.float32(rng.uniform(*stage.poisson_scale))
    return np.clip(pixels + noise, 0, 1)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Compressed and decoded again; float32 in [0, 1]."""
    # OpenCV takes BGR: with the channels as they are, red would be given blue's weight in the luma.
    bgr = np.ascontiguousarray(_to_uint8(pixels)[..., ::-1])
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # an array of this kind can always be encoded
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded just now
    return decoded[..., ::-1].astype(np.float32) / 255


def _quality(stage: StageOptions, rng: np.random.Generator) -> int:
    return int(rng.integers(stage.jpeg_quality[0], stage.jpeg_quality[1] + 1))


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.round(pixels * 255), 0, 255).astype(np.uint8)
