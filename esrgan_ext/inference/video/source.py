"""Reads the frames of a clip: a video by PyAV, an animated image by Pillow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from PIL import Image, ImageSequence, UnidentifiedImageError

from esrgan_ext.errors import ImageFileError, OptionError
from esrgan_ext.inference.video.frames import VIDEO_SUFFIXES, Clip, Colour, Frame, clock

# Bicubic chroma, rounded and not truncated: a colour chart goes there and back within one level.
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

_UNSPECIFIED = 2
# H.273's codes of matrices, and what swscale calls them. Codes 5 and 6 are one matrix.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
# Without a code players take BT.601 for standard definition, BT.709 above.
_HIGH_DEFINITION = 720
_BT601, _BT709 = 5, 1
_RGB = 0


class Source(Protocol):
    """A clip that can be read from its start any number of times.

    Attributes
    ----------
    path : Path
    clip : Clip
    notes : list of str
        Notes on what is not carried over.
    shift : Fraction
        Seconds of the file's clock that are zero in the result, known once `frames` has given the
        first.
    """

    path: Path
    shift: Fraction
    clip: Clip
    notes: list[str]

    def frames(self) -> Iterator[Frame]:
        """The frames from the first on.

        Raises
        ------
        ImageFileError
            The file is damaged; the message has the time. All frames before were given.
        """


def open_source(
    path: str | os.PathLike[str], start: float | None = None, end: float | None = None
) -> Source:
    """Open a clip.

    Parameters
    ----------
    path
        A video (mp4, mov, mkv, webm, avi) or an animated GIF, WebP, PNG or AVIF.
    start, end : float, optional
        Seconds: frames that are shown from `start` on and before `end`.

    Raises
    ------
    ImageFileError
        The file cannot be read, or holds no moving picture.
    OptionError
        `end` is not after `start`.
    """
    path = Path(path)
    low = 0.0 if start is None else start
    if low < 0 or (end is not None and end <= low):
        raise OptionError(f"the end ({end} s) must be after the start ({low} s)")
    if not path.is_file():
        raise ImageFileError(f"{path}: there is no such file")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource(path, low, end)
    return AnimationSource(path, low, end)


class VideoSource:
    """The largest video stream of a file."""

    def __init__(self, path: Path, start: float, end: float | None) -> None:
        self.path, self._start, self._end = path, start, end
        self._cut = start > 0 or end is not None
        self.shift = Fraction(0)
        self.notes: list[str] = []
        with self._opened() as container:
            stream = _video_stream(container, path)
            self._index = stream.index
            self._base = stream.time_base or Fraction(1, 1000)
            self._zero = stream.start_time or 0
            first = next(self._decoded(container), None)
            if first is None:
                raise ImageFileError(f"{path}: no frame of it can be read")
            self._rotation = round(getattr(first, "rotation", 0) / 90) % 4
            self.clip = self._described(container, stream, first)
            if first.interlaced_frame:
                self.notes.append("it is interlaced: both fields are upscaled as one picture")

    def _opened(self) -> Any:
        try:
            return av.open(str(self.path), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise ImageFileError(f"{self.path}: cannot be read as a video ({error})") from error

    def _described(self, container: Any, stream: Any, first: Any) -> Clip:
        form = first.format
        name = form.name
        bits = max(component.bits for component in form.components)
        if "yuva" in name or name in ("rgba", "bgra", "argb", "abgr") or "gbrap" in name:
            self.notes.append("its alpha is left out: video codecs here have none")
        chroma = form.components[1] if len(form.components) > 2 else None
        subsampling = "420"
        if form.is_rgb or name.startswith("pal"):
            subsampling = "444"
        elif chroma is not None:
            narrow, low = chroma.width < first.width, chroma.height < first.height
            subsampling = "420" if low else "422" if narrow else "444"
        size = (first.width, first.height)
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        if self._rotation % 2:
            size, aspect = size[::-1], 1 / aspect
        return Clip(
            width=size[0],
            height=size[1],
            time_base=self._base,
            rate=Fraction(stream.average_rate or stream.base_rate or 25),
            bits=bits,
            subsampling=subsampling,
            aspect=aspect,
            colour=_colour(first, name),
            frames=(stream.frames or None) if not self._cut else None,
        )

    def _decoded(self, container: Any) -> Iterator[Any]:
        stream = container.streams[self._index]
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            yield from packet.decode()

    def frames(self) -> Iterator[Frame]:
        """See `Source`."""
        count, before, offset = 0, None, None
        last = self._start
        try:
            with self._opened() as container:
                for decoded in self._decoded(container):
                    # A frame without a time is shown one frame after the last.
                    step = max(1, round(1 / (self.clip.rate * self._base)))
                    time = decoded.pts
                    if time is None:
                        time = 0 if before is None else before + step
                    before = time
                    seconds = float((time - self._zero) * self._base)
                    if seconds < self._start - 1e-9:
                        continue
                    if self._end is not None and seconds >= self._end - 1e-9:
                        break
                    if offset is None:  # a part begins at zero, a whole clip where it began
                        offset = time if self._cut else 0
                        self.shift = offset * self._base
                    count, last = count + 1, seconds
                    duration = int(getattr(decoded, "duration", 0) or 0)
                    yield Frame(self._pixels(decoded), time - offset, duration)
        except av.error.FFmpegError as error:
            raise ImageFileError(
                f"{self.path}: damaged at {clock(last)}, after {count} frames ({error})"
            ) from error
        claimed = self.clip.frames
        if claimed is not None and count < claimed:
            raise ImageFileError(
                f"{self.path}: ends at {clock(last)}, after {count} of {claimed} frames: "
                "the file is cut short or damaged"
            )
        if count == 0:
            raise ImageFileError(f"{self.path}: no frame between the start and the end asked for")

    def _pixels(self, decoded: Any) -> np.ndarray:
        colour = self.clip.colour
        # What the frame itself is tagged with may contradict what was settled for the clip.
        rgb = decoded.reformat(
            format="rgb24" if self.clip.bits <= 8 else "rgb48le",
            src_colorspace=_MATRICES.get(colour.matrix, _BT601),
            src_color_range=ColorRange.JPEG if colour.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
        ).to_ndarray()
        if self._rotation:
            rgb = np.rot90(rgb, self._rotation)
        return np.ascontiguousarray(rgb)


def _video_stream(container: Any, path: Path) -> Any:
    pictures = [
        s for s in container.streams.video if "attached_pic" not in str(s.disposition).lower()
    ]
    if not pictures:
        raise ImageFileError(f"{path}: holds no video")
    return max(pictures, key=lambda s: s.codec_context.width * s.codec_context.height)


def _colour(frame: Any, name: str) -> Colour:
    matrix = int(frame.colorspace)
    if matrix not in _MATRICES:
        matrix = _BT709 if frame.height >= _HIGH_DEFINITION else _BT601
    full = int(frame.color_range) == int(ColorRange.JPEG) or name.startswith("yuvj")
    # RGB has no other range; gray without a tag is taken as players take it.
    gray = name.startswith("gray") and int(frame.color_range) != int(ColorRange.MPEG)
    free = frame.format.is_rgb or name.startswith("pal") or gray
    return Colour(
        matrix, full or free, int(frame.color_primaries), int(frame.color_trc), without_matrix=free
    )


class AnimationSource:
    """The frames of an animated image, each as it is shown: composed over those before it."""

    def __init__(self, path: Path, start: float, end: float | None) -> None:
        self.path, self._start, self._end = path, start, end
        self.shift = Fraction(0)  # there is no sound whose time would matter
        self.notes: list[str] = []
        with self._opened() as image:
            self.metadata: dict[str, Any] = {
                key: image.info[key] for key in ("icc_profile", "exif", "xmp") if key in image.info
            }
            loop = image.info.get("loop")
            count = getattr(image, "n_frames", 1)
            self.clip = Clip(
                width=image.width,
                height=image.height,
                time_base=Fraction(1, 1000),
                rate=Fraction(10),
                subsampling="444",
                loop=None if loop is None else int(loop),
                frames=count if start == 0 and end is None else None,
            )
            alpha, total = False, 0
            with suppress(Exception):  # `frames` says where a damaged one ends
                for shown in ImageSequence.Iterator(image):
                    shown.load()  # some plugins know a frame's duration only then
                    total += _duration(shown)
                    if not alpha and shown.mode != "RGB":
                        alpha = int(np.array(shown.convert("RGBA"))[..., 3].min()) < 255
        rate = Fraction(1000 * count, total) if total else Fraction(10)
        self.clip = replace(self.clip, alpha=alpha, rate=rate)

    def _opened(self) -> Image.Image:
        try:
            return Image.open(self.path)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise ImageFileError(f"{self.path}: cannot be read as an animation") from error

    def frames(self) -> Iterator[Frame]:
        """See `Source`."""
        time = count = 0
        offset = None
        with self._opened() as image:
            for number in range(getattr(image, "n_frames", 1)):
                try:
                    image.seek(number)
                    image.load()
                    duration = _duration(image)
                    pixels = np.array(image.convert("RGBA" if self.clip.alpha else "RGB"))
                except Exception as error:  # Pillow's plugins raise nearly anything
                    raise ImageFileError(
                        f"{self.path}: damaged at {clock(time / 1000)}, after {count} frames"
                    ) from error
                shown, time = time, time + duration
                if shown / 1000 < self._start or (
                    self._end is not None and shown / 1000 >= self._end
                ):
                    continue
                offset = shown if offset is None else offset
                count += 1
                yield Frame(pixels, shown - offset, duration)
        if count == 0:
            raise ImageFileError(f"{self.path}: no frame between the start and the end asked for")


def _duration(image: Image.Image) -> int:
    """Milliseconds; browsers show a frame of no duration for 100."""
    return round(image.info.get("duration") or 100)
