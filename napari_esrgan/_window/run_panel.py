"""How far a run is: a bar, a line of text, and the button that stops it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_esrgan._window.plain import wrapped
from napari_esrgan._work.messages import Progress, State
from napari_esrgan._work.wording import ENDINGS, describe_progress

if TYPE_CHECKING:
    from napari_esrgan._window.folder_dialog import FolderRun
    from napari_esrgan._window.run import UpscaleController


class RunPanel(QWidget):
    """Follows a controller.

    The button is not laid out: it belongs beside the one that starts the run.
    """

    def __init__(self, controller: UpscaleController | FolderRun) -> None:
        super().__init__()
        self._controller = controller
        self._prefix = ""
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; the viewer is then as it was before")
        self.cancel_button.setEnabled(False)
        self.bar = QProgressBar()
        # A determinate bar from the start: an indeterminate one costs half a core.
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.status_label = wrapped()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.bar)
        column.addWidget(self.status_label)
        self.cancel_button.clicked.connect(self.cancel)
        controller.reported.connect(self._on_report)
        controller.ended.connect(self._on_ended)

    def started(self) -> None:
        """A run has begun."""
        self.bar.setValue(0)
        self.status_label.setText("Starting…")
        self.cancel_button.setEnabled(True)

    def cancel(self) -> None:
        """Stop the run; the viewer is then as it was before."""
        if self._controller.running:
            self.status_label.setText("Stopping…")
            self.cancel_button.setEnabled(False)
            self._controller.cancel()

    def say(self, text: str) -> None:
        self.status_label.setText(text)

    def set_prefix(self, text: str) -> None:
        """Prefix of the progress text, where a run is one of several."""
        self._prefix = f"{text}: " if text else ""

    def _on_report(self, message: Any) -> None:
        if self._controller.state is State.CANCELLING:
            return
        if isinstance(message, Progress):
            self.bar.setValue(1000 * message.done // max(message.total, 1))
        self.status_label.setText(self._prefix + describe_progress(message))

    def _on_ended(self, how: str) -> None:
        self.bar.setValue(1000 if how == "finished" else 0)
        self.status_label.setText(ENDINGS[how])
        self.cancel_button.setEnabled(False)
