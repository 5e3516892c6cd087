"""Encodes frames into packets, a segment at a time, and says how a clip is best encoded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorRange

from esrgan_ext.errors import ImageFileError, OptionError
from esrgan_ext.inference.video.frames import Clip, Frame
from esrgan_ext.inference.video.source import SCALING

# What plays everywhere, by container; webm admits no other family.
_CODECS = {".webm": "libvpx-vp9"}
_USUAL_CODEC = "libx264"
# Constant quality at which the loss is hard to see: two steps below x264's own default of 23 for
# each factor of two in pixels that an upscaled picture has more than it has detail.
_QUALITY = {"libx264": 18, "libx265": 20, "libvpx-vp9": 28, "libsvtav1": 26}
_WORST = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}
# Up to this many bits; x264 knows 8 and 10.
_DEPTHS = (8, 10)


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes
    ----------
    codec, pixel_format : str
        ffmpeg's names.
    crf : int or None
        Constant quality: 0 is best. None for codecs that have none.
    width, height : int
        Width and height of the encoded picture.
    time_base, rate, aspect : Fraction
    colour : tuple of int
        Matrix, full range, primaries, transfer.
    global_header : bool
        Whether the container keeps the codec's parameters instead of the packets.
    reordered : bool
        Whether frames may be stored in another order than they are shown in. Not in AVI.
    """

    codec: str
    pixel_format: str
    crf: int | None
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    colour: tuple[int, bool, int, int]
    global_header: bool
    reordered: bool = True

    def described(self) -> dict[str, Any]:
        """In plain types, to be compared with that of an earlier run."""
        return {
            key: str(value) if isinstance(value, Fraction) else value
            for key, value in asdict(self).items()
        }


def encoding_for(
    clip: Clip,
    target: Path,
    size: tuple[int, int],
    *,
    codec: str | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
) -> tuple[Encoding, list[str]]:
    """Settle how a clip is encoded for a file, and what is to be said of it.

    Parameters
    ----------
    clip
        The source: its depth and chroma subsampling are kept.
    target
        Its suffix says the container.
    size : (int, int)
        Height and width of the upscaled frames.
    codec, crf, pixel_format
        The user's wishes, in ffmpeg's names.

    Raises
    ------
    OptionError
        No such codec here, or one that cannot take this format or goes into no such container.
    """
    notes = []
    codec = codec or _CODECS.get(target.suffix.lower(), _USUAL_CODEC)
    try:
        known = av.codec.Codec(codec, "w")
    except (av.error.FFmpegError, ValueError) as error:
        raise OptionError(f"there is no encoder {codec!r} here") from error
    if known.type != "video":
        raise OptionError(f"{codec} encodes no video")
    codec = known.name
    if crf is not None and not 0 <= crf <= _WORST.get(codec, 63):
        raise OptionError(f"crf must be 0 to {_WORST.get(codec, 63)} for {codec}, not {crf}")
    formats = [form.name for form in known.video_formats or []]
    if pixel_format is None:
        bits = next((depth for depth in _DEPTHS if depth >= clip.bits), _DEPTHS[-1])
        wanted = f"yuv{clip.subsampling}p{'' if bits == 8 else f'{bits}le'}"
        pixel_format = wanted if wanted in formats or not formats else formats[0]
        if pixel_format != wanted or clip.bits > bits:
            notes.append(f"{clip.bits} bits and {clip.subsampling} become {pixel_format}")
    elif formats and pixel_format not in formats:
        raise OptionError(f"{codec} takes no {pixel_format}; it takes {', '.join(formats)}")
    height, width = size
    even_width = width + (width % 2 if "420" in pixel_format or "422" in pixel_format else 0)
    even_height = height + (height % 2 if "420" in pixel_format else 0)
    if (even_height, even_width) != size:
        notes.append(
            f"{width} x {height} is odd, which {pixel_format} cannot be: "
            "the last row or column stands twice"
        )
    colour = clip.colour
    global_header: Any = av.format.Flags.global_header.value
    container = av.format.ContainerFormat(container_of(target.suffix), "w")
    encoding = Encoding(
        codec=codec,
        pixel_format=pixel_format,
        crf=_QUALITY.get(codec) if crf is None else crf,
        width=even_width,
        height=even_height,
        time_base=clip.time_base,
        rate=clip.rate,
        aspect=clip.aspect,
        # What plays everywhere, where the source leaves it open.
        colour=(
            1 if colour.without_matrix else colour.matrix,
            colour.full_range and not colour.without_matrix,
            colour.primaries,
            colour.transfer,
        ),
        global_header=bool(container.flags & global_header),
        reordered=target.suffix.lower() != ".avi",
    )
    return encoding, notes


