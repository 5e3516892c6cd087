"""Shows a run that has no widget in napari's activity dock."""

from __future__ import annotations

from typing import Any

from esrgan_ext.literal import literal
from napari_esrgan._window.run import UpscaleController
from napari_esrgan._work.messages import Progress
from napari_esrgan._work.wording import describe_progress


def show_activity(controller: UpscaleController, title: str) -> None:
    """A determinate bar in the activity dock, closed when the run ends."""
    from napari.utils import progress

    title = literal(title)
    bar = progress(total=1000, desc=title)

    def on_report(message: Any) -> None:
        if isinstance(message, Progress):
            bar.update(1000 * message.done // max(message.total, 1) - bar.n)
        bar.set_description(f"{title}: {describe_progress(message)}")

    def on_end(_how: str) -> None:
        bar.close()

    controller.reported.connect(on_report)
    controller.ended.connect(on_end)
