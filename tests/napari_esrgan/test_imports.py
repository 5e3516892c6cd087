"""What each folder of the plugin may import: downwards only, and the toolkits where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import napari_esrgan

ROOT = Path(napari_esrgan.__file__).parent
FOLDERS = ("_work", "_viewer", "_window", "")  # from the ground up; "" are the manifest's entries
QT = {"qtpy", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui"}
VIEWER = {"napari", "npe2", "vispy"}
FORBIDDEN = {"_work": QT | VIEWER, "_viewer": QT, "_window": set(), "": set()}
MOST_FLOORS = 6


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def folder(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS else ""


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, at_load_only: bool = False, types: bool = True) -> set[str]:
    """Every module that a file imports, inside functions too, and for type checkers if `types`."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not types:
        tree.body = [node for node in tree.body if not is_for_types(node)]
    for node in tree.body if at_load_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


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
    below = {
        module: {name for name in imports(path, types=False) if name in MODULES}
        - {module, "napari_esrgan"}
        for module, path in MODULES.items()
    }
    floors: dict[str, int] = {}

    def floor(module: str, above: tuple[str, ...] = ()) -> int:
        assert module not in above, f"a circle of imports: {(*above, module)}"
        if module not in floors:
            deeper = [floor(name, (*above, module)) for name in below[module]]
            floors[module] = 1 + max(deeper, default=0)
        return floors[module]

    highest = max(MODULES, key=floor)
    assert floors[highest] <= MOST_FLOORS, highest
