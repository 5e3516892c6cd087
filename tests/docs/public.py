"""What is public: the names that users are told to import, and from where."""

from __future__ import annotations

import importlib
import inspect

#: Packages whose `__all__` is public.
PACKAGES = (
    "esrgan_ext",
    "esrgan_ext.compat",
    "esrgan_ext.evaluation",
    "esrgan_ext.inference",
    "esrgan_ext.inference.large",
    "esrgan_ext.inference.video",
    "esrgan_ext.models",
    "esrgan_ext.ops",
    "esrgan_ext.weights",
)
#: Documented with the module that they are in.
BY_MODULE = (
    ("esrgan_ext.evaluation.comparison", "compare"),
    ("esrgan_ext.evaluation.page", "write_page"),
)


def public_objects() -> dict[str, object]:
    """Functions and classes by the shortest path that imports them."""
    listed = [(p, name) for p in PACKAGES for name in importlib.import_module(p).__all__]
    found: dict[int, tuple[str, object]] = {}
    for package, name in [*listed, *BY_MODULE]:
        value = getattr(importlib.import_module(package), name)
        if inspect.isclass(value) or inspect.isfunction(value):
            found.setdefault(id(value), (f"{package}.{name}", value))
    return dict(found.values())
