"""Text onto the clipboard."""

from __future__ import annotations

from qtpy.QtWidgets import QApplication


def copy_text(text: str) -> None:
    """Put text on the clipboard, where the platform has one."""
    if (clipboard := QApplication.clipboard()) is not None:
        clipboard.setText(text)
