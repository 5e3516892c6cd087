"""Image files to arrays and back: every kind in, orientation applied, metadata carried over, and
never a half-written file. What each format's bytes mean is the format modules' knowledge."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import avif, exif, jpeg, opencv, tiff, tiff_write, webp
from esrgan_ext.inference.formats.metadata import Metadata
from esrgan_ext.inference.headers import (
    MAX_PIXELS,
    SUFFIXES,
    Format,
    check_pixels,
    header_of_bytes,
    read_header,
)

__all__ = [
    "MAX_PIXELS", "ImageFile", "Metadata", "can_hold", "read_image", "replacing", "write_image",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image as read from a file.

    Attributes
    ----------
    path
    pixels
        ..., H, W or ..., H, W, C: uint8, uint16, or for TIFF whatever it holds; RGB order;
        upright.
    channel_axis
        The axis of gray+alpha, RGB or RGBA (the last), or False: planes of gray. It is what
        `Upscaler` takes.
    metadata
        What `write_image` carries over.
    format
        The format of its content, whatever its suffix.
    lossless
        Whether the file keeps pixels exactly.
    tiff
        How a TIFF was laid out.
    """

    path: Path
    pixels: np.ndarray
    channel_axis: int | Literal[False]
    metadata: Metadata
    format: Format
    lossless: bool = True
    tiff: tiff.TiffLayout | None = None


@dataclass(frozen=True)
class _Capacity:
    """What a format can hold: an alpha channel, bits a sample, pixels a side."""

    alpha: bool
    bits: int
    side: int


_CAPACITY: dict[Format, _Capacity] = {
    "png": _Capacity(True, 16, 2**31 - 1),
    "jpeg": _Capacity(False, 8, jpeg.MAX_SIDE),
    "webp": _Capacity(True, 8, webp.MAX_SIDE),
    "bmp": _Capacity(True, 8, 2**31 - 1),
    "avif": _Capacity(True, 8, 65536),
    "jp2": _Capacity(True, 16, 2**31 - 1),
    "pnm": _Capacity(False, 16, 2**31 - 1),
}


