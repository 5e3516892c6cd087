"""Samples of any depth as samples of a whole type. A file says which value is its largest; the
type that holds the samples has another, and everything behind here takes that for white."""

from __future__ import annotations

import numpy as np


def holding(largest: int) -> np.dtype:
    """The smallest of uint8, uint16 and uint32 that holds values up to `largest`."""
    for kind in (np.uint8, np.uint16, np.uint32):
        if largest <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise ValueError(f"no type for samples up to {largest}")


def widened(samples: np.ndarray, largest: int) -> np.ndarray:
    """Samples of 0 to `largest` as the smallest unsigned type that holds them, over all its range.

    0 stays 0, `largest` becomes the type's largest value, and what lies between is rounded to the
    nearest. Samples beyond `largest` (a damaged or careless file) become the largest.

    Parameters
    ----------
    samples
        Unsigned integers of any shape.
    largest
        The value that means white, 1 to 2**32 - 1.
    """
    kind = holding(largest)
    top = int(np.iinfo(kind).max)
    if largest == top:
        return samples.astype(kind, copy=False)
    if largest <= 0xFFFF:
        values = np.arange(largest + 1, dtype=np.uint64)
        table = ((values * top + largest // 2) // largest).astype(kind)
        return table[np.minimum(samples, largest)]
    scaled = np.minimum(samples, largest).astype(np.float64) * (top / largest)
    return np.rint(scaled).astype(kind)


def unpremultiplied(pixels: np.ndarray) -> np.ndarray:
    """Colours of ..., C, whose last channel they were multiplied by, as they were before; what is
    fully transparent stays. Integers, or floats whose opacity is 0 to 1."""
    if pixels.dtype.kind == "f":
        seen = np.where(pixels[..., -1:] > 0, pixels[..., -1:], 1)
        return np.concatenate([pixels[..., :-1] / seen, pixels[..., -1:]], axis=-1)
    top = int(np.iinfo(pixels.dtype).max)
    opacity = pixels[..., -1:].astype(np.uint64)
    colours = (pixels[..., :-1] * np.uint64(top) + opacity // 2) // np.maximum(opacity, 1)
    colours = np.where(opacity == 0, pixels[..., :-1], np.minimum(colours, top))
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], axis=-1)


def note(bits: int, kind: np.dtype) -> str:
    """The sentence for the user where a file's depth is not that of its result."""
    return f"its {bits} bits a sample are scaled to {8 * kind.itemsize}, and so are the result's"
