"""Metadata that travels with the pixels from file to file. Reading and writing it is the
work of the format modules; nothing here knows a file."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Metadata:
    """The parts of an image file that are carried over to the result.

    Attributes
    ----------
    exif
        A TIFF structure beginning with ``II*\\0`` or ``MM\\0*`` (no ``Exif\\0\\0`` in front).
    icc
        An ICC colour profile.
    xmp
        An XMP packet: UTF-8 XML.
    cicp
        Four bytes of coding-independent code points (colour primaries, transfer, matrix, range).
    dpi
        Horizontal and vertical resolution in pixels per inch.
    png_colour
        PNG's own colour chunks (``gAMA``, ``cHRM``, ``sRGB``) as (type, data): they mean
        something only in another PNG.
    iptc
        An IPTC record (IIM), from its first 0x1C.
    texts
        (keyword, text) in the order of the file: PNG's text chunks, and JPEG's comments with the
        keyword "Comment".
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    cicp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    iptc: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()


def fitting_profile(icc: bytes | None, *, gray: bool) -> bytes | None:
    """The profile if it describes pixels of this kind, else None.

    A CMYK file is decoded to RGB and a gray file may carry an RGB profile; attaching such a
    profile to pixels of another colour space is invalid (libpng refuses it) and shows wrong
    colours. The colour space is bytes 16 to 19 of the profile (ICC.1:2022, table 17).
    """
    if icc is None or len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return icc if icc[16:20] == (b"GRAY" if gray else b"RGB ") else None


def is_whole(icc: bytes) -> bool:
    """Whether a profile's size and its table of tags agree with its bytes, as readers demand.

    Size in bytes 0 to 3, number of tags in 128 to 131, 12 bytes a tag (ICC.1:2022, 7.2.2, 7.3).
    """
    (size,), (tags,) = struct.unpack_from(">I", icc), struct.unpack_from(">I", icc, 128)
    return size == len(icc) and 132 + 12 * tags <= size
