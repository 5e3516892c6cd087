"""Choosing a model: one of the catalogue, or a file of the user's by dialog or drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from esrgan_ext.weights.catalogue import FAITHFUL
from napari_esrgan._viewer import notices
from napari_esrgan._window.plain import shrinkable, tip
from napari_esrgan._window.thread import ThreadRunner
from napari_esrgan._work.advice import GROUPS

if TYPE_CHECKING:
    from esrgan_ext.weights import ModelInfo

MODEL_SUFFIXES = (".pth", ".pt", ".safetensors", ".param", ".bin", ".ckpt", ".zip")


def is_model_file(model: str) -> bool:
    """Whether what `load_model` takes is a path and not a name."""
    return Path(model).suffix.lower() in MODEL_SUFFIXES


def model_label(model: str) -> str:
    """A catalogue name as it is, a file by its name without folder and suffix."""
    return Path(model).stem if is_model_file(model) else model


def model_tip(info: ModelInfo) -> str:
    """Text of a model's tooltip: purpose, scale, size, license."""
    size = "size unknown" if info.size_bytes is None else f"{info.size_bytes / 1e6:.0f} MB"
    where = "" if info.path is not None else ", downloaded on first use"
    return (
        f"{info.name}: {info.purpose}\nx{info.scale}, {info.blocks} blocks, {size}{where}\n"
        f"License: {info.license}"
    )


class ModelCombo(QWidget):
    """A catalogue model or a file of the user's.

    Parameters
    ----------
    first : str
        Chosen until the catalogue has arrived, and then if it is in there.

    Signals
    -------
    model_changed()
        Another one is chosen, or more is known about it.
    picked(str)
        The user chose this one.
    """

    model_changed = Signal()
    picked = Signal(str)

    def __init__(self, first: str) -> None:
        super().__init__()
        self._file_runner = ThreadRunner(self)
        self._file_runner.finished.connect(self._on_file)
        self._file_runner.failed.connect(self._on_file_error)
        self._next_file: str | None = None
        self._infos: list[ModelInfo] = []
        self._reasons: dict[str, str] = {}
        self.combo = shrinkable(QComboBox())
        self._items = QStandardItemModel(self.combo)
        self.combo.setModel(self._items)
        self.combo.addItem(first)
        self.combo.setItemData(0, first)
        self.button = QToolButton()
        self.button.setText("…")
        self.button.setToolTip("Choose a model file (.pth, .safetensors, ncnn .param); or drop one")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo, 1)
        layout.addWidget(self.button)
        self.setAcceptDrops(True)
        self.button.clicked.connect(self._ask)
        self.combo.currentIndexChanged.connect(self._on_index)
        self.combo.activated.connect(lambda _: self.picked.emit(self.key))

    @property
    def key(self) -> str:
        """The chosen model as `load_model` takes it: a name or a path."""
        return str(self.combo.currentData())

    @property
    def info(self) -> ModelInfo | None:
        """The chosen model's `ModelInfo`; None before the list has arrived."""
        return next((info for info in self._infos if info.name == self.key), None)

    @property
    def label(self) -> str:
        """The model in a layer's name."""
        return model_label(self.key)

    @property
    def infos(self) -> list[ModelInfo]:
        return self._infos

    def set_models(self, infos: Sequence[ModelInfo]) -> None:
        """Fill in the catalogue, keeping the choice and the user's files."""
        chosen = self.key
        known = {info.name for info in infos}
        self._infos = [*infos, *(info for info in self._infos if info.name not in known)]
        self._fill(chosen)
        if self.key != chosen and is_model_file(chosen):  # of the preferences
            self.use_file(chosen)

    def add_file(self, info: ModelInfo) -> None:
        """Add a file of the user's and choose it; its `name` must be the path."""
        if self.combo.findData(info.name) < 0:
            self._infos.append(info)
        self._fill(info.name)
        self.picked.emit(info.name)

    def _on_file(self, info: ModelInfo) -> None:
        self.add_file(info)
        self._look_at_next()

    def _on_file_error(self, error: BaseException) -> None:
        notices.tell(error)
        self._look_at_next()

    def _look_at_next(self) -> None:
        path, self._next_file = self._next_file, None
        if path is not None:
            self.use_file(path)

    def choose(self, key: str) -> None:
        if (index := self.combo.findData(key)) >= 0:
            self.combo.setCurrentIndex(index)

    def set_unfit(self, reasons: dict[str, str]) -> None:
        """Models that cannot be chosen now, and why."""
        self._reasons = reasons
        self._describe()

    def _fill(self, chosen: str) -> None:
        """Build the list in its groups, and choose a model of it."""
        self.combo.blockSignals(True)
        self.combo.clear()
        for role, title in GROUPS:
            members = [info for info in self._infos if info.role == role]
            if not members:
                continue
            self.combo.addItem(title)
            header = self._items.item(self.combo.count() - 1)
            assert header is not None
            header.setFlags(Qt.ItemFlag.NoItemFlags)  # neither mouse nor keys stop there
            font = self.combo.font()
            font.setBold(True)
            header.setFont(font)
            for info in members:
                name = Path(info.name).name if is_model_file(info.name) else info.name
                self.combo.addItem(f"  {name}", info.name)
        index = self.combo.findData(chosen)
        self.combo.setCurrentIndex(self.combo.findData(FAITHFUL) if index < 0 else index)
        self.combo.blockSignals(False)
        self._describe()
        self._on_index()

    def _describe(self) -> None:
        """Tooltips, and whether a model can be chosen."""
        for info in self._infos:
            row = self.combo.findData(info.name)
            item = self._items.item(row)
            assert item is not None
            reason = self._reasons.get(info.name)
            item.setEnabled(reason is None)
            text = model_tip(info) if reason is None else f"{reason}\n\n{model_tip(info)}"
            self.combo.setItemData(row, tip(text), Qt.ItemDataRole.ToolTipRole)

    def _on_index(self, _: int = 0) -> None:
        if self.info is not None:
            self.combo.setToolTip(tip(model_tip(self.info)))
        self.model_changed.emit()

    def use_file(self, path: str) -> None:
        """Read what a model file is (in a thread), add it to the list and choose it."""
        if self._file_runner.running:
            self._next_file = path
            return

        def look(*_: Any) -> ModelInfo:
            from esrgan_ext.weights import find_model

            return replace(find_model(path), name=path)

        self._file_runner.start(look, "esrgan-model-file")

    def _ask(self) -> None:
        pattern = " ".join(f"*{suffix}" for suffix in MODEL_SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", f"Models ({pattern})")
        if path:
            self.use_file(path)

    def dragEnterEvent(self, event: Any) -> None:
        if _dropped_model(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        if (path := _dropped_model(event)) is not None:
            event.acceptProposedAction()
            self.use_file(path)


def _dropped_model(event: Any) -> str | None:
    paths = [url.toLocalFile() for url in event.mimeData().urls()]
    return next((path for path in paths if is_model_file(path)), None)
