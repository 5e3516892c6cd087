"""The strength of denoising in the form: the pair's mix, and what each channel asks for."""

from __future__ import annotations

import numpy as np
import pytest

from esrgan_ext.weights.catalogue import CATALOGUE
from napari_esrgan._work.request import Mix


def test_denoising_mixes_the_pair_and_excludes_consistency(make_widget, viewer):
    widget = make_widget()
    viewer.add_image(np.zeros((20, 30), np.uint8))
    assert widget.denoise.slider.isHidden()
    widget.consistent_check.setChecked(True)
    assert widget.request().consistent
    weak, strong = CATALOGUE["realesr-general-x4v3"].denoise
    widget.model_combo.choose(strong)
    assert not widget.denoise.slider.isHidden()
    assert widget.request().model == strong
    assert not widget.request().consistent
    assert not widget.consistent_check.isEnabled()
    widget.denoise.slider.setValue(0.3)
    assert widget.request().model == Mix(weak, strong, 0.3)
    widget.denoise.slider.setValue(0)
    assert widget.request().model == weak
    assert widget.consistent_check.isEnabled()


def test_the_form_says_the_strength_of_each_channel(make_widget, viewer, qtbot):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    clean = 2000 * np.exp(-((y - 24) ** 2 + (x - 20) ** 2) / 90) + 100
    noisy = rng.poisson(clean / 50) * 50.0
    widget = make_widget()
    viewer.add_image(np.stack([clean, noisy]).astype(np.uint16), axis_labels=("c", "y", "x"))
    widget.model_combo.choose("lite-micro-x4")
    qtbot.waitUntil(lambda: widget.request().strengths != (), timeout=60_000)
    request = widget.request()
    assert request.model == "lite-micro-x4"
    assert request.strengths[0] == 0 < request.strengths[1]
    assert widget.denoise.label.text() == "Denoise by channel"
    assert f"0.00, {request.strengths[1]:.2f}" in widget.denoise.label.toolTip()
    assert widget.denoise.slider.value() == pytest.approx(request.strengths[1], abs=0.01)
    assert f"denoise 0.00 to {request.strengths[1]:.2f}" in widget.label
    assert "ups[channel]" in widget.copy_script()
    widget.denoise.slider.setValue(0.3)  # one's own goes for all
    assert widget.request().strengths == ()
    assert widget.request().model == Mix(*CATALOGUE["lite-micro-x4"].denoise, 0.3)
    widget.model_combo.choose("lite-psnr-x4")
    assert widget.request().models == ("lite-psnr-x4",)
