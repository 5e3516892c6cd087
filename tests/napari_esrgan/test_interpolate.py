"""Interpolation: what fits, previews, sweeps, animations, saved models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

import esrgan_ext as esr
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.weights import find_model, save_model
from napari_esrgan._interpolate_widget import InterpolateWidget
from napari_esrgan._viewer import layers
from napari_esrgan._work import mixing
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.request import Mix
from napari_esrgan._work.sweep import frames
from tests.conftest import make_network

RNG = np.random.default_rng(0)


def nothing(_message) -> None:
    pass


def never() -> bool:
    return False


@pytest.fixture
def widget(qtbot, model_file, other_model_file):
    viewer = ViewerModel()
    made = InterpolateWidget(viewer)
    qtbot.addWidget(made)
    qtbot.waitUntil(lambda: not made._inventory_runner.running, timeout=60_000)
    for combo, path in ((made.model_a, model_file), (made.model_b, other_model_file)):
        combo.add_file(replace(find_model(path), name=path))
    return made


def test_models_that_do_not_fit_say_why():
    a, b = find_model("realesrgan-x4plus"), find_model("realesrgan-x4plus-anime")
    reason = mixing.unfit(a, b)
    assert "blocks" in reason
    assert "23" in reason
    assert "6" in reason
    assert mixing.unfit(a, find_model("realsr-df2k")) is None


def test_models_that_do_not_fit_cannot_be_chosen_together(widget):
    widget._viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8))
    assert widget.apply_button.isEnabled()
    widget.model_a.choose("realesrgan-x4plus")
    combo = widget.model_b.combo
    anime = combo.model().item(combo.findData("realesrgan-x4plus-anime"))
    assert not anime.isEnabled()
    assert combo.model().item(combo.findData("realsr-df2k")).isEnabled()
    assert "cannot be mixed" in widget.reason_label.text()  # the tiny model is still chosen
    for button in (widget.apply_button, widget.sweep_button, widget.save_button):
        assert not button.isEnabled()
    widget.model_b.choose("realsr-df2k")
    assert not widget.reason_label.text()
    assert widget.apply_button.isEnabled()


def test_a_mismatch_that_only_the_tensors_show_is_told(widget, qtbot, tmp_path):
    widget._viewer.add_image(RNG.integers(0, 255, (20, 30), np.uint8))
    wider = tmp_path / "wider.safetensors"
    save_model(make_network(nf=16), wider)
    widget.model_b.add_file(replace(find_model(wider), name=str(wider)))
    assert widget.apply_button.isEnabled()  # scale, blocks and channels agree
    widget.preview_check.setChecked(True)
    qtbot.waitUntil(lambda: "conv_first" in widget.reason_label.text(), timeout=30_000)
    assert not widget.apply_button.isEnabled()
    assert not widget.preview_check.isChecked()


def test_the_preview_follows_the_slider(widget, qtbot, model_file, other_model_file):
    viewer = widget._viewer
    data = RNG.integers(0, 255, (40, 50), np.uint8)
    source = viewer.add_image(data, name="cells", scale=(2, 2))
    widget.preview_check.setChecked(True)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    preview = viewer.layers[-1]
    assert viewer.layers.selection.active is source
    for alpha in (0.0, 0.25, 1.0):
        widget.slider.setValue(alpha)
        qtbot.waitUntil(
            lambda alpha=alpha: f"alpha {alpha:.2f}" in widget.panel.status_label.text(),
            timeout=30_000,
        )
        mix = esr.interpolate(model_file, other_model_file, alpha)
        expected = esr.upscale(data, mix, device="cpu")
        np.testing.assert_array_equal(preview.data, expected)
    np.testing.assert_allclose(preview.data_to_world((-0.5, -0.5)), (-1, -1))
    widget.preview_check.setChecked(False)
    assert list(viewer.layers) == [source]


def test_previews_are_bounded():
    region = Rect(0, 1000, 0, 2000)
    small = mixing.preview_region(region, (990, 1000), 50**2)
    assert small == Rect(950, 1000, 975, 1025)
    assert mixing.preview_region(region, (-5, 5), 1) == Rect(0, 24, 0, 24)
    assert mixing.preview_region(Rect(0, 10, 0, 12), (5, 5), 1e6) == Rect(0, 10, 0, 12)


def test_apply_upscales_with_the_mix(widget, qtbot, model_file, other_model_file):
    viewer = widget._viewer
    data = RNG.integers(0, 255, (20, 30), np.uint8)
    viewer.add_image(data, name="cells")
    widget.slider.setValue(0.3)
    with qtbot.waitSignal(widget.controller.ended, timeout=60_000) as ended:
        widget.apply()
    assert ended.args == ["finished"]
    result = viewer.layers[-1]
    assert result.name == "cells x4 [tiny+tiny-b@0.30]"
    mix = esr.interpolate(model_file, other_model_file, 0.3)
    np.testing.assert_array_equal(result.data, esr.upscale(data, mix, device="cpu"))
    assert result.metadata["esrgan"]["model"]["mix"][2] == pytest.approx(0.3)


@pytest.mark.usefixtures("notices")
def test_a_sweep_is_scrolled_by_alpha(widget, qtbot, tmp_path, model_file, other_model_file):
    viewer = widget._viewer
    stack = RNG.integers(0, 255, (5, 20, 30), np.uint8)
    source = viewer.add_image(stack, name="cells", scale=(7, 0.5, 0.5), translate=(3, 2, 1))
    viewer.dims.set_point(0, 3 + 2 * 7)
    widget.steps_spin.setValue(5)
    with qtbot.waitSignal(widget.controller.ended, timeout=60_000) as ended:
        widget.sweep()
    assert ended.args == ["finished"]
    result = viewer.layers[-1]
    assert result.data.shape == (5, 1, 80, 120)
    np.testing.assert_allclose(
        result.data_to_world((4, 0, -0.5, 119.5)), (1.0, *source.data_to_world((2, -0.5, 29.5)))
    )
    assert result.axis_labels[0] == "alpha"
    for step, alpha in enumerate((0, 0.25, 0.5, 0.75, 1)):
        mix = esr.interpolate(model_file, other_model_file, alpha)
        expected = esr.upscale(stack[2], mix, device="cpu")
        np.testing.assert_array_equal(result.data[step, 0], expected)
    assert viewer.dims.ndim == 4
    for suffix in ("gif", "webp", "mp4"):
        path = tmp_path / f"sweep.{suffix}"
        widget.export(str(path))
        qtbot.waitUntil(lambda: not widget.file_runner.running, timeout=30_000)
        assert path.stat().st_size > 0
    import cv2

    video = cv2.VideoCapture(str(tmp_path / "sweep.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 5


def test_a_sweep_can_be_cancelled(widget, qtbot):
    viewer = widget._viewer
    viewer.add_image(RNG.integers(0, 255, (60, 60), np.uint8))
    widget.steps_spin.setValue(201)
    widget.sweep()
    qtbot.waitUntil(lambda: widget.panel.bar.value() > 0, timeout=30_000)
    with qtbot.waitSignal(widget.controller.ended, timeout=30_000) as ended:
        widget.panel.cancel()
    assert ended.args == ["cancelled"]
    assert len(viewer.layers) == 1


def test_the_mix_is_saved(widget, qtbot, tmp_path, model_file, other_model_file, notices):
    path = tmp_path / "mix.safetensors"
    widget.slider.setValue(0.7)
    widget.save(str(path))
    qtbot.waitUntil(lambda: not widget.file_runner.running, timeout=30_000)
    saved = esr.load_model(path).state_dict()
    expected = esr.interpolate(model_file, other_model_file, 0.7).state_dict()
    assert all((saved[key] == expected[key]).all() for key in expected)
    assert ("info", f"ESRGAN: wrote {path}") in notices


def test_frames_are_labelled_pictures():
    stack = np.full((3, 40, 60), 300, np.uint16)
    pictures = frames(stack, (100, 500), rgb=False)
    assert [p.shape for p in pictures] == [(40, 60, 3)] * 3
    assert tuple(pictures[0][0, 0]) == (128, 128, 128)
    assert (pictures[0] != pictures[1]).any()


def test_alpha_axis_keeps_every_transform():
    from napari.layers import Image

    from tests.napari_esrgan.conftest import transforms

    source = Image(np.zeros((3, 20, 30), np.uint8), **transforms("all", 3))
    axes = Axes(("plane", "y", "x"))
    place = layers.placement(source, axes, Rect(0, 20, 0, 30), (1, 80, 120), plane=(1,))
    sweep = Image(np.zeros((21, 1, 80, 120), np.uint8), **layers.with_alpha(place, 21))
    np.testing.assert_allclose(
        sweep.data_to_world((10, 0, 79.5, -0.5)),
        (0.5, *source.data_to_world((1, 19.5, -0.5))),
        atol=1e-9,
    )


def test_a_mix_that_is_one_of_the_two(make_request, model_file, other_model_file):
    data = RNG.integers(0, 255, (12, 14), np.uint8)
    request = make_request(data, model=Mix(model_file, other_model_file, 0.0))
    array, _ = mixing.preview(request, mixing.Mixer(), nothing, never)
    expected = esr.upscale(data, model_file, data_range="minmax", device="cpu")
    np.testing.assert_array_equal(array, expected)


def test_it_begins_with_the_first_pair_that_is_on_this_machine():
    from napari_esrgan._work.models import FIRST_PAIRS, first_pair

    here = [replace(find_model("realsr-df2k"), name=n) for pair in FIRST_PAIRS for n in pair]
    assert first_pair(here) == FIRST_PAIRS[0]
    absent = [replace(info, path=None) for info in here[:2]]
    assert first_pair([*absent, *here[2:]]) == FIRST_PAIRS[-1]
    assert first_pair(here[1:]) == FIRST_PAIRS[-1]
