"""OpenCV's decoders and encoders, on bytes (its file functions cannot open every path on every
platform), with what they leave out filled in from the format modules: DPI, PNG's XMP and
gray+alpha, large profiles. Arrays are RGB here and everywhere else; BGR ends in this file."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import cv2
import numpy as np

from esrgan_ext.errors import ImageFileError, first_line
from esrgan_ext.inference.formats import (
    avif,
    bmp,
    depth,
    exif,
    floats,
    heif,
    jp2,
    jpeg,
    jxl,
    png,
    pnm,
    webp,
)
from esrgan_ext.inference.formats.kept import COMMENT, lost
from esrgan_ext.inference.formats.metadata import Metadata, fitting_profile, is_whole

_EXIF, _XMP, _ICC, _CICP = (
    cv2.IMAGE_METADATA_EXIF,
    cv2.IMAGE_METADATA_XMP,
    cv2.IMAGE_METADATA_ICCP,
    cv2.IMAGE_METADATA_CICP,
)
# Which kinds of metadata OpenCV's encoders write so that other programs find them (5.0, tested
# against Pillow).
_WRITTEN = {
    "jpeg": (_EXIF, _ICC, _XMP),
    "webp": (_EXIF, _ICC, _XMP),
    "avif": (_EXIF, _ICC, _XMP),
}
# The suffix by which OpenCV chooses its encoder.
_ENCODERS = {
    "jpeg": ".jpg",
    "webp": ".webp",
    "bmp": ".bmp",
    "avif": ".avif",
}
_CODEC_LINE = re.compile(
    rb"^(libpng (warning|error)|\[ ?[A-Z]+:\d+@|Corrupt JPEG|Premature end of JPEG|Invalid SOS"
    rb"|Invalid JPEG|Unsupported marker|Inconsistent progression|Warning: unknown JFIF)"
)
_capture_lock = threading.Lock()


@contextmanager
def codec_messages() -> Iterator[list[str]]:
    """Collect what the codecs (C code) print to stderr, instead of showing it.

    libpng, libjpeg and OpenCV's log write to file descriptor 2 past Python. It is pointed at a
    temporary file while the codec runs; lines that are not a codec's (another thread's) are
    printed afterwards, so nothing of others is lost.
    """
    messages: list[str] = []
    with _capture_lock:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all: pythonw, a daemon
            yield messages
            return
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield messages
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                sink.seek(0)
                for line in sink.read().splitlines(keepends=True):
                    if _CODEC_LINE.match(line):
                        messages.append(line.decode(errors="replace").strip())
                    elif line.strip():
                        with suppress(OSError):
                            os.write(2, line)


@dataclass(frozen=True, eq=False)
class Decoded:
    """One decoded image.

    Attributes
    ----------
    pixels
        H, W (gray) or H, W, C with C = 2 (gray+alpha), 3 (RGB), 4 (RGBA), uint8 or uint16, as
        stored: the orientation is not applied yet.
    metadata
        EXIF, XMP and the like, to be carried over to the result.
    lossless
        Whether the file keeps pixels exactly.
    notes
        Sentences for the user about a file that could be read all the same.
    """

    pixels: np.ndarray
    metadata: Metadata
    lossless: bool
    notes: tuple[str, ...] = ()


def decode(data: bytes, format: str) -> Decoded:
    """Decode a still image that is not a TIFF.

    Parameters
    ----------
    data
        The whole file.
    format
        Its format, as `headers.read_header` names it.

    Raises
    ------
    ImageFileError
        The file is truncated or damaged, or OpenCV cannot read its kind.
    """
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    colour: tuple[tuple[bytes, bytes], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    iptc: bytes | None = None
    lossless = format not in ("jpeg", "avif", "jp2")
    icc: bytes | None = None
    bits = 16
    to_decode, png_info = data, None
    if format == "png":
        png_info = png.inspect(data)
        dpi, xmp, colour = png_info.dpi, png_info.xmp, png_info.colour_chunks
        texts = png_info.texts
        to_decode = png.pixel_chunks(data)
    elif format == "jpeg":
        jpeg_info = jpeg.inspect(data)
        dpi, iptc = jpeg_info.dpi, jpeg_info.iptc
        texts = tuple((COMMENT, text) for text in jpeg_info.comments)
        if jpeg_info.is_special:
            return _decoded_jpeg(data, jpeg_info)
    elif format == "webp":
        lossless = webp.inspect(data).lossless
    elif format == "bmp":
        return Decoded(bmp.decode(data), Metadata(dpi=bmp.inspect(data).dpi), lossless)
    elif format == "avif":
        container = avif.inspect(data)
        icc, bits, xmp = container.icc, container.bits, container.xmp
    elif format == "jp2":
        pixels, notes = jp2.decode(data)
        return Decoded(pixels, jp2.inspect(data).metadata, lossless, notes)
    elif format == "pnm":
        return _decoded_pnm(data)
    elif format == "jxl":
        pixels, notes = jxl.decode(data)
        metadata, more = jxl.metadata(data)
        return Decoded(pixels, metadata, lossless, notes + more)
    elif format == "heif":
        pixels, metadata, notes = heif.decode(data)
        return Decoded(pixels, metadata, False, notes)
    elif format == "hdr":
        pixels, notes = floats.decode_hdr(data)
        return Decoded(pixels, Metadata(), lossless, notes)
    elif format == "exr":
        pixels, notes = floats.decode_exr(data)
        return Decoded(pixels, Metadata(), lossless, notes)

    try:
        with codec_messages() as messages:
            pixels, kinds, blocks = cv2.imdecodeWithMetadata(
                np.frombuffer(to_decode, np.uint8), cv2.IMREAD_UNCHANGED
            )
    except cv2.error as error:
        raise ImageFileError(f"OpenCV cannot decode it: {first_line(error)}") from error
    if any("CV_IO_MAX_IMAGE" in message for message in messages):
        raise ImageFileError(
            "the image is larger than OpenCV's own limit; raise it with the environment variable "
            "OPENCV_IO_MAX_IMAGE_PIXELS, or convert the file to TIFF"
        )
    if pixels is None or pixels.size == 0:
        reason = f": {_reason(messages)}" if messages else ""
        raise ImageFileError(f"the {format.upper()} is damaged or of a kind not supported{reason}")
    if any("premature end" in message.lower() for message in messages):
        raise ImageFileError("the JPEG is damaged: its pixels end before the picture does")
    if pixels.dtype == np.uint16 and bits < 16:
        # OpenCV leaves AVIF's 10 and 12 bits at the low end.
        pixels = depth.widened(np.asarray(pixels, np.uint16), (1 << bits) - 1)
    notes = tuple(f"the decoder says: {message}" for message in messages if "JPEG" in message)
    found = {int(kind): block.tobytes() for kind, block in zip(kinds, blocks, strict=False)}
    xmp = xmp or found.get(_XMP)
    if xmp is not None:
        xmp = xmp.removeprefix(jpeg.XMP_HEADER)  # OpenCV leaves JPEG's namespace in front
    exif_block = found.get(_EXIF)
    if exif_block is not None:
        exif_block = exif_block.removeprefix(b"Exif\0\0")
    metadata = Metadata(
        exif=exif_block,
        icc=icc or found.get(_ICC),
        xmp=xmp,
        cicp=found.get(_CICP),
        dpi=dpi or exif.resolution(exif_block),
        png_colour=colour,
        iptc=iptc,
        texts=texts,
    )
    return Decoded(_rgb(pixels, png_info), metadata, lossless, notes)


def _decoded_jpeg(data: bytes, info: jpeg.JpegInfo) -> Decoded:
    pixels, notes = jpeg.decode(data, info)
    metadata = Metadata(
        exif=info.exif,
        icc=info.icc,
        xmp=info.xmp,
        dpi=info.dpi or exif.resolution(info.exif),
        iptc=info.iptc,
        texts=tuple((COMMENT, text) for text in info.comments),
    )
    return Decoded(pixels, metadata, False, notes)


def _decoded_pnm(data: bytes) -> Decoded:
    info, pixels = pnm.inspect(data), pnm.decode(data)
    notes = []
    # A file of one bit has but black and white, in whatever type.
    if info.largest not in (0, 1, 255, 65535):
        top = np.iinfo(pixels.dtype).max
        notes.append(f"its largest value {info.largest} is scaled to {top}, and so is the result's")
    if pnm.holds_more(data, info):
        notes.append("it holds more than one image: the first is taken, the others are left out")
    return Decoded(pixels, Metadata(), True, tuple(notes))


def count_frames(data: bytes) -> int:
    """Frames of a GIF, of which two at most are decoded; 0 where it cannot be decoded."""
    with codec_messages():
        done, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8), 0, 2)
    return len(animation.frames) if done else 0


def encode(
    pixels: np.ndarray,
    format: str,
    metadata: Metadata,
    *,
    quality: int,
    lossless: bool,
    bare: bool = False,
    png_level: int = png.DEFAULT_LEVEL,
) -> tuple[bytes, tuple[str, ...]]:
    """Encode one image; returns the file's bytes and what the user should hear about them.

    Parameters
    ----------
    pixels
        H, W or H, W, C with C = 2, 3, 4; uint8 or uint16, what the format can hold.
    format
        Its name as in `headers.Format`; all but "tiff" and "gif".
    metadata
        EXIF, XMP and the like; the part that the format can carry is written.
    quality
        1 to 100, for JPEG, AVIF and lossy WebP.
    lossless
        Ask for exact pixels where the format leaves the choice (WebP).
    bare
        Write JPEG 2000's codestream without the boxes of a JP2 file.
    png_level
        See `png.encode`.

    Raises
    ------
    ImageFileError
        OpenCV cannot encode these pixels in this format.
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    notes = lost("j2k" if bare else format, metadata, gray=channels <= 2)
    if format == "pnm":
        return pnm.encode(pixels), tuple(notes)
    if format == "jp2":
        icc = fitting_profile(metadata.icc, gray=channels <= 2)
        return jp2.encode(pixels, replace(metadata, icc=icc), bare=bare), tuple(notes)
    if format == "jxl":
        return jxl.encode(pixels, metadata), tuple(notes)
    if format == "hdr":
        return floats.encode_hdr(pixels), tuple(notes)
    if format == "exr":
        return floats.encode_exr(pixels), tuple(notes)
    icc = fitting_profile(metadata.icc, gray=channels <= 2)
    exif_block, dpi = metadata.exif, metadata.dpi
    if dpi is not None and format in ("webp", "avif"):
        # These have no other place for a resolution.
        exif_block = exif.with_resolution(exif_block, dpi)
    if format == "jpeg" and exif_block and len(exif_block) > jpeg.MAX_SEGMENT - 6:
        notes.append("a JPEG has no room for EXIF of more than 64 KiB: left out")
        exif_block = None

    if format == "png":
        if icc is not None and not is_whole(icc):
            notes.append("the source's colour profile is damaged: written without")
            icc = None
        data = _finished_png(png.encode(pixels, level=png_level), metadata, exif_block, icc)
    else:
        if channels == 2:
            pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=2)
        room = jpeg.MAX_SEGMENT - 14 if format == "jpeg" else None
        blocks = {
            _EXIF: exif_block,
            _ICC: icc if room is None or len(icc or b"") <= room else None,
            _XMP: metadata.xmp,
        }
        if format == "jpeg" and metadata.xmp is not None:
            whole = jpeg.XMP_HEADER + metadata.xmp
            blocks[_XMP] = whole if len(whole) <= jpeg.MAX_SEGMENT else None
        options = _options(format, quality, lossless)
        kept = {k: v for k, v in blocks.items() if v and k in _WRITTEN.get(format, ())}
        data, refused = _encode(_bgr(pixels), _ENCODERS[format], kept, options)
        if refused:
            notes.append("the encoder refused the source's metadata (damaged?): written without")

    if format == "jpeg":
        if dpi is not None:
            data = jpeg.with_density(data, dpi)
        if icc is not None and len(icc) > jpeg.MAX_SEGMENT - 14:
            data = jpeg.with_profile(data, icc)
        comments = tuple(text for keyword, text in metadata.texts if keyword == COMMENT)
        data = jpeg.with_comments(data, comments, metadata.iptc)
    elif format == "bmp" and dpi is not None:
        data = bmp.with_density(data, dpi)
    return data, tuple(notes)


