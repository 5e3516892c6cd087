"""A frame, what a clip says of all its frames, and the suffixes of moving pictures."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
"""Containers that ffmpeg's libraries read and write."""

ANIMATION_SUFFIXES = (".gif", ".webp", ".png", ".apng", ".avif")
"""Images that can hold several frames."""


@dataclass(frozen=True)
class Frame:
    """One picture of a clip.

    Attributes
    ----------
    pixels : ndarray, shape (H, W, C)
        RGB, or RGBA where the clip has alpha; uint8, or uint16 over its whole range where the clip
        has more than 8 bits.
    time : int
        When it is shown, in units of the clip's `time_base`, from the start of what is taken.
    duration : int
        In the same unit; 0 where unknown.
    """

    pixels: np.ndarray
    time: int
    duration: int = 0


@dataclass(frozen=True)
class Colour:
    """How a video's Y'CbCr is to be read, by the codes of ITU-T H.273.

    Attributes
    ----------
    matrix : int
        1: BT.709, 5: BT.601, 9: BT.2020.
    full_range : bool
        Luma from 0 to 255 instead of 16 to 235.
    primaries, transfer : int
        Passed on as they are; 2 is unspecified.
    without_matrix : bool
        The file holds RGB or gray: how the result is encoded is free.
    """

    matrix: int = 5
    full_range: bool = False
    primaries: int = 2
    transfer: int = 2
    without_matrix: bool = False


@dataclass(frozen=True)
class Clip:
    """Properties of all frames of a clip.

    Attributes
    ----------
    width, height : int
        As shown: after the rotation that the file asks for.
    time_base : Fraction
        Seconds of one unit of time.
    rate : Fraction
        Frames a second, on average.
    bits : int
        Bits of each channel in the file.
    subsampling : str
        '420', '422' or '444'.
    aspect : Fraction
        Width over height of a pixel.
    alpha : bool
    colour : Colour
    loop : int or None
        How often an animation repeats, 0 for ever; None: it does not.
    frames : int or None
        Number of frames that the file claims, where it does.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    bits: int = 8
    subsampling: str = "420"
    aspect: Fraction = Fraction(1)
    alpha: bool = False
    colour: Colour = Colour()
    loop: int | None = None
    frames: int | None = None

    @property
    def dtype(self) -> np.dtype:
        """Of the frames' pixels."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)


def clock(seconds: float) -> str:
    """A time of a clip for people: 1:02:03.40."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}"
