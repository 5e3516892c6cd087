"""The size of the result in the form: a factor or a pixel size."""

from __future__ import annotations

import numpy as np
import pytest

from tests.napari_esrgan.conftest import run

RNG = np.random.default_rng(0)


def test_a_pixel_size_sets_the_scale(make_widget, viewer, qtbot):
    widget = make_widget()
    layer = viewer.add_image(
        RNG.integers(0, 255, (20, 30), np.uint8), scale=(0.325, 0.325), units=("um", "um")
    )
    assert widget.scale_field.size_line.placeholderText() == "0.08125 µm"
    qtbot.keyClicks(widget.scale_field.size_line, "100 nm")
    assert widget.scale_field.scale_spin.value() == 3.25
    qtbot.waitUntil(lambda: "65 × 98" in widget.estimate_label.text(), timeout=30_000)
    assert run(qtbot, widget) == "finished"
    result = viewer.layers[-1]
    assert result.data.shape == (65, 98)
    np.testing.assert_allclose(result.scale, (0.1, 0.325 * 30 / 98), rtol=1e-12)
    assert [str(unit) for unit in result.units] == ["micrometer"] * 2
    np.testing.assert_allclose(
        result.data_to_world((64.5, 97.5)), layer.data_to_world((19.5, 29.5)), atol=1e-12
    )

    # Another layer, the same size: another scale.
    widget.source.layer_combo.choose(viewer.add_image(np.zeros((9, 9)), scale=(0.2, 0.2)))
    qtbot.waitUntil(lambda: "no pixel size" in widget.estimate_label.text())
    viewer.layers[-1].units = ("um", "um")
    assert widget.request().outscale == 2
    widget.scale_field.scale_spin.setValue(3)
    assert widget.scale_field.size_line.text() == ""
    assert widget.request().outscale == 3
    widget.scale_field.scale_spin.setValue(4)
    assert widget.request().outscale is None


def test_the_models_own_scale_by_pixel_size_is_the_model(make_widget, viewer):
    widget = make_widget()
    viewer.add_image(np.zeros((9, 9), np.uint8), scale=(0.4, 0.4), units=("um", "um"))
    widget.scale_field.size_line.setText("0.1")
    assert widget.request().outscale in (None, 4)
    widget.scale_field.size_line.setText("0.1 parsec")
    with pytest.raises(ValueError, match="possible"):
        widget.request()
