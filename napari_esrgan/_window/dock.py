"""A widget in a dock: scrolls where it is low, and notices when its dock is gone.

napari closes a dock by taking the widget out of it, without a close event.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QFormLayout, QScrollArea, QVBoxLayout, QWidget

# The names of the packaged models and of the CPU fit into their boxes.
MINIMUM_WIDTH = 330


class DockedWidget(QWidget):
    """Calls `leave` once: when it is closed, or taken out of its dock."""

    _left = False

    def leave(self) -> None:
        """Stop the work, let go of the viewer."""
        raise NotImplementedError

    def add_column(self) -> QVBoxLayout:
        """The column of a form's parts, in a scroll area: docks share a window's height."""
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(6, 6, 6, 6)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(MINIMUM_WIDTH)
        return column

    def event(self, event: Any) -> bool:
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._leave_once()
        return super().event(event)

    def closeEvent(self, event: Any) -> None:
        self._leave_once()
        super().closeEvent(event)

    def _leave_once(self) -> None:
        if not self._left:
            self._left = True
            self.leave()


def form_layout() -> QFormLayout:
    """Labels and fields; the fields take what width there is."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form
