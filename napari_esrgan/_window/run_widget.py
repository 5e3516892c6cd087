"""The base of the two widgets: a source form, a run with its panel, the machine's inventory.

Each widget adds its models and what it does with them.
"""

from __future__ import annotations

from typing import Any

from napari_esrgan._viewer import notices
from napari_esrgan._viewer.preferences import preferences
from napari_esrgan._window.dock import DockedWidget
from napari_esrgan._window.run import UpscaleController, Work
from napari_esrgan._window.run_panel import RunPanel
from napari_esrgan._window.source_form import SourceForm
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work import models
from napari_esrgan._work.request import UpscaleRequest
from napari_esrgan._work.upscale import run_upscale


class RunWidget(DockedWidget):
    """A form that runs upscaling jobs on a viewer's layers.

    Parameters
    ----------
    viewer : napari viewer or ViewerModel

    Attributes
    ----------
    controller : UpscaleController
    source : SourceForm
    panel : RunPanel
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.controller = UpscaleController(viewer, self)
        self.source = SourceForm(viewer, preferences(), self)
        self.panel = RunPanel(self.controller)
        self._inventory_runner = ThreadRunner(self)
        self._inventory_runner.finished.connect(self._on_inventory)
        self._inventory_runner.failed.connect(notices.tell)

    def begin(self) -> None:
        """Ask for the inventory; the form is complete."""
        self._set_enabled()
        self._inventory_runner.start_soon(models.take_inventory, "esrgan-inventory")

    def request(self) -> UpscaleRequest:
        """The form's request.

        Raises
        ------
        ValueError
            With the reason, where it says nothing that can be run.
        """
        raise NotImplementedError

    def checked_request(self) -> UpscaleRequest | None:
        """The form's request; None, with the reason told, where it cannot be run."""
        try:
            return self.request()
        except ValueError as error:
            notices.show_error(str(error))
            return None

    def start(
        self,
        request: UpscaleRequest,
        label: str,
        work: Work = run_upscale,
        steps: int | None = None,
        look: dict[str, Any] | None = None,
    ) -> None:
        """Begin a run on the chosen layer, as `UpscaleController.start` does."""
        self.controller.start(self.source.layer, request, label, work, steps, look)
        self.panel.started()
        self._set_enabled()

    def cancel(self) -> None:
        """Stop; the viewer is then as it was before."""
        self.panel.cancel()

    def leave(self) -> None:
        """Closing the dock ends the work; the viewer goes on without us."""
        self.controller.leave()
        self.source.leave()
        self._inventory_runner.cancel()

    def _on_inventory(self, inventory: models.Inventory) -> None:
        self.source.set_devices(inventory.devices)

    def _set_enabled(self) -> None:
        """Let only those buttons be pressed that do something."""
        raise NotImplementedError