def container_of(suffix: str) -> str:
    """ffmpeg's name of the container of a suffix."""
    names = {".mkv": "matroska", ".m4v": "mp4"}
    return names.get(suffix.lower(), suffix.lower().lstrip("."))


def configure(context: Any, encoding: Encoding) -> None:
    """Set up an encoder that is not open yet; two that are set up alike give equal headers."""
    context.width, context.height = encoding.width, encoding.height
    context.pix_fmt = encoding.pixel_format
    context.time_base = encoding.time_base
    context.framerate = encoding.rate
    context.sample_aspect_ratio = encoding.aspect
    matrix, full, primaries, transfer = encoding.colour
    context.colorspace, context.color_primaries = matrix, primaries
    context.color_trc = transfer
    context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    if encoding.global_header:
        context.flags |= Flags.global_header
    options = {}
    if encoding.crf is not None:
        options["crf"] = str(encoding.crf)
    if not encoding.reordered:
        context.max_b_frames = 0
    if encoding.codec == "libvpx-vp9":
        options |= {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "3"}
    context.options = options


@dataclass
class Segment:
    """The packets of consecutive frames, in the order in which they are decoded."""

    data: list[bytes] = field(default_factory=list)
    times: list[tuple[int, int, bool]] = field(default_factory=list)
    """When it is shown, for how long, whether it is a key frame."""
    frames: int = 0

    def save(self, path: Path) -> None:
        """Write it; the file is complete or not there under this name only if renamed after."""
        with path.open("wb") as file:
            np.savez(
                file,
                data=np.frombuffer(b"".join(self.data), np.uint8),
                sizes=np.array([len(d) for d in self.data], np.int64),
                times=np.array(self.times, np.int64).reshape(-1, 3),
                frames=np.int64(self.frames),
            )

    @classmethod
    def load(cls, path: Path) -> Segment:
        """The file that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            data, sizes, times = bytes(stored["data"]), stored["sizes"], stored["times"]
            frames = int(stored["frames"])
        ends = np.cumsum(sizes)
        pieces = [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        return cls(pieces, [(int(p), int(n), bool(k)) for p, n, k in times], frames)

    @staticmethod
    def pts_of(path: Path) -> list[int]:
        """When the packets of a file are shown, in the order in which they are decoded."""
        with np.load(path, allow_pickle=False) as stored:
            return [int(time) for time in stored["times"][:, 0]]


class SegmentEncoder:
    """Encodes the frames of one segment; each segment has an encoder of its own."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._context: Any = av.CodecContext.create(encoding.codec, "w")
        configure(self._context, encoding)
        self._segment = Segment()
        self._durations: dict[int, int] = {}

    def add(self, frame: Frame) -> None:
        """Encode a frame.

        Raises
        ------
        ImageFileError
            The encoder refuses: its message says why.
        """
        self._durations[frame.time] = frame.duration
        self._segment.frames += 1
        self._take(self._picture(frame))

    def finish(self) -> Segment:
        """The segment, once all frames were added."""
        self._take(None)
        return self._segment

    def _take(self, picture: Any) -> None:
        try:
            packets = self._context.encode(picture)
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageFileError(f"{self._encoding.codec} cannot encode this: {error}") from error
        for packet in packets:
            self._segment.data.append(bytes(packet))
            duration = self._durations.pop(packet.pts, 0)
            self._segment.times.append((packet.pts, duration, bool(packet.is_keyframe)))

    def _picture(self, frame: Frame) -> Any:
        encoding = self._encoding
        pixels = frame.pixels[..., :3]
        rows, columns = encoding.height - pixels.shape[0], encoding.width - pixels.shape[1]
        if rows or columns:
            pixels = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge")
        wide = pixels.dtype == np.uint16
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels), format="rgb48le" if wide else "rgb24"
        )
        matrix, full, _, _ = encoding.colour
        if not encoding.pixel_format.startswith(("gbr", "rgb")):
            picture = picture.reformat(
                format=encoding.pixel_format,
                dst_colorspace=5 if matrix == 6 else 9 if matrix == 10 else matrix,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
                interpolation=SCALING,
            )
        picture.pts, picture.time_base = frame.time, encoding.time_base
        return picture
