"""Moving pictures through a network: video files by PyAV, animated images by Pillow.

`source` reads frames, `encoder` and `animation` write them, `progress_folder` keeps what is
finished of a run that may be killed, `mux` joins it with sound and all else that is copied, `run`
drives it. A *segment* is a number of consecutive frames that are encoded by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esrgan_ext.inference.video.run import VideoResult, upscale_frames, upscale_video

__all__ = ["VideoResult", "upscale_frames", "upscale_video"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from esrgan_ext.inference.video import run
    except ModuleNotFoundError as error:
        if error.name not in ("av", "PIL"):
            raise
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install 'esrgan-ext[video]'", name=error.name
        ) from error
    return getattr(run, name)
