"""Results of an evaluation: scores of an image, of all images, and their means."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from esrgan_ext.errors import OptionError
from esrgan_ext.evaluation.pairs import Failure


@dataclass(frozen=True)
class Scores:
    """How close a result is to the HR image.

    Attributes
    ----------
    psnr_y, ssim_y
        On the 8-bit luma; of a gray image, on itself. PSNR in dB.
    psnr_rgb, ssim_rgb
        On all three channels; of a gray image the same as above.
    perceptual
        The perceptual distance, lower is better; None where none was asked for.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    perceptual: float | None = None


@dataclass(frozen=True)
class ImageResult:
    """One model's scores on one image, and the seconds that upscaling took."""

    image: str
    model: str
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes
    ----------
    models
        Their names, in the order given.
    scale, border
        The models' scale; pixels cut from each side.
    perceptual
        Name of the perceptual distance, or None.
    results
        One for each image and model.
    failures
        The images that were not evaluated.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> found = esr.evaluate(["bicubic", "lite-psnr-x4"], "photos/HR", perceptual=None)
    >>> found.mean("bicubic").psnr_y < found.mean("lite-psnr-x4").psnr_y
    True
    >>> sorted(found.as_dict())
    ['border', 'failed', 'images', 'mean', 'perceptual', 'scale']
    """

    models: tuple[str, ...]
    scale: int
    border: int
    perceptual: str | None
    results: tuple[ImageResult, ...]
    failures: tuple[Failure, ...]

    def mean(self, model: str) -> Scores:
        """Mean of each score over the images, as tables give it (PSNR: of the decibels).

        Parameters
        ----------
        model : str
            One of `models`.

        Returns
        -------
        Scores
            ``psnr_y`` and ``psnr_rgb`` in dB, ``ssim_y``, ``ssim_rgb``, and ``perceptual``, None
            where it was not asked for.

        Raises
        ------
        OptionError
            There is no result of a model of that name.

        Examples
        --------
        >>> import esrgan_ext as esr
        >>> found = esr.evaluate("bicubic", "photos/HR", perceptual=None, scale=4)
        >>> 20 < found.mean("bicubic").psnr_y < 40
        True
        """
        rows = [result.scores for result in self.results if result.model == model]
        if not rows:
            raise OptionError(f"no result of {model!r}; models: {', '.join(self.models)}")
        means: dict[str, float | None] = {}
        for field in fields(Scores):
            values = [getattr(row, field.name) for row in rows]
            means[field.name] = None if None in values else float(np.mean(values))
        return Scores(**means)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON, which has no infinity: it becomes "inf".

        Returns
        -------
        dict
            ``scale``, ``border``, ``perceptual``; ``images``, a dict of scores for each image and
            model; ``mean``, the scores by model; ``failed``, a dict for each image that was not
            evaluated.

        Examples
        --------
        >>> import json
        >>> import esrgan_ext as esr
        >>> found = esr.evaluate("lite-micro-x4", "photos/HR", perceptual=None)
        >>> json.loads(json.dumps(found.as_dict()))["images"][0]["image"]
        'a.png'
        """
        rows = [
            {"image": r.image, "model": r.model, **_plain(r.scores), "seconds": r.seconds}
            for r in self.results
        ]
        means = {model: _plain(self.mean(model)) for model in self.models if self.results}
        return {
            "scale": self.scale,
            "border": self.border,
            "perceptual": self.perceptual,
            "images": rows,
            "mean": means,
            "failed": [asdict(failure) for failure in self.failures],
        }


def _plain(scores: Scores) -> dict[str, float | str | None]:
    return {k: "inf" if v == float("inf") else v for k, v in asdict(scores).items()}
