"""A window for a folder of files: where from, where to, how far it is, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from esrgan_ext.literal import literal
from napari_esrgan._viewer import notices
from napari_esrgan._window.dock import form_layout
from napari_esrgan._window.plain import wrapped
from napari_esrgan._window.run_panel import RunPanel
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work.messages import Cancelled, FileDone, FolderOutcome, Report, State
from napari_esrgan._work.request import FolderRequest

Settings = Callable[[], dict[str, Any]]
"""The form's settings: a `FolderRequest`'s fields beyond this window's; ValueError says why not."""

FolderJob = Callable[[FolderRequest, Report, Cancelled], FolderOutcome]


class FolderRun(QObject):
    """Runs a folder; what `RunPanel` follows.

    Parameters
    ----------
    job : callable
        The function that runs in the thread.
    parent : QObject or None

    Signals
    -------
    reported(object)
        `Progress`.
    file_done(object)
        `FileDone`.
    ended(str)
        'finished', 'cancelled' or 'failed'.
    """

    reported = Signal(object)
    file_done = Signal(object)
    ended = Signal(str)

    def __init__(self, job: FolderJob, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job = job
        self._runner = ThreadRunner(self)
        self._runner.reported.connect(self._on_report)
        self._runner.finished.connect(self._on_finished)
        self._runner.failed.connect(self._on_failed)
        self._runner.cancelled.connect(lambda: self.ended.emit("cancelled"))
        self.outcome: FolderOutcome | None = None

    @property
    def running(self) -> bool:
        return self._runner.running

    @property
    def state(self) -> State:
        if not self.running:
            return State.IDLE
        return State.CANCELLING if self._runner.cancelling else State.WORKING

    def start(self, request: FolderRequest) -> None:
        """Begin.

        Raises
        ------
        RuntimeError
            If a folder is under way.
        """
        self.outcome = None
        self._runner.start(partial(self._job, request), "esrgan-folder")

    def cancel(self) -> None:
        """Stop; files that are finished stay."""
        self._runner.cancel()

    def _on_report(self, message: Any) -> None:
        (self.file_done if isinstance(message, FileDone) else self.reported).emit(message)

    def _on_finished(self, outcome: FolderOutcome) -> None:
        self.outcome = outcome
        self.ended.emit("finished")

    def _on_failed(self, error: BaseException) -> None:
        notices.tell(error)
        self.ended.emit("failed")


class FolderDialog(QDialog):
    """Asks for two folders and upscales from one into the other, with the form's settings.

    Stays open beside the viewer; closed while it runs, it runs on.

    Parameters
    ----------
    job : callable
    settings : Settings
    parent : QWidget
    """

    def __init__(self, job: FolderJob, settings: Settings, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Upscale a folder")
        self._settings = settings
        self.run = FolderRun(job, self)
        self.source_line, self.target_line = QLineEdit(), QLineEdit()
        self.recursive_check = QCheckBox("Folders below too")
        self.overwrite_check = QCheckBox("Redo files that already have a result")
        self.start_button = QPushButton("Run")
        self.start_button.setDefault(True)
        self.panel = RunPanel(self.run)
        self.panel.cancel_button.setToolTip("Stop; files that are finished stay")
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setTabChangesFocus(True)
        self.log.setPlaceholderText("Files that fail are listed here; the others go on.")
        self._done = self._noted = 0
        form = form_layout()
        form.addRow("Images in", _with_button(self.source_line, "Folder of the images"))
        form.addRow("Results in", _with_button(self.target_line, "Folder of the results"))
        form.addRow("", self.recursive_check)
        form.addRow("", self.overwrite_check)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start_button, 1)
        buttons.addWidget(self.panel.cancel_button, 1)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addWidget(
            wrapped(
                "With the form's model, scale, values and device. Results are OME-TIFF, with pixel "
                "size, units, channel names and what made them."
            )
        )
        column.addLayout(buttons)
        column.addWidget(self.panel)
        column.addWidget(self.log, 1)
        self.resize(480, 420)
        self.source_line.textChanged.connect(self._suggest)
        self.source_line.textChanged.connect(self._set_enabled)
        self.target_line.textChanged.connect(self._set_enabled)
        self.start_button.clicked.connect(self.start)
        self.run.file_done.connect(self._on_file)
        self.run.ended.connect(self._on_ended)
        self._set_enabled()

    def start(self) -> None:
        """Begin with what the fields say."""
        if self.run.running:
            return
        try:
            settings = self._settings()
        except ValueError as error:
            notices.show_error(str(error))
            return
        request = FolderRequest(
            source=Path(self.source_line.text()).expanduser(),
            target=Path(self.target_line.text()).expanduser(),
            recursive=self.recursive_check.isChecked(),
            overwrite=self.overwrite_check.isChecked(),
            **settings,
        )
        self.log.clear()
        self._done = self._noted = 0
        self.run.start(request)
        self.panel.started()
        self._set_enabled()

    def _suggest(self, source: str) -> None:
        """Results beside the images, until another folder is chosen."""
        if not self.target_line.isModified():
            self.target_line.setText(str(Path(source) / "upscaled") if source else "")

    def _on_file(self, file: FileDone) -> None:
        self._done += not file.error
        self._noted += bool(file.notes)
        lines = [f"{file.source}: failed: {file.error}"] if file.error else []
        lines += [f"{file.source}: {note}" for note in file.notes]
        for line in lines:
            self.log.appendPlainText(literal(line))

    def _on_ended(self, how: str) -> None:
        self._set_enabled()
        outcome = self.run.outcome
        if how == "cancelled":
            self.panel.say(f"Cancelled; {_files(self._done)} done, and kept.")
        if outcome is None:
            return
        parts = [f"{_files(outcome.done)} done"]
        if outcome.skipped:
            parts.append(f"{outcome.skipped} had a result already")
        if outcome.failed:
            parts.append(f"{len(outcome.failed)} failed, listed below")
        if self._noted:
            parts.append(f"{self._noted} with notes")
        text = ", ".join(parts)
        self.panel.say(f"{text}.")
        if outcome.failed:
            notices.show_warning(f"the folder is finished: {text}")

    def _set_enabled(self) -> None:
        ready = bool(self.source_line.text().strip() and self.target_line.text().strip())
        self.start_button.setEnabled(ready and not self.run.running)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _with_button(line: QLineEdit, title: str) -> QWidget:
    """A path, and a button that asks for one."""
    both = QWidget()
    row = QHBoxLayout(both)
    row.setContentsMargins(0, 0, 0, 0)
    button = QToolButton()
    button.setText("…")
    button.setToolTip(title)
    row.addWidget(line, 1)
    row.addWidget(button)

    def ask() -> None:
        path = QFileDialog.getExistingDirectory(both, title, line.text())
        if path:
            line.setText(path)
            line.setModified(True)

    button.clicked.connect(ask)
    return both
