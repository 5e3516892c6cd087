"""`upscale_video`: from a clip to a clip, in a run that may be killed and run again.

Checks what is asked for, makes one upscaler for the clip, and joins what `pipeline` leaves. Frames
are cut into segments whose length depends on the clip and the model alone, so that a run that was
interrupted gives the same packets as one that was not.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_ext.errors import ImageFileError, OptionError
from esrgan_ext.inference.arrays import GRAY
from esrgan_ext.inference.devices import names_of
from esrgan_ext.inference.model_cache import digest_of
from esrgan_ext.inference.noise import PLANES
from esrgan_ext.inference.upscaler import Model, Upscaler
from esrgan_ext.inference.video.animation import write_animation
from esrgan_ext.inference.video.encoder import Encoding, encoding_for
from esrgan_ext.inference.video.frames import ANIMATION_SUFFIXES, VIDEO_SUFFIXES
from esrgan_ext.inference.video.mux import join
from esrgan_ext.inference.video.pipeline import FrameProgress, Pipeline
from esrgan_ext.inference.video.progress_folder import ProgressFolder, identity
from esrgan_ext.inference.video.source import AnimationSource, Source, open_source
from esrgan_ext.inference.workers import alike_on
from esrgan_ext.weights.catalogue import FOLLOWS_NOISE
from esrgan_ext.weights.choice import choose_model
from esrgan_ext.weights.loading import info_of

# A segment is what a killed run loses at most: a minute's work at 200 GFLOP/s (two cores), but not
# so short that its key frame tells in the file's size, nor so long that a GPU's run loses much.
_SEGMENT_MACS = 6e12
_SHORTEST, _LONGEST = 12, 240


@dataclass(frozen=True)
class VideoResult:
    """The result of `upscale_video`.

    Attributes
    ----------
    path : Path
    frames : int
        Number of frames in the file.
    computed : int
        Frames that went through the network in this run: neither duplicates of the one before
        nor finished by an earlier run.
    seconds : float
        Duration of this run.
    size : (int, int)
        Width and height.
    notes : tuple of str
        Notes on what was not carried over, or was changed.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> result = esr.upscale_video("clip.mp4", "clip_x2.mp4", "realesr-animevideov3-x2")
    >>> result.frames, result.size
    (3, (64, 48))
    """

    path: Path
    frames: int
    computed: int
    seconds: float
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def upscale_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: Model = "realesr-animevideov3-x4",
    *,
    start: float | None = None,
    end: float | None = None,
    codec: str | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    quality: int = 90,
    overwrite: bool = False,
    segment_frames: int | None = None,
    progress: FrameProgress | None = None,
    **options: Any,
) -> VideoResult:
    """Upscale a video or an animated image.

    Sound, subtitles, chapters and metadata are copied, the times of frames kept. Run again with the
    same arguments, a run that was killed continues: finished segments are in the folder
    ``TARGET.unfinished``.

    Parameters
    ----------
    source, target : str or path
        mp4, mov, mkv, webm, avi, or animated gif, webp, png, avif. An animation can become a
        video, and a video of 8 bits an animation.
    model : str, path or SRNetwork
        See `Upscaler`. 'auto' chooses one for the whole clip: a gray one, or one of more than 8
        bits, gets the model that is true to the data. Denoising that follows the noise takes one
        strength, by the first 16 frames.
    start, end : float, optional
        Seconds: the part of the clip that is taken.
    codec : str, optional
        ffmpeg's name of a video encoder. Default: libx264, or libvpx-vp9 in webm.
    crf : int, optional
        The encoder's constant quality, lower is better. Default: one whose loss is hard to see.
    pixel_format : str, optional
        ffmpeg's name. Default: the source's depth and chroma subsampling.
    quality : int
        1 to 100, of an AVIF animation.
    overwrite : bool
        Replace `target`, and do not continue an earlier run.
    segment_frames : int, optional
        Frames encoded at a time, which a killed run loses at most. Default: by the model's work.
    progress : callable, optional
        ``progress(frames_done, frames_in_all_or_None)`` after each frame; False stops the run.
    **options
        Options of `Upscaler`: outscale, tile, overlap, device, precision, ensemble, denoise.
        `device` may be several, which take frames as they come: a list, 'cuda:0,cuda:1', or 'all'
        for every GPU.

    Returns
    -------
    VideoResult

    Raises
    ------
    ImageFileError
        The source cannot be read, or is damaged: then every frame before the damage is in
        `target`, and the message names its time. Or the target cannot be written.
    OptionError
        An option cannot be used, or `target` exists.
    ResumeError
        An unfinished run with other options is in the way.
    UpscaleCancelled
        `progress` said so; what is finished stays for the next run.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> result = esr.upscale_video("clip.mp4", "clip_x4.mp4", "lite-psnr-x4", end=0.07)
    >>> result.frames, result.size
    (2, (128, 96))
    """
    begin = time.monotonic()
    source, target = Path(source), Path(target)
    _check_target(source, target, overwrite)
    clip_source = open_source(source, start, end)
    clip = clip_source.clip
    devices = names_of(options.pop("device", "auto"))
    upscaler, remarks = _for_clip(model, {**options, "device": devices[0]}, clip_source)
    size = upscaler.output_size(clip.height, clip.width)
    notes = [*clip_source.notes, *remarks]
    encoding: Encoding | None = None
    if target.suffix.lower() in VIDEO_SUFFIXES:
        encoding, remarks = encoding_for(
            clip, target, size, codec=codec, crf=crf, pixel_format=pixel_format
        )
        notes += remarks
        if clip.alpha:
            notes.append("a video has no alpha: transparent pixels show their colour")
    elif codec or crf is not None or pixel_format:
        raise OptionError(f"codec, crf and pixel format are of videos, not of {target.suffix}")
    elif clip.bits > 8:
        notes.append(f"{clip.bits} bits become 8: an animation has no more")
    length = segment_frames or _segment_length(upscaler, clip.height, clip.width)
    asked = {
        "source": identity(source),
        "model": digest_of(upscaler.network),
        "options": {
            "size": size, "start": start, "end": end, "overlap": upscaler.overlap,
            "ensemble": upscaler.engine.ensemble, "precision": str(upscaler.device.dtype),
        },
        "encoding": encoding.described() if encoding else {"suffix": target.suffix.lower()},
        "segment": length,
    }  # fmt: skip
    folder = ProgressFolder(target, asked, fresh=overwrite)
    upscalers = alike_on(devices, upscaler)
    pipeline = Pipeline(clip_source, upscalers, encoding, folder, length, progress)
    damage = pipeline.run()
    if pipeline.frames == 0:
        folder.remove()
        raise damage or ImageFileError(f"{source}: holds no frames")
    if encoding is not None:
        notes += _join_video(folder, target, encoding, pipeline, clip_source, start, end, upscaler)
    else:
        _join_animation(folder, target, pipeline, clip_source, quality)
    os.replace(folder.joined(), target)
    folder.remove()
    if damage is not None:
        raise ImageFileError(f"{damage}; the {pipeline.frames} frames before are in {target}")
    return VideoResult(
        target,
        pipeline.frames,
        pipeline.computed,
        time.monotonic() - begin,
        size[::-1],
        tuple(notes),
    )


def upscale_frames(
    source: str | os.PathLike[str],
    model: Model = "realesr-animevideov3-x4",
    *,
    start: float | None = None,
    end: float | None = None,
    **options: Any,
) -> Iterator[tuple[float, np.ndarray]]:
    """The upscaled frames of a clip, one after the other; nothing is written.

    Parameters
    ----------
    source : str or path
    model : str, path or SRNetwork
    start, end : float, optional
    **options
        All as for `upscale_video`.

    Yields
    ------
    (float, ndarray)
        Seconds, and the frame: (H, W, 3) or (H, W, 4), uint8, or uint16 for clips of more bits.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> for seconds, frame in esr.upscale_frames("clip.mp4", "realesr-animevideov3-x2"):
    ...     print(f"{seconds:.2f}", frame.shape, frame.dtype)
    0.00 (48, 64, 3) uint8
    0.04 (48, 64, 3) uint8
    0.08 (48, 64, 3) uint8
    """
    opened = open_source(source, start, end)
    upscaler, _ = _for_clip(model, options, opened)
    last: tuple[np.ndarray, np.ndarray] | None = None
    for frame in opened.frames():
        if last is None or not np.array_equal(last[0], frame.pixels):
            last = frame.pixels, upscaler(frame.pixels)
        yield float(frame.time * opened.clip.time_base), last[1]


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    suffix = target.suffix.lower()
    if suffix not in (*VIDEO_SUFFIXES, *ANIMATION_SUFFIXES):
        known = " ".join((*VIDEO_SUFFIXES, *ANIMATION_SUFFIXES))
        raise OptionError(f"{target}: a moving picture's suffix is one of {known}")
    if target.exists() and source.exists() and target.samefile(source):
        raise OptionError(f"{target}: the result would take the place of its source")
    if target.exists() and not overwrite:
        raise OptionError(f"{target} exists: give another name, or --overwrite")


def _for_clip(
    model: Model | Upscaler, options: dict[str, Any], source: Source
) -> tuple[Upscaler, list[str]]:
    """One for all frames of a clip, and what was chosen for it: colours last, one range, one model
    and one strength of denoising, since frames that differ in them would flicker."""
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model, **options)
    data_range = upscaler.data_range or "type"
    frames, chosen = upscaler.with_options(channel_axis=-1, data_range=data_range), []
    if frames.model is None:
        first = _first_frames(source)
        gray = bool((first[..., :3] == first[..., :1]).all())
        choice = choose_model(first.dtype, GRAY if gray else first.shape[-1])
        frames = frames.for_model(choice.model)
        chosen.append(f"model: {choice}")
    if frames.options.denoise == "auto":
        strength = None
        if frames.model in FOLLOWS_NOISE:
            strength = frames.denoise_strength(_first_frames(source))
        if strength:
            frames = frames.with_strength(strength)
            chosen.append(f"denoising of strength {strength:g}, as the first frames ask for")
        else:
            frames = frames.with_options(denoise=None)
    return frames, chosen


def _first_frames(source: Source) -> np.ndarray:
    """The first frames of a clip, as many as tell of its noise: (N, H, W, 3 or 4)."""
    found = []
    try:
        for frame in itertools.islice(source.frames(), PLANES):
            found.append(frame.pixels)
    except ImageFileError:
        if not found:
            raise
    if not found:
        raise ImageFileError(f"{source.path}: holds no frames")
    return np.stack(found)


def _segment_length(upscaler: Upscaler, height: int, width: int) -> int:
    macs = upscaler.engine.macs(height, width, 3)
    return int(min(_LONGEST, max(_SHORTEST, _SEGMENT_MACS / max(macs, 1))))


def _join_video(
    folder: ProgressFolder,
    target: Path,
    encoding: Encoding,
    pipeline: Pipeline,
    source: Source,
    start: float | None,
    end: float | None,
    upscaler: Upscaler,
) -> list[str]:
    segments = [folder.segment(number) for number in range(pipeline.segments)]
    length = None if end is None else end - (start or 0.0)
    name = info_of(upscaler.network).name
    return join(
        folder.joined(), target.suffix, encoding, segments, source.path,
        shift=source.shift, end=length,
        comment=f"upscaled with {name} by esrgan_ext",
    )  # fmt: skip


def _join_animation(
    folder: ProgressFolder, target: Path, pipeline: Pipeline, source: Source, quality: int
) -> None:
    frames: list[np.ndarray] = []
    for number in range(pipeline.segments):
        with np.load(folder.segment(number), allow_pickle=False) as stored:
            frames += list(stored["frames"])
    milliseconds = source.clip.time_base * 1000
    usual = round(1000 / source.clip.rate)
    durations = [round(duration * milliseconds) or usual for duration in pipeline.durations]
    metadata = source.metadata if isinstance(source, AnimationSource) else {}
    write_animation(
        folder.joined(), target.suffix, frames, durations[: len(frames)], source.clip, metadata,
        quality,
    )  # fmt: skip
