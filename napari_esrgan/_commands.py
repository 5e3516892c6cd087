"""Commands of the menus, for those who want no form. napari injects the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

# Runs without a widget: kept here until they end.
_running: list[Any] = []


def _active_image(viewer: Any) -> Any | None:
    from napari_esrgan._viewer import layers, notices

    layer = viewer.layers.selection.active
    if layer is None or not layers.is_image(layer):
        notices.show_error("select an image layer first")
        return None
    return layer


def upscale_active_layer(viewer: napari.Viewer) -> None:
    """Upscale the active image layer with the preferred model at its own scale."""
    from napari_esrgan._viewer import layers, notices
    from napari_esrgan._viewer.preferences import preferences
    from napari_esrgan._viewer.requests import default_request
    from napari_esrgan._window.activity import show_activity
    from napari_esrgan._window.model_combo import model_label
    from napari_esrgan._window.run import UpscaleController
    from napari_esrgan._work.upscale import run_upscale

    layer = _active_image(viewer)
    if layer is None:
        return
    wanted = preferences()
    controller = UpscaleController(viewer)
    _running.append(controller)
    show_activity(controller, f"Upscaling {layer.name}")
    controller.ended.connect(lambda _how: _forget(controller))
    request = default_request(viewer, layer, wanted)
    controller.start(layer, request, model_label(wanted.first_model), run_upscale)
    text = f"upscaling {layer.name!r}; the activity dock shows how far it is"
    if (axis := layers.doubtful_axis(layer)) is not None:
        text += f". Its axis {axis} is taken for channels: the widget asks"
    notices.show_info(text)


def _forget(work: Any) -> None:
    _running.remove(work)
    work.deleteLater()


def cancel_running() -> None:
    """Stop what the menu commands have started."""
    for work in _running:
        work.cancel()


def add_consistency_layer(viewer: napari.Viewer) -> None:
    """Compare the active result with its source."""
    from napari_esrgan._viewer import notices
    from napari_esrgan._window.extra_layers import result_to_check, start_consistency
    from napari_esrgan._window.layer_task import LayerTask

    result = result_to_check(viewer)
    if result is None:
        notices.show_error("select a layer that this plugin has upscaled")
        return
    task = LayerTask(viewer)
    _running.append(task)
    task.ended.connect(lambda: _forget(task))
    start_consistency(task, viewer, result)
    if not task.running:
        _forget(task)


def copy_as_python(viewer: napari.Viewer) -> None:
    """Put a script that computes the active result on the clipboard."""
    from napari_esrgan._viewer import layers, notices
    from napari_esrgan._window.clipboard import copy_text
    from napari_esrgan._work.script import script

    layer = _active_image(viewer)
    if layer is None:
        return
    made = layers.provenance(layer)
    if made is None:
        notices.show_error("select a layer that this plugin has upscaled")
        return
    try:
        copy_text(script(made))
    except ValueError as error:
        notices.show_error(str(error))
        return
    notices.show_info("the script is on the clipboard")


def delete_stores(viewer: napari.Viewer) -> None:
    """Delete the results on disk that no layer shows any more, after asking."""
    from napari_esrgan._viewer import layers, notices
    from napari_esrgan._viewer.preferences import preferences
    from napari_esrgan._window.thread import ThreadRunner
    from napari_esrgan._work import stores
    from napari_esrgan._work.wording import size

    made = [layer.metadata.get(layers.METADATA_KEY, {}) for layer in viewer.layers]
    shown = [entry["store"] for entry in made if entry.get("store")]
    unused = stores.unused_stores(preferences().folder, shown)
    if not unused:
        notices.show_info("there are no large results on disk that no layer shows")
        return
    text = f"{len(unused)} results, {size(sum(map(stores.size_of, unused)))}"
    names = "\n".join(str(path) for path in unused[:10]) + ("\n…" if len(unused) > 10 else "")
    if not _confirmed(f"Delete {text}, from disk? This cannot be undone.\n\n{names}"):
        return
    runner = ThreadRunner()
    _running.append(runner)
    runner.finished.connect(lambda _: notices.show_info(f"deleted {text}"))
    runner.failed.connect(notices.tell)
    for signal in (runner.finished, runner.failed, runner.cancelled):
        signal.connect(lambda *_: _forget(runner))
    runner.start(lambda *_: stores.delete(unused), "esrgan-delete")


def _confirmed(question: str) -> bool:
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QMessageBox

    yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
    box = QMessageBox(QMessageBox.Icon.Question, "ESRGAN", question, yes | no)
    box.setTextFormat(Qt.TextFormat.PlainText)  # paths may look like markup
    return box.exec() == yes
