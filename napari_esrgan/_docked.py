"""A widget that notices when its dock is gone.

napari closes a dock by taking the widget out of it, without a close event.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget


class DockedWidget(QWidget):
    """Calls `leave` once: when it is closed, or taken out of its dock."""

    _left = False

    def leave(self) -> None:
        """Stop the work, let go of the viewer."""
        raise NotImplementedError

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
