"""Reads the tensors of a `torch.save` file that holds other objects too, without their code.

Training frameworks pickle their whole state: options, schedulers, numpy scalars, classes of their
own. Here a pickle's names are looked up in a short list of what tensors consist of; every other
name becomes an `Inert`, which takes whatever the pickle gives it and does nothing. So nothing that
the file names is imported or called.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

# What a pickled tensor is made of. Storage classes are found by torch itself, by their name.
_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}


class Inert(dict[Any, Any]):
    """Stands for an object of a class that is not loaded.

    A dictionary, because many such objects are dictionaries (options, states), and what was
    stored in them can be looked at.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]  # the pickle may use it as a key

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        return Inert()

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.update(part)

    def append(self, item: object) -> None:
        """Pickles fill lists by this."""

    def extend(self, items: object) -> None:
        """Pickles fill lists by this."""

    def add(self, item: object) -> None:
        """Pickles fill sets by this."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (allowed := _ALLOWED.get((module, name))) is not None:
            return allowed
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        return Inert


def _load(file: Any, **arguments: Any) -> Any:
    return _Unpickler(file, **arguments).load()


_PICKLE = SimpleNamespace(__name__="esrgan_ext.weights.pickles", Unpickler=_Unpickler, load=_load)


def load_with_inert_objects(path: Path, *, mmap: bool) -> object:
    """The result of `torch.load`, with an `Inert` in place of every object that is no tensor.

    Parameters
    ----------
    path : Path
        A file that ``torch.load(path, weights_only=True)`` refuses for what it names. Not a
        TorchScript archive: torch would run that.
    mmap : bool
        Leave the numbers in the file.

    Returns
    -------
    object
        Containers of Python with tensors on the CPU. A module that was pickled as a whole comes
        back as its state dict.
    """
    content = torch.load(
        path, map_location="cpu", weights_only=False, pickle_module=_PICKLE, mmap=mmap
    )
    return _without_modules(content)


def _without_modules(content: object) -> object:
    """Pickled modules as state dicts, inside dictionaries too."""
    if isinstance(content, Inert) and "_parameters" in content:
        return dict(_state("", content))
    if isinstance(content, dict):
        return {key: _without_modules(value) for key, value in content.items()}
    return content


def _state(prefix: str, module: Inert) -> list[tuple[str, Tensor]]:
    found = []
    for kind in ("_parameters", "_buffers"):
        for name, value in dict(module.get(kind) or {}).items():
            if isinstance(value, Tensor):
                found.append((f"{prefix}{name}", value))
    for name, child in dict(module.get("_modules") or {}).items():
        if isinstance(child, Inert):
            found += _state(f"{prefix}{name}.", child)
    return found
