"""For programs that were written for other packages.

`accelerate` puts our forward pass into a loaded model of another package; `RealESRGANer` takes the
place of Real-ESRGAN's class of that name. The names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.lazy import lazy_names

if TYPE_CHECKING:
    from esrgan_ext.compat.acceleration import accelerate
    from esrgan_ext.compat.realesrganer import RealESRGANer

__all__ = ["RealESRGANer", "accelerate"]

_HOME = {
    "RealESRGANer": "esrgan_ext.compat.realesrganer",
    "accelerate": "esrgan_ext.compat.acceleration",
}

__getattr__ = lazy_names(__name__, _HOME)