def _finished_png(
    data: bytes, metadata: Metadata, exif_block: bytes | None, icc: bytes | None
) -> bytes:
    own: list[tuple[bytes, bytes]] = list(metadata.png_colour)
    if icc is not None:
        # With a profile an sRGB chunk must not be (PNG, 11.3.2.5).
        own = [(kind, body) for kind, body in own if kind != b"sRGB"]
    own += png.metadata_chunks(exif=exif_block, icc=icc, cicp=metadata.cicp)
    return png.insert(
        data, dpi=metadata.dpi, xmp=metadata.xmp, colour_chunks=tuple(own), texts=metadata.texts
    )


def _encode(
    pixels: np.ndarray, suffix: str, blocks: dict[int, bytes], options: list[int]
) -> tuple[bytes, bool]:
    """One call of the encoder; a second one without metadata where the first fails over it.

    Returns the bytes, and whether the metadata was refused.
    """
    for attempt in (blocks, {}):
        try:
            with codec_messages() as messages:
                done, buffer = cv2.imencodeWithMetadata(
                    suffix,
                    pixels,
                    list(attempt),
                    [np.frombuffer(block, np.uint8) for block in attempt.values()],
                    options,
                )
        except cv2.error as error:
            raise ImageFileError(
                f"OpenCV cannot encode a {suffix} file: {first_line(error)}"
            ) from error
        if done:
            return buffer.tobytes(), bool(blocks) and not attempt
        if not blocks:
            break
    reason = f": {_reason(messages)}" if messages else ""
    raise ImageFileError(f"OpenCV cannot encode {pixels.shape} pixels as {suffix}{reason}")


