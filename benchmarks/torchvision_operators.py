"""Lets torchvision be imported beside a torch of another build, as spandrel and ComfyUI do.

Its compiled operators do not load there, and importing it fails for the lack of two of them, which
no upscaling needs.
"""

from __future__ import annotations

import sys

import torch

# An operator is gone with the library that declared it.
_declared: list[torch.library.Library] = []


def declare_missing() -> None:
    """Declare the two operators where importing torchvision fails for them.

    Raises
    ------
    ImportError
        There is no torchvision.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
