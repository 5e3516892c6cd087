"""Moving pictures through a network: video files by PyAV, animated images by Pillow.

`source` reads frames, `encoder` and `animation` write them, `progress_folder` keeps what is
finished of a run that may be killed, `mux` joins it with sound and all else that is copied,
`pipeline` takes frames through the networks, `run` is where it all comes together. A *segment* is a
number of consecutive frames that are encoded by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.lazy import lazy_names

if TYPE_CHECKING:
    from esrgan_ext.inference.video.run import VideoResult, upscale_frames, upscale_video

__all__ = ["VideoResult", "upscale_frames", "upscale_video"]

__getattr__ = lazy_names(
    __name__,
    dict.fromkeys(__all__, "esrgan_ext.inference.video.run"),
    requirements=("av", "PIL"),
    extra="video",
)