def can_hold(suffix: str, *, alpha: bool, bits: int, width: int, height: int) -> bool:
    """Whether a file of this suffix can hold such an image without loss of depth or alpha.

    GIF cannot hold any: 256 colours are not enough for a photograph. Nor can PBM's one bit.
    """
    if suffix.lower() == ".pbm":
        return False
    format = SUFFIXES.get(suffix.lower())
    if format == "tiff":
        return True
    if format is None or format not in _CAPACITY:
        return False
    capacity = _CAPACITY[format]
    return (
        (capacity.alpha or not alpha)
        and bits <= capacity.bits
        and max(width, height) <= capacity.side
    )


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read an image file.

    Parameters
    ----------
    path
        PNG, JPEG, WebP, TIFF (also stacks, ImageJ and OME), BMP, AVIF, JPEG 2000, GIF, PNM; the
        content decides, not the suffix.
    max_pixels
        Files whose header claims more pixels (a plane) are turned down before decoding.

    Returns
    -------
    ImageFile
        Upright pixels (the EXIF or TIFF orientation is applied, and its tag set to 1).

    Raises
    ------
    ImageFileError
        The file is missing, not an image, truncated, damaged, too large or without pixels. The
        message names the file.
    """
    path = Path(path)
    header = read_header(path)
    try:
        check_pixels(header, max_pixels)
        if header.format == "tiff":
            return _read_tiff(path)
        with open(path, "rb") as file:
            data = file.read()
        if header_of_bytes(data).animated or _frames(data, header.format) > 1:
            raise ImageFileError("it is an animation: upscale it by itself, into a file of its own")
        decoded = opencv.decode(data, header.format)
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageFileError(
            f"{path}: {header.width} x {header.height} pixels do not fit into memory"
        ) from error
    for note in decoded.notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    how = exif.orientation(decoded.metadata.exif)
    if header.format == "avif":
        how = avif.inspect(data).orientation  # HEIF's rule: EXIF has no say in it
    return _upright(
        ImageFile(
            path,
            decoded.pixels,
            2 if decoded.pixels.ndim == 3 else False,
            decoded.metadata,
            header.format,
            decoded.lossless,
        ),
        how,
    )


def write_image(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    *,
    like: ImageFile | None = None,
    metadata: Metadata | None = None,
    channel_axis: int | Literal[False] | None = None,
    quality: int = 95,
) -> None:
    """Write an image file, all or nothing: a file of this name appears when it is complete.

    Parameters
    ----------
    path
        Its suffix decides the format. The folder is made if it is missing.
    pixels
        H, W | H, W, C with C = 2 (gray+alpha), 3 (RGB), 4 (RGBA), of uint8, uint16 or bool; for
        TIFF any number of axes in front, and floats.
    like
        The file that the pixels come from: its metadata, channel axis and layout are taken over.
    metadata
        Instead of that of `like`.
    channel_axis
        The axis of the channels, which must be the last, or False for none. Default: that of
        `like`, else the last of three axes with 2, 3 or 4 entries.
    quality
        1 to 100, for JPEG, AVIF and WebP; a WebP that comes from a lossless WebP stays lossless.

    Raises
    ------
    ImageFileError
        The format cannot hold these pixels, or the file cannot be written (full disk, no right);
        the message names the file, and nothing is left behind.
    """
    path = Path(path)
    if metadata is None:
        metadata = like.metadata if like is not None else Metadata()
    if channel_axis is None:
        channel_axis = like.channel_axis if like is not None else _guessed_axis(pixels)
    colour = channel_axis is not False
    if colour and channel_axis not in (-1, pixels.ndim - 1):
        pixels = np.moveaxis(pixels, channel_axis, -1)
    height, width = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    format = SUFFIXES.get(path.suffix.lower())
    if metadata.exif is not None:
        metadata = replace(metadata, exif=exif.updated(metadata.exif, width, height))
    try:
        if format == "tiff":
            factor = _factor(like, width, height)
            layout = like.tiff if like is not None else None
            with replacing(path) as part:
                tiff_write.write(part, pixels, metadata, layout, colour=colour, factor=factor)
            return
        data, notes = _encoded(path, format, pixels, metadata, colour, quality, like)
        with replacing(path) as part, open(part, "xb") as file:
            file.write(data)
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror or error}") from error
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name in the same folder to write to, renamed to `path` when the block ends well.

    When it does not (an error, Ctrl-C), the partial file is removed and `path` stays what it
    was. The folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, so that a folder job passes over what a killed process left behind; the name is
    # cut, because a full-length one would leave no room for the additions.
    part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _encoded(
    path: Path,
    format: Format | None,
    pixels: np.ndarray,
    metadata: Metadata,
    colour: bool,
    quality: int,
    like: ImageFile | None,
) -> tuple[bytes, tuple[str, ...]]:
    if format is None or format == "gif":
        known = ", ".join(s for s, f in SUFFIXES.items() if f != "gif")
        raise ImageFileError(f"no format to write for the suffix {path.suffix!r} (known: {known})")
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageFileError(f"{format.upper()} cannot hold {pixels.dtype} pixels; TIFF can")
    if pixels.ndim != (3 if colour else 2):
        raise ImageFileError(f"{format.upper()} cannot hold a stack of planes; TIFF can")
    channels = pixels.shape[2] if colour else 1
    if channels not in (1, 2, 3, 4):
        raise ImageFileError(f"{format.upper()} cannot hold {channels} channels; TIFF can")
    if channels == 1 and colour:
        pixels = pixels[..., 0]
    height, width = pixels.shape[:2]
    bits = 8 * pixels.dtype.itemsize
    alpha = channels in (2, 4)
    if not can_hold(path.suffix, alpha=alpha, bits=bits, width=width, height=height):
        raise ImageFileError(
            f"{format.upper()} cannot hold {width} x {height} pixels of {bits} bits"
            f"{' with alpha' if alpha else ''}; PNG can"
        )
    lossless = like is not None and like.format == format == "webp" and like.lossless
    return opencv.encode(pixels, format, metadata, quality=quality, lossless=lossless)


def _read_tiff(path: Path) -> ImageFile:
    pixels, metadata, layout = tiff.read(path)
    axis: int | Literal[False] = pixels.ndim - 1 if layout.axes.endswith("S") else False
    image = ImageFile(path, pixels, axis, metadata, "tiff", True, layout)
    return _upright(image, layout.orientation)


def _upright(image: ImageFile, orientation: int) -> ImageFile:
    """The image turned as its orientation (TIFF 6.0, Exif 3.0 4.6.5.1.6) asks."""
    if orientation == 1:
        return image
    rows = image.pixels.ndim - (3 if image.channel_axis is not False else 2)
    columns = rows + 1
    pixels = image.pixels
    if orientation >= 5:  # 5 to 8: rows and columns change places
        pixels = pixels.swapaxes(rows, columns)
    if orientation in (3, 4, 7, 8):
        pixels = np.flip(pixels, rows)
    if orientation in (2, 3, 6, 7):
        pixels = np.flip(pixels, columns)
    metadata = image.metadata
    if metadata.exif is not None:
        height, width = pixels.shape[rows], pixels.shape[columns]
        metadata = replace(metadata, exif=exif.updated(metadata.exif, width, height))
    layout = image.tiff
    if orientation >= 5:
        if metadata.dpi is not None:
            metadata = replace(metadata, dpi=metadata.dpi[::-1])
        if layout is not None and layout.resolution is not None:
            x, y, unit = layout.resolution
            layout = replace(layout, resolution=(y, x, unit))
    return replace(image, pixels=np.ascontiguousarray(pixels), metadata=metadata, tiff=layout)


def _factor(like: ImageFile | None, width: int, height: int) -> tuple[float, float]:
    if like is None:
        return 1.0, 1.0
    rows = like.pixels.ndim - (3 if like.channel_axis is not False else 2)
    return width / like.pixels.shape[rows + 1], height / like.pixels.shape[rows]


def _guessed_axis(pixels: np.ndarray) -> int | Literal[False]:
    return 2 if pixels.ndim == 3 and pixels.shape[2] in (2, 3, 4) else False


def is_animation(path: str | os.PathLike[str]) -> bool:
    """Whether an image file holds several frames; False for what cannot be read."""
    try:
        data = Path(path).read_bytes()
        header = header_of_bytes(data)
        return bool(header.animated) or _frames(data, header.format) > 1
    except (ImageFileError, OSError):
        return False


def _frames(data: bytes, format: Format) -> int:
    """Frames of a GIF; the other formats say in their headers whether they are animations."""
    return opencv.count_frames(data) if format == "gif" else 1
