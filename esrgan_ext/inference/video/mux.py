"""Joins finished segments with the sound, subtitles, chapters and metadata of the source."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.video.encoder import Encoding, Segment, configure, container_of

# Matroska keeps the times of showing alone; libavformat would shift them all for the sake of the
# times of decoding, which begin before zero.
_OPTIONS = {name: {"avoid_negative_ts": "disabled"} for name in ("matroska", "webm")}

# Entries of a container's metadata that describe the old file.
_NOT_KEPT = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")


def join(
    target: Path,
    suffix: str,
    encoding: Encoding,
    segments: Sequence[Path],
    source: Path,
    *,
    shift: Fraction,
    end: float | None,
    comment: str,
) -> list[str]:
    """Write the file.

    Parameters
    ----------
    target, suffix
        Where to, and the suffix that says the container (`target` may have another).
    segments
        Files of `Segment.save`, in order.
    source
        Everything but its picture is copied, packet by packet.
    shift : Fraction
        Seconds of the source's clock that are zero in the result.
    end : float, optional
        Seconds of the result after which nothing more is copied.
    comment
        Name of the program and model that made the picture, for the metadata.

    Returns
    -------
    list of str
        Streams that could not be copied.

    Raises
    ------
    ImageFileError
        The file cannot be written.
    """
    container = container_of(suffix)
    notes: list[str] = []
    try:
        with (
            av.open(str(source), metadata_errors="replace") as old,
            av.open(str(target), "w", format=container, options=_OPTIONS.get(container, {})) as new,
        ):
            stream = new.add_stream(encoding.codec, rate=encoding.rate)
            configure(stream.codec_context, encoding)
            stream.time_base = encoding.time_base
            copied = _copied_streams(old, new, notes)
            _copy_metadata(old, new, comment)
            _copy_chapters(old, new, shift, end)
            new.start_encoding()
            ours = _our_packets(segments, stream, encoding)
            others = _their_packets(old, copied, shift, end)
            for _, packet in heapq.merge(ours, others, key=lambda pair: pair[0]):
                new.mux_one(packet)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise ImageFileError(f"{target}: cannot be written: {error}") from error
    return notes


def _our_packets(
    segments: Sequence[Path], stream: Any, encoding: Encoding
) -> Iterator[tuple[float, Any]]:
    decoded = iter(_decoding_times([pts for path in segments for pts in Segment.pts_of(path)]))
    for path in segments:
        segment = Segment.load(path)
        for data, (pts, duration, key) in zip(segment.data, segment.times, strict=True):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = encoding.time_base
            packet.pts, packet.dts = pts, next(decoded)
            if duration:
                packet.duration = duration
            packet.is_keyframe = key
            yield float(packet.dts * encoding.time_base), packet


def _decoding_times(shown: Sequence[int]) -> list[int]:
    """When each packet is decoded, from when each is shown, in the order of decoding.

    Encoders of single segments do not know of each other's. Decoding takes the times of showing,
    sorted, as many frames early as the most delayed frame needs.
    """
    if not shown:
        return []
    ordered = sorted(shown)
    rank = {time: position for position, time in enumerate(ordered)}
    early = max(position - rank[time] for position, time in enumerate(shown))
    step = min((b - a for a, b in pairwise(ordered) if b > a), default=1)
    before = [ordered[0] - step * (early - k) for k in range(early)]
    return [*before, *ordered[: len(shown) - early]]


def _copied_streams(old: Any, new: Any, notes: list[str]) -> dict[int, Any]:
    copied = {}
    for stream in old.streams:
        if stream.type == "video":
            continue
        name = f"{stream.type} stream {stream.index}"
        codec = getattr(stream, "codec_context", None)
        if stream.type not in ("audio", "subtitle") or codec is None:
            notes.append(f"{name} is not copied")
            continue
        if codec.name not in new.supported_codecs and codec.codec.canonical_name not in (
            new.supported_codecs
        ):
            notes.append(f"{name} ({codec.name}) is not copied: this container has none such")
            continue
        try:
            copied[stream.index] = new.add_stream_from_template(stream)
        except (av.error.FFmpegError, ValueError) as error:
            notes.append(f"{name} ({codec.name}) is not copied: {error}")
            continue
        copied[stream.index].metadata.update(stream.metadata)
        copied[stream.index].disposition = stream.disposition
    return copied


def _copy_metadata(old: Any, new: Any, comment: str) -> None:
    kept = {k: v for k, v in old.metadata.items() if k.lower() not in _NOT_KEPT}
    new.metadata.update(kept)
    new.metadata["comment"] = "; ".join(filter(None, (kept.get("comment"), comment)))


def _copy_chapters(old: Any, new: Any, shift: Fraction, end: float | None) -> None:
    chapters = []
    for chapter in old.chapters():
        base = Fraction(chapter["time_base"])
        moved = dict(chapter)
        first, last = (chapter[key] - shift / base for key in ("start", "end"))
        if last <= 0 or (end is not None and first * base >= end):
            continue
        moved["start"], moved["end"] = max(0, int(first)), int(last)
        chapters.append(moved)
    if chapters:
        new.set_chapters(chapters)


def _their_packets(
    old: Any, copied: dict[int, Any], shift: Fraction, end: float | None
) -> Iterator[tuple[float, Any]]:
    if not copied:
        return
    for packet in old.demux([old.streams[index] for index in copied]):
        if packet.dts is None:  # flushes the decoder
            continue
        base = Fraction(packet.time_base)
        moved = int(shift / base)
        packet.dts -= moved
        if packet.pts is not None:
            packet.pts -= moved
        seconds = float(packet.dts * base)
        # Sound that began before the picture stays; of a part nothing before its start.
        if shift and seconds < 0:
            continue
        if end is not None and seconds >= end:
            continue
        packet.stream = copied[packet.stream.index]
        yield seconds, packet
