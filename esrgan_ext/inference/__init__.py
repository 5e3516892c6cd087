"""Image arrays through a network and back: tiles, devices, files, folders.

The public names load on first use, so that reading a file needs no torch.

Words, each a rectangle of pixels: a *region* is the part of an image that the caller wants
upscaled; a *core* is the part of it that one tile answers for; a *source window* is the core with
its overlap, all that the network sees; a *result rect* lies in the result of the whole image. A
*piece* is a result rect with its pixels, finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.lazy import lazy_names

if TYPE_CHECKING:
    from esrgan_ext.inference.upscaler import Upscaler, upscale

__all__ = ["Upscaler", "upscale"]

__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "esrgan_ext.inference.upscaler"))
