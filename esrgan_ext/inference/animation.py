"""The way from one network to another as an animation: one image, upscaled at every alpha from 0
to 1, alpha drawn on each frame; GIF, WebP, APNG or MP4."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from esrgan_ext.errors import ImageFileError, OptionError
from esrgan_ext.inference.files import ImageFile, replacing
from esrgan_ext.inference.formats.opencv import codec_messages
from esrgan_ext.inference.upscaler import Upscaler
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights import InterpolatedModel

#: Suffixes of animations, and what OpenCV calls their encoders.
ENCODERS = {".gif": ".gif", ".webp": ".webp", ".png": ".png", ".apng": ".png", ".mp4": "mp4v"}

# GIF counts time in hundredths of a second, and browsers slow down what is faster than 20 ms.
_SHORTEST, _LONGEST = 20, 60_000


def check(path: Path, steps: int, duration: int) -> None:
    """Raise OptionError for arguments that no animation can be made from."""
    if path.suffix.lower() not in ENCODERS:
        raise OptionError(f"{path}: an animation's suffix must be one of {', '.join(ENCODERS)}")
    if steps < 2:
        raise OptionError(f"a sweep needs at least 2 steps, not {steps}")
    if not _SHORTEST <= duration <= _LONGEST:
        raise OptionError(
            f"a frame's duration must be {_SHORTEST} to {_LONGEST} milliseconds, not {duration}"
        )


def displayable(image: ImageFile) -> np.ndarray:
    """The image as H, W, 3 of uint8: gray repeated, 16 bits rounded to 8, alpha over white.

    Raises
    ------
    ImageFileError
        It is a stack, or of a type that has no fixed range.
    """
    if image.further:
        raise ImageFileError(
            f"{image.path}: an animation needs a single image, and the file holds "
            f"{1 + len(image.further)}"
        )
    pixels = image.pixels
    colour = image.channel_axis is not False
    if pixels.ndim != (3 if colour else 2) or pixels.dtype not in (np.uint8, np.uint16):
        raise ImageFileError(
            f"{image.path}: an animation needs a single 8 or 16 bit image, not {pixels.dtype} of "
            f"shape {pixels.shape}"
        )
    unit = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    unit = unit if colour else unit[..., None]
    if unit.shape[2] in (2, 4):
        alpha = unit[..., -1:]
        unit = unit[..., :-1] * alpha + (1 - alpha)
    if unit.shape[2] == 1:
        unit = np.repeat(unit, 3, axis=2)
    return np.rint(unit * 255).astype(np.uint8)


def sweep(
    a: SRNetwork,
    b: SRNetwork,
    image: np.ndarray,
    *,
    steps: int = 21,
    outscale: float | None = None,
    tile: int | str = "auto",
    overlap: int | str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[np.ndarray]:
    """Upscale `image` (H, W, 3 of uint8) at alpha = 0, 1/(steps-1), ..., 1; yields labelled frames.

    Raises
    ------
    ArchitectureMismatch
        The networks cannot be mixed.
    OptionError
        An option cannot be used; see `Upscaler`.
    """
    decimals = 2 if steps <= 101 else 3
    between = InterpolatedModel(a, b, 0.0)
    for alpha in np.linspace(0.0, 1.0, steps):
        between.set_alpha(float(alpha))
        # A new one each time: an upscaler may keep packed copies of the weights.
        upscaler = Upscaler(
            between.network,
            outscale=outscale,
            tile=tile,
            overlap=overlap,
            device=device,
            precision=precision,
            channel_axis=2,
        )
        yield labelled(upscaler(image), f"alpha {alpha:.{decimals}f}")


def labelled(frame: np.ndarray, text: str) -> np.ndarray:
    """A copy of an RGB frame with white, black-edged text in its lower left corner."""
    frame = np.ascontiguousarray(frame).copy()
    height, width = frame.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    (unit_width, unit_height), _ = cv2.getTextSize(text, font, 1.0, 1)
    # A sixteenth of the height is easy to read; no wider than the frame.
    scale = min(height / 16 / unit_height, 0.9 * width / unit_width)
    scale = max(scale, 0.2)
    thickness = max(1, round(2 * scale))
    margin = max(2, round(height / 40))
    place = (margin, height - margin)
    for colour, extra in (((0, 0, 0), max(2, thickness)), ((255, 255, 255), 0)):
        cv2.putText(frame, text, place, font, scale, colour, thickness + extra, cv2.LINE_AA)
    return frame


def write_animation(path: Path, frames: Sequence[np.ndarray], duration: int) -> None:
    """Write frames as an animation that repeats without end, all or nothing.

    Parameters
    ----------
    path
        Its suffix decides: .gif (256 colours a frame), .webp, .mp4 (a last odd row or column
        is lost), .png or .apng (exact).
    frames
        H, W, 3 of uint8, RGB, of one shape.
    duration
        Milliseconds a frame; GIF rounds to 10.

    Raises
    ------
    OptionError
        The suffix or the duration cannot be used.
    ImageFileError
        The file cannot be written.
    """
    check(path, max(len(frames), 2), duration)
    if path.suffix.lower() == ".mp4":
        _write_video(path, frames, duration)
        return
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames]
    animation.durations = [duration] * len(frames)
    animation.loop_count = 0
    encoder = ENCODERS[path.suffix.lower()]
    options = {
        # The finest dithering: without it a photo is off by 15 levels on average, with it by 3.
        ".gif": [cv2.IMWRITE_GIF_DITHER, 3],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, 90],
    }.get(encoder, [])
    with codec_messages():
        done, data = cv2.imencodeanimation(encoder, animation, options)
    if not done:
        raise ImageFileError(f"{path}: OpenCV cannot encode the animation")
    try:
        with replacing(path) as part:
            part.write_bytes(data.tobytes())
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write_video(path: Path, frames: Sequence[np.ndarray], duration: int) -> None:
    """MPEG-4; its 4:2:0 colours need an even number of rows and columns."""
    height, width = (n - n % 2 for n in frames[0].shape[:2])
    codec = cv2.VideoWriter.fourcc(*ENCODERS[".mp4"])
    try:
        with replacing(path) as part, tempfile.TemporaryDirectory(dir=path.parent) as folder:
            video = Path(folder) / "video.mp4"  # OpenCV takes the container from the suffix
            with codec_messages():
                writer = cv2.VideoWriter(str(video), codec, 1000 / duration, (width, height))
                if not writer.isOpened():
                    raise ImageFileError(f"{path}: this OpenCV cannot write MP4 video")
                for frame in frames:
                    writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))
                writer.release()
            os.replace(video, part)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror or error}") from error
