"""Estimates and progress in words. Plain text: no Qt, no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.wording import duration
from napari_esrgan._work.messages import Progress, Status

if TYPE_CHECKING:
    from napari_esrgan._work.estimate import Estimate

ENDINGS = {"finished": "Done.", "cancelled": "Cancelled.", "failed": "Failed; see the message."}


def size(count: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def describe_estimate(result: Estimate) -> str:
    shape = " × ".join(str(n) for n in result.output_shape)
    where = ", kept on disk" if result.on_disk else ""
    text = (
        f"Result: {shape}, {size(result.output_bytes)}{where}. About {duration(result.seconds)} "
        f"on {result.device}, with {size(result.work_bytes)} of memory for the work."
    )
    if result.download_bytes is None:
        text += " The model is downloaded first."
    elif result.download_bytes:
        text += f" The model ({size(result.download_bytes)}) is downloaded first."
    return text


def describe_progress(progress: Progress | Status) -> str:
    if isinstance(progress, Status):
        return progress.text
    if not progress.tiles:
        return f"{progress.text}: {size(progress.done)} of {size(progress.total)}"
    parts = [progress.text]
    if progress.tiles > 1:
        parts.append(f"tile {min(progress.tiles_done + 1, progress.tiles)} of {progress.tiles}")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    return ", ".join(parts)
