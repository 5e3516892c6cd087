"""Names of layers, files and models are shown as they are: never as markup, never as a command."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QLabel

from napari_esrgan import _interpolate_widget, _upscale_widget
from napari_esrgan._viewer.notices import plain
from napari_esrgan._window.plain import tip

HOSTILE = '<img src="file:///etc/hosts"><b>bold</b> & \x1b[31mred\x1b]0;title\x07 \x9b2J <!-- x -->'


@pytest.mark.parametrize(
    "make", [_upscale_widget.UpscaleWidget, _interpolate_widget.InterpolateWidget]
)
def test_no_label_of_a_form_takes_markup(qtbot, make):
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 4, 5)), name=HOSTILE, axis_labels=("<b>z</b>", "y", "x"))
    widget = make(viewer)
    qtbot.addWidget(widget)
    labels = [label for label in widget.findChildren(QLabel) if label.text()]
    assert labels
    for label in labels:
        rich = label.textFormat() != Qt.TextFormat.PlainText and Qt.mightBeRichText(label.text())
        assert not rich, label.text()
    qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)


def test_tooltips_show_what_was_meant(qtbot):
    document = QTextDocument()
    document.setHtml(tip(f"{HOSTILE}\nsecond"))
    first, second = document.toPlainText().split("\n")
    assert first.startswith("<img src=")
    assert second == "second"


def test_notifications_are_literal():
    text = plain(f"{HOSTILE}\nsecond")
    assert not Qt.mightBeRichText(text)
    assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 for c in text)
    assert "\\x1b[31mred" in text
    assert plain("Ünïcode 細胞 a < b") == "Ünïcode 細胞 a < b"
