"""Fixtures of the plugin's tests: a tiny model on disk, requests, layers with every transform."""

from __future__ import annotations

import ctypes
import gc
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from esrgan_ext.models import RRDBNet
from esrgan_ext.weights import save_model
from napari_esrgan._work import models
from napari_esrgan._work.axes import guess_axes, whole
from napari_esrgan._work.ranges import RangeChoice
from napari_esrgan._work.request import UpscaleRequest
from tests.conftest import make_network

SLOW_MODEL = "realesrgan-x4plus-anime"


def never() -> bool:
    """Nobody cancels."""
    return False


def words(shape: tuple[int, ...], low: int = 100, high: int = 4000) -> np.ndarray:
    """An image of 16 bits as a camera of 12 fills it."""
    return np.random.default_rng(shape).integers(low, high, shape, np.uint16)


def held_bytes() -> int:
    """Resident memory without what nobody holds: cycles, and what malloc keeps for its next use.

    Every thread may allocate from another of glibc's arenas, which each keep tens of MB.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    return psutil.Process().memory_info().rss


def largest_gap(qtbot, until) -> float:
    """The longest pause between two ticks of a 20 ms timer, in seconds."""
    from qtpy.QtCore import Qt, QTimer

    ticks = [time.perf_counter()]
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.setInterval(20)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start()
    until()
    timer.stop()
    return float(np.diff(ticks).max())


def finish(qtbot, widget) -> None:
    """Run a widget to its end."""
    with qtbot.waitSignal(widget.controller.ended, timeout=120_000) as ended:
        widget.run()
    assert ended.args == ["finished"]


def lively_network(seed: int) -> RRDBNet:
    """A tiny network whose result spreads around the middle of the range.

    As it comes its result is about 0, and a test on integers would compare black with black.
    """
    network = make_network(seed)
    network.conv_last.weight *= 5
    network.conv_last.bias += 0.5
    return network


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny x4 network as a file, which is what the plugin takes for a model."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(lively_network(0), path)
    return str(path)


@pytest.fixture(scope="session")
def other_model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another of the same architecture, to mix with."""
    path = tmp_path_factory.mktemp("models") / "tiny-b.safetensors"
    save_model(lively_network(1), path)
    return str(path)


@pytest.fixture(autouse=True)
def fresh_preferences(plugin_settings) -> None:
    """No test reads or writes the preferences of whoever runs it."""


@pytest.fixture(autouse=True)
def quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timing of the machine, whose result would decide what is shown when."""
    monkeypatch.setattr(models, "_speeds", {("cpu", "fp32"): 1e12})
    monkeypatch.setattr(models, "learn_speed", lambda *_: None)


@pytest.fixture
def make_request(model_file: str) -> Callable[..., UpscaleRequest]:
    def make(data: Any, *, rgb: bool = False, **changes: Any) -> UpscaleRequest:
        axes = changes.pop("axes", None) or guess_axes(data.shape[: data.ndim - rgb], rgb)
        request = UpscaleRequest(
            data=data,
            axes=axes,
            region=whole(axes, data.shape),
            model=model_file,
            outscale=None,
            value_range=RangeChoice("minmax"),
            device="cpu",
            shown=(0,) * len(axes.outer),
        )
        return replace(request, **changes)

    return make


def rotation(ndim: int, degrees: float = 17.0) -> np.ndarray:
    """A rotation of the last two of `ndim` axes."""
    matrix = np.eye(ndim)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix[-2:, -2:] = [[c, -s], [s, c]]
    return matrix


def transforms(kind: str, ndim: int) -> dict[str, Any]:
    """Arguments of a layer with a scale, a translation and one kind of transform, or all."""
    rng = np.random.default_rng(ndim)
    arguments: dict[str, Any] = {
        "scale": rng.uniform(0.2, 2.0, ndim),
        "translate": rng.uniform(-50, 50, ndim),
        "units": ("second", "um", "um")[-ndim:],
        "axis_labels": ("t", "y", "x")[-ndim:],
    }
    if kind in ("rotate", "all"):
        arguments["rotate"] = rotation(ndim)
    if kind in ("shear", "all"):
        arguments["shear"] = np.full(ndim * (ndim - 1) // 2, 0.2)
    if kind in ("affine", "all"):
        affine = np.eye(ndim + 1)
        affine[:ndim, :ndim] += rng.uniform(-0.2, 0.2, (ndim, ndim))
        affine[:ndim, ndim] = rng.uniform(-9, 9, ndim)
        arguments["affine"] = affine
    return arguments


@pytest.fixture
def microscopy(shared_data: Path) -> Callable[[str], np.ndarray]:
    """Read one of the development files."""
    import tifffile

    return lambda name: tifffile.imread(shared_data / "microscopy" / name)


@pytest.fixture
def notices(monkeypatch):
    """Every notification, as (severity, text)."""
    from napari.utils import notifications

    seen = []
    for severity in ("info", "warning", "error"):
        monkeypatch.setattr(
            notifications, f"show_{severity}", lambda text, s=severity: seen.append((s, text))
        )
    return seen


@pytest.fixture
def viewer():
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def make_widget(qtbot, viewer, model_file):
    """Makes the Upscale widget with a tiny model chosen."""
    from napari_esrgan._upscale_widget import UpscaleWidget

    def make() -> UpscaleWidget:
        widget = UpscaleWidget(viewer)
        qtbot.addWidget(widget)
        qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)
        if not model_file.endswith(".none"):
            widget.model_combo.use_file(model_file)
            qtbot.waitUntil(lambda: widget.model_combo.key == model_file, timeout=30_000)
        return widget

    return make


def run(qtbot, widget) -> str:
    """Run what the form says, to its end; how that was."""
    with qtbot.waitSignal(widget.controller.ended, timeout=60_000) as ended:
        widget.run()
        assert widget.controller.running, "the run did not start"
    return ended.args[0]


def run_and_forget(qtbot, viewer, widget, layer, *, cancel: bool) -> list[weakref.ref[Any]]:
    """Run the active layer, or cancel that, and take all layers away; references to their data,
    which nothing may hold any more."""
    held = [weakref.ref(layer.data)]
    widget.run()
    if cancel:
        widget.cancel()
    qtbot.waitUntil(lambda: not widget.controller.running, timeout=60_000)
    if not cancel:
        held.append(weakref.ref(viewer.layers[-1].data))
    viewer.layers.clear()
    # The estimate that a new layer starts holds its array while it runs.
    qtbot.waitUntil(lambda: not widget._estimate_runner.running, timeout=60_000)
    return held


@pytest.fixture
def plugin(npe2pm) -> None:
    """The plugin as it is installed."""
    from npe2 import PluginManifest

    if "esrgan-ext" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("esrgan-ext"))


@pytest.fixture(params=[True])
def docked(plugin, make_napari_viewer, qtbot, model_file, request):
    """A viewer, on screen unless the parameter says otherwise, with the Upscale widget."""
    viewer = make_napari_viewer(show=request.param)
    _, widget = viewer.window.add_plugin_dock_widget("esrgan-ext", "Upscale")
    qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)
    widget.model_combo.use_file(model_file)
    qtbot.waitUntil(lambda: widget.model_combo.key == model_file, timeout=30_000)
    return viewer, widget
