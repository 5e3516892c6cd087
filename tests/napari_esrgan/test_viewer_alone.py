"""The plugin in a real napari window: how lively the window stays, and what is kept in memory."""

from __future__ import annotations

import gc
import time
from dataclasses import replace

import numpy as np
import pytest

from napari_esrgan._upscale_widget import UpscaleWidget
from napari_esrgan._window.layer_adder import LayerAdder
from napari_esrgan._window.run_panel import RunPanel
from napari_esrgan._window.thread import ThreadRunner
from tests.napari_esrgan.conftest import (
    SLOW_MODEL,
    finish,
    held_bytes,
    largest_gap,
    run_and_forget,
)

RNG = np.random.default_rng(0)


@pytest.fixture
def slots(monkeypatch) -> list[float]:
    """How long each call of the plugin by Qt's event loop takes, napari's part included.

    Whatever threads report comes through `ThreadRunner._poll`, layers through `LayerAdder._step`.
    """
    taken: list[float] = []

    def timed(function):
        def call(self):
            begin = time.perf_counter()
            try:
                return function(self)
            finally:
                taken.append(time.perf_counter() - begin)

        return call

    for owner, name in (
        (ThreadRunner, "_poll"),
        (LayerAdder, "_step"),
        (UpscaleWidget, "run"),
        (UpscaleWidget, "_estimate"),
        (RunPanel, "cancel"),
    ):
        monkeypatch.setattr(owner, name, timed(getattr(owner, name)))
    return taken


@pytest.mark.parametrize("how", ["filling in", "whole", "cancelled"])
@pytest.mark.alone(by_the_clock=True)
def test_the_window_stays_responsive(slots, docked, qtbot, how):
    """A real upscale of 256 x 256: no slot takes 100 ms and a 20 ms timer waits less than 250.

    Other processes hold up a slot as they do anything else: so of five runs one counts that was
    not held up. Where all were, what napari's own `add_image` takes in between is the measure:
    inserting the layer is most of it, and single times differ by a quarter.
    """
    viewer, widget = docked
    layer = viewer.add_image(RNG.integers(0, 255, (256, 256), np.uint8))
    # A result of the same size from a smaller network: the window is judged, not how long it takes.
    widget.model_combo.choose(SLOW_MODEL if how == "cancelled" else "lite-psnr-x4")
    widget.source.wanted = replace(
        widget.source.wanted, fill_in_seconds=1e9 if how == "whole" else 0
    )
    qtbot.wait(500)  # the first drawing of the canvas

    def work() -> None:
        if how != "cancelled":
            finish(qtbot, widget)
            return
        widget.run()
        qtbot.waitUntil(lambda: widget.panel.bar.value() > 0, timeout=60_000)
        with qtbot.waitSignal(widget.controller.ended, timeout=60_000):
            widget.panel.cancel_button.click()

    runs, controls = [], []
    for _ in range(5):
        slots.clear()
        gap = largest_gap(qtbot, work)
        runs.append((max(slots), gap))
        while len(viewer.layers) > 1:
            viewer.layers.remove(viewer.layers[-1])
        if max(slots) < 0.1 and gap < 0.25:
            break
        controls.append(add_image_time(viewer, qtbot))
        viewer.layers.selection.active = layer
    print(f"{how}: slowest slot and largest gap {runs}, napari's add_image {controls}")
    if len(controls) == len(runs):  # too busy a machine to tell by the clock
        slot, gap = np.median(runs, axis=0)
        assert min(slot for slot, _ in runs) < 0.1 or slot < 1.25 * np.median(controls)
        assert min(gap for _, gap in runs) < 0.25 or gap < 2 * np.median(controls)


def add_image_time(viewer, qtbot) -> float:
    """What napari takes to add a layer of the result's size in one go, in seconds."""
    begin = time.perf_counter()
    layer = viewer.add_image(np.zeros((1024, 1024), np.uint8), contrast_limits=(0, 255))
    taken = time.perf_counter() - begin
    qtbot.wait(100)
    viewer.layers.remove(layer)
    return taken


# Layers that come and go within a frame crash the software renderer of virtual screens.
@pytest.mark.parametrize("docked", [False], indirect=True)
@pytest.mark.alone
def test_nothing_is_kept_of_ten_runs_and_ten_cancels(docked, qtbot):
    viewer, widget = docked
    dead = []

    def cycle(cancel: bool) -> None:
        layer = viewer.add_image(RNG.integers(0, 255, (128, 128), np.uint8))
        dead.extend(run_and_forget(qtbot, viewer, widget, layer, cancel=cancel))

    def bare() -> None:
        """The same layers without the plugin: napari keeps some MB of each for itself."""
        viewer.add_image(RNG.integers(0, 255, (128, 128), np.uint8))
        viewer.add_image(RNG.integers(0, 255, (512, 512), np.uint8))
        qtbot.wait(50)
        viewer.layers.clear()
        qtbot.waitUntil(lambda: not widget._estimate_runner.running, timeout=60_000)

    def growth(step) -> int:
        """Of ten steps; napari collects garbage by itself whenever layers go."""
        before = held_bytes()
        for _ in range(10):
            step()
        return held_bytes() - before

    def kept(cancel: bool) -> int:
        """By the plugin, of ten runs or cancels.

        What is kept grows every time, what is only cached does so once. What napari keeps matters
        only where there is much in all.
        """
        grown = growth(lambda: cycle(cancel))
        if grown >= limit:
            grown = min(grown, growth(lambda: cycle(cancel))) - growth(bare)
        return grown

    # Ten that were kept would be 90 MB or more; 20 MB are fragments of other tests' memory.
    limit = 45e6
    cycle(cancel=False)
    runs, cancels = kept(cancel=False), kept(cancel=True)
    print(f"kept of ten runs: {runs / 1e6} MB, of ten cancels: {cancels / 1e6}")
    qtbot.waitUntil(lambda: not widget._estimate_timer.isActive())
    qtbot.waitUntil(lambda: not widget._estimate_runner.running, timeout=60_000)
    qtbot.waitUntil(lambda: gc.collect() >= 0 and all(ref() is None for ref in dead))
    assert runs < limit
    assert cancels < limit
