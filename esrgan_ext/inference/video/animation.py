"""Writes frames as an animated GIF, WebP, PNG or AVIF by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.video.frames import Clip

_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG", ".avif": "AVIF"}


def write_animation(
    path: Path,
    suffix: str,
    frames: Sequence[np.ndarray],
    durations: Sequence[int],
    clip: Clip,
    metadata: dict[str, Any],
    quality: int,
) -> None:
    """Write all frames of an animation.

    Parameters
    ----------
    path, suffix
        Where to, and the suffix that says the format.
    frames : sequence of ndarray, shape (H, W, 3 or 4), uint8
    durations : sequence of int
        Milliseconds. A GIF counts hundredths of a second: they are rounded, the sum is kept.
    clip
        Its loop count is kept.
    metadata
        Pillow's `icc_profile`, `exif`, `xmp`.
    quality : int
        1 to 100, of AVIF; WebP and PNG are written without loss, GIF has 256 colours a frame.

    Raises
    ------
    ImageFileError
        The file cannot be written.
    """
    kind = _FORMATS[suffix.lower()]
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    options: dict[str, Any] = {key: value for key, value in metadata.items() if key != "xmp"}
    options["duration"] = _hundredths(durations) if kind == "GIF" else list(durations)
    if clip.loop is not None:
        options["loop"] = clip.loop
    elif kind == "WEBP":
        options["loop"] = 1
    if kind == "GIF":
        options["disposal"] = 2 if clip.alpha else 1
        options.pop("exif", None)
    elif kind == "WEBP":
        options |= {"lossless": True, "method": 4}
        if clip.alpha:
            # Whole frames: libwebp leaves out a border of transparent black, and with it the flag
            # that the file has alpha at all, so that readers take the border for black.
            options |= {"kmin": 0, "kmax": 1}
    elif kind == "AVIF":
        options["quality"] = quality
    elif kind == "PNG":
        options |= {"disposal": 0, "blend": 0}
    try:
        images[0].save(path, format=kind, save_all=True, append_images=images[1:], **options)
    except (OSError, ValueError) as error:
        raise ImageFileError(f"{path}: cannot be written: {error}") from error


def _hundredths(durations: Sequence[int]) -> list[int]:
    """Each rounded to tens of milliseconds so that no frame drifts from its time."""
    made, exact, given = [], 0, 0
    for duration in durations:
        exact += duration
        rounded = max(10, round((exact - given) / 10) * 10)
        given += rounded
        made.append(rounded)
    return made
