"""How the package's modules lie upon one another: downwards only, no circles, few floors."""

from __future__ import annotations

from pathlib import Path

import pytest

import esrgan_ext
from tests.import_graph import floors, graph, imports, modules_of

MODULES = modules_of(Path(esrgan_ext.__file__).parent)
ARROWS = graph(MODULES)

# From the ground up; what stands in one row does not know of one another.
LAYERS = (
    {"errors", "forks", "lazy", "literal", "openmp", "wording"},
    {"ops"},
    {"models"},
    {"weights"},
    {"inference"},
    {"evaluation"},
    {"training"},
    {"compat"},
    {"cli"},
)
MOST_FLOORS_OF_LARGE = 5


def layer(module: str) -> int:
    name = module.split(".")[1]
    return next(number for number, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"esrgan_ext"}))
def test_a_module_imports_downwards_only(module):
    for name in ARROWS[module] - {"esrgan_ext"}:
        same = name.split(".")[1] == module.split(".")[1]
        assert same or layer(name) < layer(module), f"{module} imports {name}"


def test_of_the_package_itself_only_its_version_is_asked():
    """Its other names are loaded from the modules that would ask for them."""
    for module, path in MODULES.items():
        below_cli = module != "esrgan_ext" and layer(module) < layer("esrgan_ext.cli")
        names = {name for name in imports(path, types=False) if name.count(".") == 1}
        asked = {name for name in names if name.startswith("esrgan_ext.") and name not in MODULES}
        assert not below_cli or asked <= {"esrgan_ext.__version__"}, module


def test_there_are_no_circles():
    assert max(floors(ARROWS).values()) > 1


def test_large_images_have_few_floors():
    large = {name: below for name, below in ARROWS.items() if ".inference.large" in name}
    heights = floors(large)
    highest = max(heights, key=heights.__getitem__)
    assert heights[highest] <= MOST_FLOORS_OF_LARGE, highest


def test_torch_dynamo_is_never_imported_with_a_module():
    """It takes a second, and nothing but torch.compile needs it."""
    for module, path in MODULES.items():
        names = imports(path)
        assert not any(name.startswith("torch._dynamo") for name in names), module


def test_a_circle_is_found_and_floors_are_counted():
    assert floors({"a": {"b", "c"}, "b": {"c"}, "c": {"elsewhere"}}) == {"a": 3, "b": 2, "c": 1}
    with pytest.raises(AssertionError, match="a > b > a"):
        floors({"a": {"b"}, "b": {"a"}})
