"""Writes comparisons as one HTML file that needs nothing else: no network, no other files."""

from __future__ import annotations

import base64
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.evaluation.comparison import Comparison, Picture

# Where the data stand in compare.html.
_PLACE = "{/*DATA*/}"


def write_page(comparisons: Sequence[Comparison], path: str | os.PathLike[str]) -> Path:
    """Write a page that shows comparisons.

    Parameters
    ----------
    comparisons : sequence of Comparison
    path : str or path
        Replaced where it exists.

    Returns
    -------
    Path

    Raises
    ------
    ImageFileError
        It cannot be written.

    Examples
    --------
    >>> from esrgan_ext.evaluation.comparison import compare
    >>> from esrgan_ext.evaluation.page import write_page
    >>> comparisons, failures = compare(["photo.png"], ["bicubic", "lite-psnr-x4"])
    >>> write_page(comparisons, "compare.html").name  # to be opened in a browser
    'compare.html'
    """
    target = Path(path).expanduser()
    template = Path(__file__).with_name("compare.html").read_text(encoding="utf-8")
    data = {"images": [_image(comparison) for comparison in comparisons]}
    # In a script element only "<" can end or change anything; names come from files.
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    before, after = template.split(_PLACE)
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}.", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(before + text + after)
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise ImageFileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _image(comparison: Comparison) -> dict[str, Any]:
    height, width = comparison.pictures[1].pixels.shape[:2]
    return {
        # Bytes of a name that are no text must not stop a page.
        "name": comparison.name.encode("utf-8", "replace").decode(),
        "scale": comparison.scale,
        "width": width,
        "height": height,
        "low": comparison.low,
        "high": comparison.high,
        "dtype": comparison.dtype,
        "pictures": [_picture(picture) for picture in comparison.pictures],
    }


def _picture(picture: Picture) -> dict[str, Any]:
    pixels = picture.pixels
    done, encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert done
    return {
        "name": picture.name.encode("utf-8", "replace").decode(),
        "gray": pixels.ndim == 2,
        "psnr": _number(picture.psnr),
        "ssim": _number(picture.ssim),
        "png": base64.b64encode(np.asarray(encoded).tobytes()).decode(),
    }


def _number(value: float | None) -> float | str | None:
    return "∞" if value is not None and math.isinf(value) else value
