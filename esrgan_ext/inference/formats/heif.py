"""HEIC and HEIF, as phones write them, through pillow-heif, which is an extra (`formats`): its
wheels carry libheif. Read, not written: the license of the encoder is another than ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth
from esrgan_ext.inference.formats.metadata import Metadata

BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def decode(data: bytes) -> tuple[np.ndarray, Metadata, tuple[str, ...]]:
    """The primary image, upright: H, W or H, W, C of uint8 or uint16; its metadata; notes.

    Raises
    ------
    ImageFileError
        pillow-heif is not installed, or the file is damaged.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageFileError(
            "HEIC files need pillow-heif: pip install 'esrgan-ext[formats]'"
        ) from error
    try:
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
        image = file[file.primary_index]
        pixels = np.array(image)
        info: dict[str, Any] = dict(image.info)
    except Exception as error:  # whatever libheif says of damaged bytes
        raise ImageFileError(f"the HEIC is truncated or damaged: {error}") from error
    notes = []
    if len(file) > 1:
        notes.append(f"it holds {len(file)} images: the primary one is taken")
    bits = int(info.get("bit_depth", 8))
    if pixels.dtype == np.uint16 and bits < 16:  # they stand at the upper end
        pixels = depth.widened(pixels >> (16 - bits), (1 << bits) - 1)
        notes.append(depth.note(bits, pixels.dtype))
    exif = info.get("exif")
    return (
        pixels,
        Metadata(
            exif=bytes(exif).removeprefix(b"Exif\0\0") if exif else None,
            icc=info.get("icc_profile") or None,
            xmp=info.get("xmp") or None,
        ),
        tuple(notes),
    )
