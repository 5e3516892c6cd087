"""Docstrings name the thing that they are about."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.conftest import ROOT

MODULES = sorted(
    path
    for package in ("esrgan_ext", "napari_esrgan", "comfyui_esrgan")
    for path in (ROOT / package).rglob("*.py")
)


def docstrings(path: Path) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, kinds)]
    return [text for node in nodes if (text := ast.get_docstring(node))]


def test_docstrings_name_the_thing() -> None:
    """As in "Header of a PNG.", not "What the header says."."""
    first_lines = {
        str(path.relative_to(ROOT)): [text.splitlines()[0] for text in docstrings(path)]
        for path in MODULES
    }
    assert [
        f"{path}: {line}"
        for path in first_lines
        for line in first_lines[path]
        if line[:5] == "What "
    ] == []


def test_fields_and_parameters_are_named_by_a_noun() -> None:
    """As in "Probability of noise, from 0 to 1.", not "Of noise."."""
    texts = {path: "\n".join(docstrings(path)) for path in MODULES}
    entry = re.compile(r"^( *)\S.*\n\1 {4}((?:Of|What) .*)$", re.MULTILINE)
    assert [
        f"{path.relative_to(ROOT)}: {line}"
        for path, text in texts.items()
        for _, line in entry.findall(text)
    ] == []


def test_every_module_says_what_it_is() -> None:
    """Packages whose `__init__` is empty apart."""
    trees = {path: ast.parse(path.read_text()) for path in MODULES}
    silent = [p for p, tree in trees.items() if tree.body and ast.get_docstring(tree) is None]
    assert silent == []
