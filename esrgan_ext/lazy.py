"""Names of a package that load on first use: importing the package stays quick."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any


def lazy_names(
    package: str,
    home: Mapping[str, str],
    *,
    requirements: Collection[str] = (),
    extra: str = "",
) -> Callable[[str], Any]:
    """A `__getattr__` for a package.

    Parameters
    ----------
    package : str
        Its `__name__`.
    home : mapping
        The module that each name is defined in.
    requirements : collection of str
        Top-level modules that these modules import and that only an extra installs.
    extra : str
        That extra, for the message where one is missing.
    """

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(home[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in requirements:
                raise
            raise ModuleNotFoundError(
                f"{error.name} is missing: pip install 'esrgan-ext[{extra}]'", name=error.name
            ) from error
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
