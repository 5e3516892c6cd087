"""Limits of each format, and whether a disk has room for a result: asked before the network works,
of a header or of an image that is read, and once more when the file is written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import jpeg, webp
from esrgan_ext.inference.headers import SUFFIXES, Format


@dataclass(frozen=True)
class Facts:
    """A result, as far as it is known before there is one.

    Attributes
    ----------
    width, height
    channels
        1 gray, 2 gray+alpha, 3 RGB, 4 RGBA.
    dtype
        Type of its samples.
    planes
        Images of a stack.
    """

    width: int
    height: int
    channels: int
    dtype: np.dtype
    planes: int = 1

    @property
    def bytes(self) -> int:
        """Size of its pixels."""
        return self.width * self.height * self.channels * self.planes * self.dtype.itemsize


@dataclass(frozen=True)
class _Capacity:
    """Limits of a format.

    Attributes
    ----------
    alpha
    types
        Dtypes of samples: letter and bytes, as numpy has them. A bool is written as uint8.
    side
        Largest width and height, in pixels.
    least
        Bytes of a file per byte of its pixels, below which no photograph comes: with less free
        space than that the work need not begin.
    """

    alpha: bool
    types: tuple[str, ...]
    side: int
    least: float


_CAPACITY: dict[Format, _Capacity] = {
    "png": _Capacity(True, ("u1", "u2"), 2**31 - 1, 0.01),
    "jpeg": _Capacity(False, ("u1",), jpeg.MAX_SIDE, 0.005),
    "webp": _Capacity(True, ("u1",), webp.MAX_SIDE, 0.001),
    "bmp": _Capacity(True, ("u1",), 2**31 - 1, 1.0),
    "avif": _Capacity(True, ("u1",), 65536, 0.001),
    "jp2": _Capacity(True, ("u1", "u2"), 2**31 - 1, 0.01),
    "jxl": _Capacity(True, ("u1", "u2", "f4"), 2**30, 0.005),
    "hdr": _Capacity(False, ("f4",), 2**30, 0.1),
    "exr": _Capacity(True, ("f2", "f4"), 2**30, 0.1),
    "pnm": _Capacity(False, ("u1", "u2"), 2**31 - 1, 1.0),
}
# Formats whose results have at least so large a part of the bytes that a compressed source has for
# as many pixels: PNGs of photographs enlarged by 4 took 0.6 of a PNG's, 0.75 of a JPEG's, and more.
_LOSSLESS, _OF_SOURCE = ("png", "tiff", "bmp", "jp2", "pnm"), 0.25
_FLOATS = _Capacity(False, ("f4",), 2**31 - 1, 1.0)


def writable_suffixes() -> list[str]:
    """Suffixes that results can have."""
    return [suffix for suffix, format in SUFFIXES.items() if format == "tiff" or _capacity(suffix)]


def can_hold(suffix: str, *, alpha: bool, bits: int, width: int, height: int) -> bool:
    """Whether a file of this suffix can hold such an image without loss of depth or alpha.

    GIF cannot hold any: 256 colours are not enough for a photograph. Nor can PBM's one bit.
    """
    kind = np.dtype("f4" if bits > 16 else "u2" if bits > 8 else "u1")
    return holds(suffix, Facts(width, height, 4 if alpha else 3, kind))


def holds(suffix: str, facts: Facts) -> bool:
    """Whether a file of this suffix can hold such a result as it is."""
    return _reason(suffix, facts) is None


def check_target(path: Path, results: Sequence[Facts]) -> None:
    """Check that a file can hold these images.

    Raises
    ------
    ImageFileError
        It cannot, or the disk has no room for them.
    """
    suffix = path.suffix.lower()
    if suffix not in writable_suffixes():
        known = ", ".join(writable_suffixes())
        raise ImageFileError(f"no format to write for the suffix {path.suffix!r} (known: {known})")
    if len(results) > 1 and SUFFIXES[suffix] != "tiff":
        raise ImageFileError(
            f"{SUFFIXES[suffix].upper()} cannot hold {len(results)} images; TIFF can, and --series "
            "chooses one of them"
        )
    for facts in results:
        reason = _reason(suffix, facts)
        if reason is not None:
            raise ImageFileError(f"{SUFFIXES[suffix].upper()} cannot hold {reason}")


def check_space(
    path: Path, results: Sequence[Facts], source: Path | None = None, factor: float = 1.0
) -> None:
    """Raise ImageFileError if the disk cannot have room for these images.

    Parameters
    ----------
    path
    results
    source
        The file that they come from, if it is a compressed one: what it could not be packed into, a
        lossless result cannot either.
    factor
        Output pixels per input pixel, of a side.
    """
    suffix = path.suffix.lower()
    capacity = _capacity(suffix)
    least = 0.01 if capacity is None else capacity.least
    needed = sum(facts.bytes for facts in results) * least
    if source is not None and source.is_file() and SUFFIXES.get(suffix) in _LOSSLESS:
        needed = max(needed, _OF_SOURCE * factor**2 * source.stat().st_size)
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ImageFileError(
            f"{path.name} needs {needed / 1e6:.0f} MB at the very least, and {folder} has "
            f"{free / 1e6:.0f} MB free: make room, or give another folder"
        )


def _capacity(suffix: str) -> _Capacity | None:
    if suffix in (".pbm", ".pam"):
        return None
    if suffix == ".pfm":
        return _FLOATS
    format = SUFFIXES.get(suffix)
    return None if format is None else _CAPACITY.get(format)


def _reason(suffix: str, facts: Facts) -> str | None:
    """Why a file cannot hold a result, and which format can; None where it can."""
    suffix = suffix.lower()
    if SUFFIXES.get(suffix) == "tiff":
        return None
    capacity = _capacity(suffix)
    if capacity is None:
        return "photographs; PNG can"
    if facts.planes > 1:
        return "a stack of planes; TIFF can"
    kind = np.dtype(np.uint8) if facts.dtype == np.bool_ else facts.dtype
    code = f"{kind.kind}{kind.itemsize}"
    if code not in (*capacity.types, "u1", "u2"):
        return f"{facts.dtype} pixels; TIFF can"
    if facts.channels > 4:
        return f"{facts.channels} channels; TIFF can"
    alpha = facts.channels in (2, 4)
    if (
        code not in capacity.types
        or (alpha and not capacity.alpha)
        or max(facts.width, facts.height) > capacity.side
    ):
        return (
            f"{facts.width} x {facts.height} pixels of {8 * kind.itemsize} bits"
            f"{' with alpha' if alpha else ''}; PNG can"
        )
    return None


def holds_types(format: Format) -> str:
    """Pixel types of a format's results, for people; empty where none are written."""
    if format == "tiff":
        return "every type, alpha, stacks, several images"
    capacity = _CAPACITY.get(format)
    if capacity is None:
        return ""
    names = {"u1": "8", "u2": "16", "f2": "16-bit floats", "f4": "32-bit floats"}
    held = " and ".join(filter(None, (
        " or ".join(names[kind] for kind in capacity.types if kind[0] == "u")
        + (" bits" if capacity.types[0][0] == "u" else ""),
        " or ".join(names[kind] for kind in capacity.types if kind[0] == "f"),
    )))  # fmt: skip
    return held + (", alpha" if capacity.alpha else "")
