"""A plane at every alpha between two models: the stack, its pictures, the animation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_esrgan._work.messages import Cancelled, LayerOutcome, Progress, Report, Status, stop_if
from napari_esrgan._work.mixing import Mixer
from napari_esrgan._work.request import Mix, UpscaleRequest
from napari_esrgan._work.result import make_result
from napari_esrgan._work.upscale import run_upscale


def sweep(
    request: UpscaleRequest, steps: int, mixer: Mixer, report: Report, cancelled: Cancelled
) -> LayerOutcome:
    """The plane on show at every alpha from 0 to 1, along a new first axis.

    Returns
    -------
    LayerOutcome
        Its result has shape (steps, ...): the axes of the layer, those that are not space of
        length 1.
    """
    mix = request.model
    assert isinstance(mix, Mix)
    outcome: LayerOutcome | None = None
    result = None
    notes: dict[str, None] = {}
    try:
        for step, alpha in enumerate(np.linspace(0, 1, steps)):
            text = f"Alpha {alpha:.2f}"

            def say(message: Any, step: int = step, text: str = text) -> None:
                if isinstance(message, Progress) and message.tiles:
                    done = step * message.total + message.done
                    left = message.seconds_left
                    if left is not None and message.done:
                        whole = left * message.total / max(message.total - message.done, 1)
                        left += whole * (steps - step - 1)
                    message = Progress(
                        done, steps * message.total, step, steps, left, text=f"Sweep, {text}"
                    )
                elif isinstance(message, Status) and step:
                    return
                report(message)

            stop_if(cancelled)
            network = mixer.network(replace(mix, alpha=float(alpha)), say, cancelled)
            single = replace(
                request,
                model=replace(mix, alpha=float(alpha)),
                only_shown=True,
                fill_in_seconds=float("inf"),
                budget_bytes=float("inf"),
            )
            outcome = run_upscale(single, say, cancelled, network=network)
            frame = outcome.result
            if result is None:
                shape = (steps, *frame.shape)
                axes = request.axes
                result = make_result(
                    shape,
                    frame.dtype,
                    axes.y + 1,
                    axes.x + 1,
                    request.budget_bytes,
                    request.folder,
                )
            result.write(
                (step, *(slice(0, n) for n in frame.shape)),
                frame.view((slice(None),) * len(frame.shape)),  # type: ignore[arg-type]
            )
            notes.update(dict.fromkeys(outcome.notes))
    except BaseException:
        if result is not None:
            result.discard()
        raise
    assert outcome is not None
    assert result is not None
    provenance = {**outcome.provenance, "sweep": [0.0, 1.0, steps]}
    return LayerOutcome(result, provenance, tuple(notes))


def frames(stack: np.ndarray, limits: tuple[float, float], rgb: bool) -> list[np.ndarray]:
    """A sweep as labelled pictures: H, W, 3 of uint8.

    Parameters
    ----------
    stack : ndarray, shape (steps, H, W) or (steps, H, W, 3 or 4)
    limits : (float, float)
        The values that become black and white (of the layer's contrast limits).
    rgb : bool
    """
    from esrgan_ext.inference.animation import labelled

    low, high = limits
    pictures = []
    for alpha, frame in zip(np.linspace(0, 1, len(stack)), stack, strict=True):
        values = (np.nan_to_num(frame.astype(np.float64)) - low) / (high - low)
        picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        picture = picture[..., :3] if rgb else np.repeat(picture[..., None], 3, axis=-1)
        pictures.append(labelled(picture, f"alpha {alpha:.2f}"))
    return pictures


def export_animation(path: Path, pictures: list[np.ndarray], milliseconds: int = 150) -> None:
    """Write an animation by suffix: GIF, WebP, APNG or MP4.

    Raises
    ------
    EsrganError
        If the suffix is none of these or the file cannot be written.
    """
    from esrgan_ext.inference.animation import write_animation

    write_animation(path, pictures, milliseconds)
