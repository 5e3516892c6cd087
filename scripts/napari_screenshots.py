"""Makes the pictures of docs/napari.md from a real viewer: `xvfb-run -s "-screen 0 1600x1100x24"
python scripts/napari_screenshots.py [folder]`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A window that fits a laptop of 1366 x 768.
SIZE = (1366, 768)


def wait(until: Callable[[], bool], seconds: float = 300) -> None:
    """Let the window work until a condition holds."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("the viewer did not get there")
        QApplication.processEvents()
        time.sleep(0.005)


def settle(seconds: float = 0.7) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def main(folder: Path) -> None:
    # The user's own preferences stay what they are, and do not show.
    os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")
    import napari
    from napari.settings import get_settings

    get_settings().application.ipy_interactive = False
    get_settings().appearance.theme = "dark"

    def shot(viewer: napari.Viewer, name: str) -> None:
        settle()
        viewer.screenshot(str(folder / name), canvas_only=False, flash=False)
        print(folder / name)

    def window(sample: str, widget_name: str) -> tuple[napari.Viewer, object]:
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        viewer.open_sample("esrgan-ext", sample)
        _, widget = viewer.window.add_plugin_dock_widget("esrgan-ext", widget_name)
        settle()
        viewer.reset_view()
        wait(lambda: not widget._inventory_runner.running)
        settle()
        return viewer, widget

    viewer, widget = window("nuclei", "Upscale")
    wait(lambda: "Result:" in widget.estimate_label.text())
    shot(viewer, "napari-form.png")
    widget.run()
    wait(lambda: not widget.controller.running)
    shot(viewer, "napari-result.png")
    widget.swipe_button.click()
    shot(viewer, "napari-swipe.png")
    widget.swipe_button.click()
    widget.add_consistency()
    wait(lambda: len(viewer.layers) == 3)
    shot(viewer, "napari-consistency.png")
    viewer.close()

    viewer, widget = window("astronaut", "Interpolate")
    viewer.scene.camera.zoom *= 2
    widget.slider.setValue(0.8)
    settle()
    widget.preview_check.setChecked(True)
    wait(lambda: widget.preview.layer_id is not None)
    shot(viewer, "napari-interpolate.png")
    viewer.close()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    target.mkdir(parents=True, exist_ok=True)
    main(target)