def _options(format: str, quality: int, lossless: bool) -> list[int]:
    if format == "jpeg":
        # 4:4:4 from 95 on: a file this large should not lose its colour resolution.
        sampling = (
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
            if quality >= 95
            else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        )
        return [
            *(cv2.IMWRITE_JPEG_QUALITY, quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling),
            *(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        ]
    if format == "webp":
        if lossless:
            # Colour under transparent pixels is kept too: it is not premultiplied here.
            return [
                *(cv2.IMWRITE_WEBP_QUALITY, 101),
                *(cv2.IMWRITE_WEBP_LOSSLESS_MODE, cv2.IMWRITE_WEBP_LOSSLESS_PRESERVE_COLOR),
            ]
        return [cv2.IMWRITE_WEBP_QUALITY, quality]
    if format == "avif":
        return [cv2.IMWRITE_AVIF_QUALITY, quality]
    return []


def _rgb(pixels: np.ndarray, info: png.PngInfo | None) -> np.ndarray:
    """From OpenCV's channel order; gray with transparency back to two channels."""
    if info is not None and info.colour_type == png.GRAY_ALPHA and pixels.ndim == 3:
        return np.ascontiguousarray(pixels[..., 2:4])  # B = G = R
    if info is not None and info.transparent_gray is not None and pixels.ndim == 2:
        # OpenCV widens 1, 2 and 4 bits to 8; the transparent value widens alike.
        top = np.iinfo(pixels.dtype).max
        value = info.transparent_gray * (255 // (2**info.bits - 1) if info.bits < 8 else 1)
        alpha = np.where(pixels == value, 0, top).astype(pixels.dtype)
        return np.stack([pixels, alpha], axis=2)
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    if pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)


def _bgr(pixels: np.ndarray) -> np.ndarray:
    pixels = np.ascontiguousarray(pixels)
    if pixels.ndim == 2:
        return pixels
    code = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    return cv2.cvtColor(pixels, code)


def _reason(messages: list[str]) -> str:
    """The codec's own words, without OpenCV's log prefix and source paths."""
    text = messages[-1]
    found = re.search(r"error: \([^)]*\) (.*?)(?: in function .*)?$", text)
    return found.group(1) if found else re.sub(r"^(\[.*?\]\s+global \S+ \S+ )", "", text)
