"""Image files to arrays and back: every kind in, orientation applied, metadata carried over, and
never a half-written file. What each format's bytes mean is the format modules' knowledge."""

from __future__ import annotations

import math
import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.capacity import Facts, can_hold, check_target
from esrgan_ext.inference.formats import avif, depth, exif, opencv, tiff, tiff_write
from esrgan_ext.inference.formats.metadata import Metadata
from esrgan_ext.inference.formats.png import DEFAULT_LEVEL as PNG_LEVEL
from esrgan_ext.inference.formats.tiff_details import lost as lost_details
from esrgan_ext.inference.headers import (
    MAX_PIXELS,
    SUFFIXES,
    Format,
    check_pixels,
    header_of_bytes,
    read_header,
)

__all__ = [
    "MAX_PIXELS", "PNG_LEVEL", "ImageFile", "Metadata", "can_hold", "read_image", "replacing",
    "write_image",
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
        EXIF, XMP and the like, which `write_image` carries over.
    format
        The format of its content, whatever its suffix.
    lossless
        Whether the file keeps pixels exactly.
    tiff
        How a TIFF was laid out.
    further
        The other images of a file that holds several (a TIFF's further series).
    """

    path: Path
    pixels: np.ndarray
    channel_axis: int | Literal[False]
    metadata: Metadata
    format: Format
    lossless: bool = True
    tiff: tiff.TiffLayout | None = None
    further: tuple[ImageFile, ...] = ()


def facts_of(shape: tuple[int, ...], image: ImageFile) -> Facts:
    """A result of this shape, made from `image`."""
    last = 1 if image.channel_axis is False else shape[-1]
    rows = len(shape) - (2 if image.channel_axis is False else 3)
    planes = math.prod(shape[:rows])
    return Facts(shape[rows + 1], shape[rows], last, image.pixels.dtype, planes)


def read_image(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, series: int | None = None
) -> ImageFile:
    """Read an image file.

    Parameters
    ----------
    path
        PNG, JPEG, WebP, TIFF (also stacks, ImageJ and OME), BMP, AVIF, JPEG 2000, GIF, PNM; the
        content decides, not the suffix.
    max_pixels
        Files whose header claims more pixels (a plane) are turned down before decoding.
    series
        Number of the image to read, from 0, in a TIFF that holds several. By default all are read,
        the others into `further`.

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
            return _read_tiff(path, max_pixels, series)
        if series:
            raise ImageFileError(f"it holds one image (series 0); there is no series {series}")
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
    elif header.format == "heif":
        how = 1  # turned by its decoder
        if decoded.metadata.exif is not None:
            height, width = decoded.pixels.shape[:2]
            upright = exif.updated(decoded.metadata.exif, width, height)
            decoded = replace(decoded, metadata=replace(decoded.metadata, exif=upright))
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
    png_level: int = PNG_LEVEL,
    further: Sequence[tuple[ImageFile, np.ndarray]] = (),
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
    png_level
        Effort of a PNG's compression, 0 (none) to 12.
    further
        More images for the same TIFF, each with the one it comes from.

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
            pages = [_page(pixels, like, metadata, colour)]
            if further:
                pages += [_further_page(one, result) for one, result in further]
            with replacing(path) as part:
                notes = tiff_write.write(part, pages)
            _tell(path, notes)
            return
        if further:
            raise ImageFileError(f"only TIFF can hold {len(further) + 1} images")
        data, notes = _encoded(path, format, pixels, metadata, colour, quality, png_level, like)
        with replacing(path) as part, open(part, "xb") as file:
            file.write(data)
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror or error}") from error
    _tell(path, notes)


def _tell(path: Path, notes: tuple[str, ...]) -> None:
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=3)


def _page(
    pixels: np.ndarray, like: ImageFile | None, metadata: Metadata, colour: bool
) -> tiff_write.Page:
    height, width = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    layout = like.tiff if like is not None else None
    return tiff_write.Page(pixels, metadata, layout, colour, _factor(like, width, height))


def _further_page(like: ImageFile, pixels: np.ndarray) -> tiff_write.Page:
    metadata, colour = like.metadata, like.channel_axis is not False
    if metadata.exif is not None:
        height, width = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
        metadata = replace(metadata, exif=exif.updated(metadata.exif, width, height))
    return _page(pixels, like, metadata, colour)


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
    png_level: int,
    like: ImageFile | None,
) -> tuple[bytes, tuple[str, ...]]:
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if colour and pixels.shape[-1] == 1:
        pixels, colour = pixels[..., 0], False
    height, width = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    channels = pixels.shape[-1] if colour else 1
    planes = math.prod(pixels.shape[: pixels.ndim - (3 if colour else 2)])
    check_target(path, [Facts(width, height, channels, pixels.dtype, planes)])
    assert format is not None
    bare = path.suffix.lower() in (".j2k", ".j2c", ".jpc")
    lossless = like is not None and like.format == format == "webp" and like.lossless
    layout = like.tiff if like is not None else None
    if layout is not None and layout.associated_alpha and channels in (2, 4) and format != "exr":
        pixels = depth.unpremultiplied(pixels)  # but for OpenEXR, these want colours as they are
    data, notes = opencv.encode(
        pixels, format, metadata, quality=quality, lossless=lossless, bare=bare, png_level=png_level
    )
    if layout is not None:
        names = lost_details(layout.kind, layout.details, layout.geo)
        if names:
            notes += (f"{format.upper()} cannot keep {' and '.join(names)}",)
    return data, notes


def _read_tiff(path: Path, max_pixels: int, series: int | None) -> ImageFile:
    images = []
    for one in tiff.read(path, series=series, max_pixels=max_pixels):
        for note in one.notes:
            warnings.warn(f"{path}: {note}", stacklevel=3)
        axis: int | Literal[False] = one.pixels.ndim - 1 if one.layout.axes[-1] == "S" else False
        image = ImageFile(path, one.pixels, axis, one.metadata, "tiff", True, one.layout)
        images.append(_upright(image, one.layout.orientation))
    return replace(images[0], further=tuple(images[1:]))


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
