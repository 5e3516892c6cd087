"""Meaning of a TIFF's samples: from stored numbers of any depth, palette, colour space and extra
samples to gray, RGB and alpha. Reference: TIFF 6.0, Adobe's technical notes; libtiff (palettes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth, lab
from esrgan_ext.inference.formats.opencv import codec_messages

MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, CMYK, YCBCR = 0, 1, 2, 3, 4, 5, 6
CIELAB, ICCLAB = 8, 9
_RAW = (32803, 34892)  # colour filter array, linear raw
_JPEG = 7
_ASSOCIATED, _UNASSOCIATED = 1, 2
_COLOURS = {
    MINISWHITE: 1, MINISBLACK: 1, RGB: 3, PALETTE: 1, MASK: 1, CMYK: 4, YCBCR: 3, CIELAB: 3,
    ICCLAB: 3,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Converted:
    """Pixels as they are worked on.

    Attributes
    ----------
    pixels
        In the order of `axes`, which ends in "YX", or in "YXS" with S = gray+alpha, RGB or RGBA.
    axes
        With an "S" before "YX", samples are channels each by itself.
    upright
        The decoder has applied the orientation already.
    associated
        The alpha is premultiplied.
    notes
        Sentences for the user: conversions, and parts that were left out.
    """

    pixels: np.ndarray
    axes: str
    upright: bool = False
    associated: bool = False
    notes: tuple[str, ...] = ()


def photometric_of(page: Any) -> int:
    """The photometric interpretation; guessed as libtiff does where the tag is missing."""
    if 262 in page.tags or int(page.photometric) != MINISWHITE:
        return int(page.photometric)
    return RGB if int(page.samplesperpixel) >= 3 else MINISBLACK


def colours_of(page: Any) -> int:
    """Samples of a pixel that are colour."""
    return _COLOURS.get(photometric_of(page), 1)


def is_colour_image(page: Any) -> bool:
    """Whether all its samples together are one image: gray, RGB or YCbCr, and at most an alpha."""
    extra = int(page.samplesperpixel) - colours_of(page)
    return extra == 0 or (extra == 1 and _codes(page)[:1] in ([_ASSOCIATED], [_UNASSOCIATED]))


def is_jpeg_colour(page: Any) -> bool:
    """Whether the decoder turns its YCbCr into RGB."""
    return photometric_of(page) == YCBCR and int(page.compression) == _JPEG


def check_supported(page: Any) -> None:
    """Raise ImageFileError for colour spaces that are not read."""
    photometric = photometric_of(page)
    if photometric in _RAW:
        raise ImageFileError(
            "it is a camera's raw file (DNG or alike): develop it with the camera's program, "
            "darktable or RawTherapee, and save 16-bit TIFF"
        )
    if photometric not in _COLOURS:
        name = getattr(page.photometric, "name", str(photometric))
        raise ImageFileError(f"a TIFF in {name} colours is not read: save it as gray or RGB")
    # tifffile mixes up the bytes of whole numbers of 24 bits.
    if page.dtype is None or (page.dtype.kind == "u" and page.bitspersample == 24):
        raise ImageFileError(
            f"a TIFF of {page.bitspersample} bits a sample in format {int(page.sampleformat)} is "
            "not read: save it in 8, 16 or 32"
        )


def convert(page: Any, series: Any, data: bytes | None = None) -> Converted:
    """Decode a series of pages and convert its samples.

    Parameters
    ----------
    page
        tifffile's key page of the series.
    series
        tifffile's series.
    data
        The whole file, for what OpenCV decodes (YCbCr that is not JPEG's); None refuses that.

    Raises
    ------
    ImageFileError
        Its kind is not read.
    """
    check_supported(page)
    photometric = photometric_of(page)
    if photometric == YCBCR and not is_jpeg_colour(page):
        if data is None:
            raise ImageFileError("a TIFF in YCBCR colours is not read here: save it as RGB")
        return _by_opencv(data, page, series)
    pixels, axes = series.asarray(), str(series.axes)
    if "S" in axes:
        pixels = np.moveaxis(pixels, axes.index("S"), -1)
        axes = axes.replace("S", "") + "S"
    elif photometric in (CIELAB, ICCLAB):  # L* alone is allowed: a* and b* are 0
        neutral = 0 if photometric == CIELAB else 1 << 8 * pixels.dtype.itemsize - 1
        pixels = np.stack([pixels, *[np.full_like(pixels, neutral)] * 2], axis=-1)
        axes += "S"
    elif photometric in (RGB, CMYK, YCBCR):
        raise ImageFileError("the TIFF is damaged: a colour image with one sample a pixel")
    if not axes.rstrip("S").endswith("YX"):
        raise ImageFileError(f"the TIFF's axes {axes!r} do not end in rows and columns")
    if pixels.size == 0:
        raise ImageFileError(f"the image has no pixels (shape {pixels.shape})")
    return _meaning(pixels, axes, page, YCBCR if is_jpeg_colour(page) else photometric)


def _meaning(pixels: np.ndarray, axes: str, page: Any, photometric: int) -> Converted:
    notes: list[str] = []
    bits = page.bitspersample
    if photometric != PALETTE:
        pixels, told = _whole_type(pixels, bits)
        notes += told
    colours, alpha, separate = _samples(axes, pixels.shape, page, photometric, notes)
    opacity = pixels[..., alpha : alpha + 1] if alpha is not None else None
    if separate:  # each sample a channel by itself
        pixels = np.moveaxis(pixels, -1, -3)
        axes = axes[:-3] + "SYX"
        if photometric == MINISWHITE:
            pixels = _inverted(pixels)
        return Converted(pixels, axes, notes=tuple(notes))
    if axes.endswith("S"):
        pixels = pixels[..., :colours]
        if colours == 1:
            pixels, axes = pixels[..., 0], axes[:-1]
    if photometric == MINISWHITE:
        pixels = _inverted(pixels)
    elif photometric == PALETTE:
        pixels, axes = _looked_up(pixels, page), axes + "S"
        if opacity is not None:
            opacity = depth.widened(opacity, (1 << int(bits)) - 1)
            opacity = opacity if opacity.dtype == np.uint8 else (opacity >> 8).astype(np.uint8)
    elif photometric == CMYK:
        pixels = _cmyk_to_rgb(pixels)
        notes.append("CMYK is converted to RGB without its profile")
    elif photometric in (CIELAB, ICCLAB):
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ImageFileError(f"a TIFF in CIELAB of {pixels.dtype} is not read: save it as RGB")
        pixels = lab.to_srgb(pixels, icc=photometric == ICCLAB)
        notes.append("CIELAB is converted to sRGB")
    if opacity is not None:
        if not axes.endswith("S"):
            pixels, axes = pixels[..., None], axes + "S"
        pixels = np.concatenate([pixels, opacity], axis=-1)
    associated = alpha is not None and _codes(page)[alpha - colours] == _ASSOCIATED
    return Converted(pixels, axes, associated=associated, notes=tuple(notes))


def _whole_type(pixels: np.ndarray, bits: Any) -> tuple[np.ndarray, list[str]]:
    """Unsigned samples of 2 to 31 bits over all of the type that holds them."""
    if pixels.dtype.kind != "u" or not isinstance(bits, int) or bits in (8, 16, 32, 64):
        return pixels, []
    wide = depth.widened(pixels, (1 << bits) - 1)
    return wide, [depth.note(bits, wide.dtype)]


def _codes(page: Any) -> list[int]:
    return [int(code) for code in page.extrasamples]


def _samples(
    axes: str, shape: tuple[int, ...], page: Any, photometric: int, notes: list[str]
) -> tuple[int, int | None, bool]:
    """How many samples are colour, the number of the alpha, and whether each is by itself."""
    colours = _COLOURS[photometric]
    count = shape[-1] if axes.endswith("S") else 1
    if count < colours or (photometric == CMYK and int(page.tags.valueof(332) or 1) != 1):
        raise ImageFileError(
            f"a TIFF with {count} samples in {page.photometric.name} colours is not read: save it "
            "as RGB"
        )
    codes = _codes(page)
    codes += [0] * (count - colours - len(codes))
    alphas = [k for k, code in enumerate(codes) if code in (_ASSOCIATED, _UNASSOCIATED)]
    alpha = colours + alphas[0] if alphas and colours + alphas[0] < count else None
    if colours == 1 and count > 1 and photometric != PALETTE:
        if count == 2 and alpha is not None:
            return 1, alpha, False
        return 1, None, True
    left = count - colours - (alpha is not None)
    if left > 0:
        notes.append(
            f"{left} of its {count} samples a pixel {'is' if left == 1 else 'are'} neither colour "
            "nor alpha: left out"
        )
    return colours, alpha, False


def _looked_up(numbers: np.ndarray, page: Any) -> np.ndarray:
    """The colours of a palette, 8 bits each.

    Entries have 16 bits; a map without any above 255 is an old writer's, in 8 (libtiff's rule).
    """
    palette = page.colormap
    if palette is None:
        raise ImageFileError("the TIFF is damaged: its palette is missing")
    palette = np.asarray(palette)
    eight = palette if palette.max(initial=0) < 256 else palette >> 8
    if numbers.size and int(numbers.max()) >= palette.shape[1]:
        raise ImageFileError("the TIFF is damaged: a pixel names an entry beyond its palette")
    if numbers.dtype == np.bool_:
        numbers = numbers.astype(np.uint8)
    return np.moveaxis(eight.astype(np.uint8)[:, numbers], 0, -1)


def _inverted(pixels: np.ndarray) -> np.ndarray:
    """White-is-zero to black-is-zero."""
    if pixels.dtype == np.bool_:
        return ~pixels
    if pixels.dtype.kind in "ui":
        return np.invert(pixels)  # largest - v, for signed ones -1 - v
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    if low >= 0 and high <= 1:
        return 1 - pixels
    raise ImageFileError(
        f"a TIFF of floats with white as zero needs values of 0 to 1, and has {low:g} to {high:g}: "
        "save it with black as zero"
    )


def _cmyk_to_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageFileError(f"a TIFF in CMYK of {pixels.dtype} is not read: save it as RGB")
    top = int(np.iinfo(pixels.dtype).max)
    paper = (top - pixels).astype(np.uint32)
    return ((paper[..., :3] * paper[..., 3:] + top // 2) // top).astype(pixels.dtype)


def _by_opencv(data: bytes, page: Any, series: Any) -> Converted:
    """Pages in YCbCr as uncompressed, LZW or deflate files hold it, subsampled mostly."""
    if page.extrasamples or page.bitspersample != 8:
        raise ImageFileError(
            "a TIFF in YCBCR colours with extra samples or not of 8 bits is not read: save it as "
            "RGB"
        )
    with codec_messages() as messages:
        done, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    pairs = zip(series.shape, series.axes, strict=True)
    stack = [(n, axis) for n, axis in pairs if axis not in "YXS"]
    number = int(np.prod([n for n, _ in stack]))
    if not done or len(pages) < number or pages[0].ndim != 3:
        reason = f": {messages[-1]}" if messages else ""
        raise ImageFileError(f"the TIFF is damaged or of a kind not supported{reason}")
    code = cv2.COLOR_BGR2RGB if pages[0].shape[2] == 3 else cv2.COLOR_BGRA2RGB
    planes = [cv2.cvtColor(one, code) for one in pages[:number]]
    pixels = np.stack(planes).reshape(*(n for n, _ in stack), *planes[0].shape)
    return Converted(pixels, "".join(axis for _, axis in stack) + "YXS", upright=True)
