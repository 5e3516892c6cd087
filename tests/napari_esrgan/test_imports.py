"""What each folder of the plugin may import: downwards only, and the toolkits where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

import napari_esrgan
from tests.import_graph import floors, graph, imports, modules_of

ROOT = Path(napari_esrgan.__file__).parent
FOLDERS = ("_work", "_viewer", "_window", "")  # from the ground up; "" are the manifest's entries
QT = {"qtpy", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui"}
VIEWER = {"napari", "npe2", "vispy"}
FORBIDDEN = {"_work": QT | VIEWER, "_viewer": QT, "_window": set(), "": set()}
MOST_FLOORS = 6


MODULES = modules_of(ROOT)


def folder(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS else ""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_downwards_only(module):
    here = folder(module)
    for name in imports(MODULES[module]):
        if name in MODULES and name != "napari_esrgan":
            assert FOLDERS.index(folder(name)) <= FOLDERS.index(here), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_qt_and_napari_stay_in_their_folders(module):
    roots = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not roots & FORBIDDEN[folder(module)]


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_never_imported_with_a_module(module):
    """Opening a widget must not wait for torch; worker threads import it."""
    names = imports(MODULES[module], at_load_only=True)
    assert not {name.split(".")[0] for name in names} & {"torch"}
    assert not any(name.startswith("torch._dynamo") for name in imports(MODULES[module]))


def test_no_circles_and_few_floors():
    heights = floors(graph(MODULES))
    highest = max(heights, key=heights.__getitem__)
    assert heights[highest] <= MOST_FLOORS, highest
