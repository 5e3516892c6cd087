"""Qt's fields as a narrow dock needs them: they shrink, wrap, and leave the wheel to the form."""

from __future__ import annotations

import html
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QComboBox, QLabel, QSizePolicy, QWidget

from napari_esrgan._viewer.notices import warning_colour
from napari_esrgan._work.advice import Advice


class _WheelGuard(QObject):
    """Lets the wheel scroll the form where it would change a value that merely lies under it."""

    def eventFilter(self, watched: QObject | None, event: Any) -> bool:
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():  # type: ignore[union-attr]
            event.ignore()
            return True
        return False


def guard_wheel(field: QWidget) -> QWidget:
    """Make a field ignore the wheel until it has the focus."""
    field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    field.installEventFilter(_WheelGuard(field))
    return field


def shrinkable(combo: QComboBox) -> QComboBox:
    """Let a combo box be narrower than its longest entry; a dock is narrow."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    guard_wheel(combo)
    return combo


def label(text: str = "") -> QLabel:
    """A label that shows its text as it is: names of layers and files may look like markup."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    return made


def wrapped(text: str = "") -> QLabel:
    """A label that breaks its lines; a dock is narrow."""
    made = label(text)
    made.setWordWrap(True)
    return made


def tip(text: str) -> str:
    """Text for a tooltip, which has no switch for plain text."""
    return f"<qt>{html.escape(text).replace(chr(10), '<br>')}</qt>"


def show_advice(made: QLabel, line: Advice) -> None:
    """A line about the choice, in the colour of warnings where it is one."""
    made.setText(line.text)
    made.setStyleSheet(f"color: {warning_colour()}" if line.warning else "")
