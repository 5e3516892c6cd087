"""Makes small clips with known colours, times and sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

# Kr and Kb of ITU-R BT.601, BT.709 and BT.2020, by H.273's code of the matrix.
MATRICES = {5: (0.299, 0.114), 6: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}

CHART = np.array(
    [[0, 0, 0], [255, 255, 255], [220, 30, 30], [30, 200, 40], [40, 50, 210], [128, 128, 128],
     [200, 50, 90], [20, 190, 180], [230, 220, 30], [90, 60, 40]],
    np.uint8,
)  # fmt: skip


def chart(height: int, width: int, shift: int = 0) -> np.ndarray:
    """Vertical stripes of known colours, (H, W, 3) uint8."""
    stripes = np.arange(width) * len(CHART) // width
    row = CHART[(stripes + shift) % len(CHART)]
    return np.ascontiguousarray(np.repeat(row[None], height, 0))


def to_yuv(rgb: np.ndarray, matrix: int, full: bool, bits: int = 8) -> list[np.ndarray]:
    """Y', Cb, Cr of ITU-R BT.601/709/2020, worked out in double precision, without subsampling."""
    kr, kb = MATRICES[matrix]
    red, green, blue = (rgb[..., k].astype(float) / 255 for k in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    step, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        planes = [luma * top, cb * top + 2 ** (bits - 1), cr * top + 2 ** (bits - 1)]
    else:
        planes = [(219 * luma + 16) * step, (224 * cb + 128) * step, (224 * cr + 128) * step]
    kind = np.uint8 if bits == 8 else np.uint16
    return [np.clip(np.rint(plane), 0, top).astype(kind) for plane in planes]


def from_yuv(planes: Sequence[np.ndarray], matrix: int, full: bool, bits: int = 8) -> np.ndarray:
    """The inverse, 0 to 255 as float."""
    kr, kb = MATRICES[matrix]
    step, top = 2 ** (bits - 8), 2**bits - 1
    y, cb, cr = (plane.astype(float) for plane in planes)
    if full:
        y, cb, cr = y / top, (cb - 2 ** (bits - 1)) / top, (cr - 2 ** (bits - 1)) / top
    else:
        y, cb, cr = (y / step - 16) / 219, (cb / step - 128) / 224, (cr / step - 128) / 224
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return 255 * np.stack([red, green, blue], -1)


def picture(rgb: np.ndarray, form: str, matrix: int, full: bool) -> Any:
    """A frame in a planar format, converted here and not by the library."""
    height, width = rgb.shape[:2]
    frame = av.VideoFrame(width, height, form)
    bits = 10 if "10" in form else 8
    planes = to_yuv(rgb, matrix, full, bits)
    for number, plane in enumerate(frame.planes):
        values = planes[number]
        if number and "420" in form:
            values = values[::2, ::2]
        elif number and "422" in form:
            values = values[:, ::2]
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(values.shape[0], -1)
        rows[: raw.shape[0], : raw.shape[1]] = raw
        plane.update(rows.tobytes())
    frame.colorspace = matrix
    frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    return frame


def planes_of(frame: Any) -> list[np.ndarray]:
    """The planes of a decoded frame as arrays."""
    made = []
    for plane in frame.planes:
        wide = "10" in frame.format.name
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows = np.ascontiguousarray(rows[:, : plane.width * (2 if wide else 1)])
        made.append(rows.view(np.uint16) if wide else rows)
    return made


def make_clip(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    rate: int = 25,
    form: str = "yuv420p",
    matrix: int = 1,
    full: bool = False,
    tagged: bool = True,
    tracks: int = 1,
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Encode images nearly without loss, with `tracks` audio tracks of a tone each."""
    step = int(1 / (rate * time_base))
    times = [step * k for k in range(len(images))] if times is None else times
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        context = stream.codec_context
        context.height, context.width = images[0].shape[:2]
        context.pix_fmt, context.time_base = form, time_base
        context.sample_aspect_ratio = aspect
        stream.time_base = time_base
        if tagged:
            context.colorspace = context.color_primaries = context.color_trc = matrix
            context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        context.options = {"crf": "1", "preset": "fast"} if options is None else options
        if rotation:
            stream.set_display_rotation(rotation)
        audio = []
        for track in range(tracks):
            sound = container.add_stream("aac", rate=48000, layout="mono")
            sound.metadata["language"] = ("eng", "deu")[track]
            audio.append(sound)
        container.metadata["title"] = "a title"
        for image, time in zip(images, times, strict=True):
            frame = picture(image, form, matrix, full)
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        seconds = float((times[-1] + step) * time_base)
        for track, sound in enumerate(audio):
            for block in range(int(seconds * 48000) // 1024):
                moment = (np.arange(1024) + block * 1024) / 48000
                wave = 0.2 * np.sin(2 * np.pi * (440 + 220 * track) * moment)
                piece = av.AudioFrame.from_ndarray(
                    wave[None].astype(np.float32), format="fltp", layout="mono"
                )
                piece.sample_rate, piece.pts = 48000, block * 1024
                piece.time_base = Fraction(1, 48000)
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def frames_of(path: Path) -> list[tuple[float, np.ndarray]]:
    """Seconds and the raw luma plane of each frame."""
    with av.open(str(path)) as container:
        return [(float(f.pts * f.time_base), planes_of(f)[0]) for f in container.decode(video=0)]


def sound_of(path: Path) -> list[list[bytes]]:
    """The packets of each audio stream."""
    tracks = []
    with av.open(str(path)) as container:
        count = len(container.streams.audio)
    for track in range(count):
        with av.open(str(path)) as container:
            packets = container.demux(container.streams.audio[track])
            tracks.append([bytes(packet) for packet in packets if packet.size])
    return tracks
