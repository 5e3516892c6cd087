"""The architecture page names modules, functions and files that exist, where it says they are."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT
from tests.docs.test_site import PAGES

PAGE = (ROOT / "docs" / "architecture.md").read_text()
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
KERNEL_PAGES = ("cpu-core.md", "cuda-core.md")


def names_in(tree: ast.AST, within: str) -> set[str]:
    """Dotted names of what a module or class defines: functions, classes, attributes."""
    found = {within}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found |= (
                names_in(node, f"{within}.{node.name}")
                if isinstance(node, ast.ClassDef)
                else {f"{within}.{node.name}"}
            )
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(f"{within}.{node.target.id}")
    return found


def python_names() -> set[str]:
    found: set[str] = set()
    for package in ("esrgan_ext", "napari_esrgan"):
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found |= names_in(ast.parse(path.read_text()), module.removesuffix(".__init__"))
    return found


NAMES = python_names()


def exists(name: str) -> bool:
    """Whether there is such a file, or a dotted name that ends so."""
    if (ROOT / name).exists() or (ROOT / "csrc" / name).exists():
        return True
    dotted = name.strip("/").removesuffix(".py").replace("/", ".")
    return any(f".{known}".endswith(f".{dotted}") for known in NAMES)


WALKS = re.findall(r"^\*\*(From .*?|A chunk.*?)\.\*\* (.*?)(?=\n\n|\Z)", PAGE, re.M | re.S)


def test_there_are_five_walks() -> None:
    assert len(WALKS) == 5


@pytest.mark.parametrize(("title", "walk"), WALKS, ids=[title for title, _ in WALKS])
def test_the_names_on_a_walk_exist(title: str, walk: str) -> None:
    named = re.findall(r"`([^`\n]+)`", walk)
    assert len(named) > 5, title
    assert [name for name in named if not exists(name)] == []


def test_the_map_names_what_is_there() -> None:
    """Each line begins with one name, or several with commas, and goes on after two spaces."""
    (block,) = BLOCK.findall(PAGE)
    named = re.findall(r"(?:[\w.]+/)+|(?<=^ {11})(?:\w+/?, )*\w+/?(?=  )", block, re.MULTILINE)
    parts = [part.strip() for line in named for part in line.split(",")]
    assert {"napari_esrgan/", "engine", "tile_loop", "batch", "csrc/"} <= set(parts)
    assert [name for name in parts if not exists(name)] == []


SOURCE = re.compile(r"`([\w./*]+\.(?:h|cpp|cu|cuh|py))`")


@pytest.mark.parametrize("page", KERNEL_PAGES)
def test_the_files_of_the_kernels_exist(page: str) -> None:
    files = SOURCE.findall((ROOT / "docs" / page).read_text())
    csrc = ROOT / "csrc"
    folders = (
        ROOT,
        csrc / page.removesuffix("-core.md"),
        csrc / "torch",
        ROOT / "esrgan_ext",
        ROOT / "esrgan_ext/ops/build",
    )
    assert len(files) > 10
    assert [file for file in files if not any(list(place.glob(file)) for place in folders)] == []


def test_the_source_files_that_pages_name_exist() -> None:
    named = [(page.name, file) for page in PAGES for file in SOURCE.findall(page.read_text())]
    paths = [(page, file) for page, file in named if "/" in file]
    assert len(paths) > 20
    assert [(page, file) for page, file in paths if not found(file)] == []


def found(file: str) -> bool:
    """In the repository, or in the package."""
    return any(list(folder.glob(file)) for folder in (ROOT, ROOT / "esrgan_ext"))


def test_a_name_that_is_nowhere_is_found_out() -> None:
    assert exists("windows.window_pieces")
    assert not exists("windows.window_parts")
    assert not exists("models/windows.py")
