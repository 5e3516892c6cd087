"""Commands of the menus, for those who want no form. napari injects the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

# Runs without a widget: kept here until they end.
_running: list[Any] = []


def _active_image(viewer: Any) -> Any | None:
    from napari_esrgan import _layers, _notices

    layer = viewer.layers.selection.active
    if layer is None or not _layers.is_image(layer):
        _notices.show_error("select an image layer first")
        return None
    return layer


def upscale_active_layer(viewer: napari.Viewer) -> None:
    """Upscale the active image layer with the preferred model at its own scale."""
    import numpy as np

    from napari_esrgan import _layers, _notices
    from napari_esrgan._controller import UpscaleController, current_request
    from napari_esrgan._job import UpscaleRequest
    from napari_esrgan._preferences import preferences
    from napari_esrgan._ranges import RangeChoice, default_kind, is_lazy

    layer = _active_image(viewer)
    if layer is None:
        return
    wanted = preferences()
    data, axes = _layers.finest(layer), _layers.guessed_axes(layer)
    kind = default_kind(np.dtype(data.dtype), is_lazy(data))
    limits = tuple(float(v) for v in layer.contrast_limits)
    request = UpscaleRequest(
        data=data,
        axes=axes,
        region=_layers.whole_region(layer, axes),
        model=wanted.model,
        outscale=None,
        value_range=RangeChoice(kind, limits if kind == "limits" else None),  # type: ignore[arg-type]
        device=wanted.device,
        budget_bytes=wanted.budget_bytes,
        folder=wanted.folder,
        fill_in_seconds=wanted.fill_in_seconds,
    )
    controller = UpscaleController(viewer)
    _running.append(controller)
    from napari_esrgan._activity import show_activity

    show_activity(controller, f"Upscaling {layer.name}")
    controller.ended.connect(lambda _how: _forget(controller))
    controller.start(layer, current_request(viewer, layer, request), wanted.model)
    _notices.show_info(f"upscaling {layer.name!r}; the activity dock shows how far it is")


def _forget(controller: Any) -> None:
    _running.remove(controller)
    controller.deleteLater()


def cancel_running() -> None:
    """Stop what the menu commands have started."""
    for controller in _running:
        controller.cancel()


def add_consistency_layer(viewer: napari.Viewer) -> None:
    """Compare the active result with its source."""
    from napari_esrgan import _notices
    from napari_esrgan._consistency import ConsistencyController, result_to_check

    result = result_to_check(viewer)
    if result is None:
        _notices.show_error("select a layer that this plugin has upscaled")
        return
    controller = ConsistencyController(viewer)
    _running.append(controller)
    runner = controller.runner
    for signal in (runner.finished, runner.failed, runner.cancelled):
        signal.connect(lambda *_: _forget(controller))
    controller.start(result)
    if not runner.running:
        _forget(controller)


def copy_as_python(viewer: napari.Viewer) -> None:
    """Put a script that computes the active result on the clipboard."""
    from napari_esrgan import _layers, _notices
    from napari_esrgan._clipboard import copy_text
    from napari_esrgan._script import script

    layer = _active_image(viewer)
    if layer is None:
        return
    made = _layers.provenance(layer)
    if made is None:
        _notices.show_error("select a layer that this plugin has upscaled")
        return
    copy_text(script(made))
    _notices.show_info("the script is on the clipboard")
