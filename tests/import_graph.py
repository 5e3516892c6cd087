"""Who imports whom, read from the source: for the tests that hold the layers."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path


def modules_of(package: Path) -> dict[str, Path]:
    """The modules of a package by their full names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, at_load_only: bool = False, types: bool = True) -> set[str]:
    """Every module that a file imports, inside functions too, and for type checkers if `types`.

    Of ``from a import b`` both ``a`` and ``a.b`` are in the answer, since b may be a module.
    """
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not types:
        tree.body = [node for node in tree.body if not _is_for_types(node)]
    for node in tree.body if at_load_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """For each module those of the others that it imports, inside functions too.

    ``from a import b`` where a.b is a module is an arrow to a.b alone: that a runs first is so of
    every import below it.
    """
    arrows = {}
    for module, path in modules.items():
        names = imports(path, types=False) & modules.keys()
        packages = {name for name in names if any(n.startswith(f"{name}.") for n in names)}
        arrows[module] = names - packages - {module}
    return arrows


def floors(arrows: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How high each module stands: 1 where it imports no other, else one above the highest below.

    Raises
    ------
    AssertionError
        There is a circle.
    """
    heights: dict[str, int] = {}

    def height(module: str, above: tuple[str, ...]) -> int:
        assert module not in above, f"a circle of imports: {' > '.join((*above, module))}"
        if module not in heights:
            below = [height(name, (*above, module)) for name in arrows[module] if name in arrows]
            heights[module] = 1 + max(below, default=0)
        return heights[module]

    for module in arrows:
        height(module, ())
    return heights
