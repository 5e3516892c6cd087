"""For programs that were written for other packages.

`accelerate` puts our forward pass into a loaded model of another package; `RealESRGANer` takes the
place of Real-ESRGAN's class of that name. The names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esrgan_ext.compat.acceleration import accelerate
    from esrgan_ext.compat.realesrganer import RealESRGANer

__all__ = ["RealESRGANer", "accelerate"]

_HOME = {
    "RealESRGANer": "esrgan_ext.compat.realesrganer",
    "accelerate": "esrgan_ext.compat.acceleration",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
