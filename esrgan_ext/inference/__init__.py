"""Image arrays through a network and back: tiles, devices, files, folders."""

from __future__ import annotations

from esrgan_ext.inference.upscaler import Upscaler, upscale

__all__ = ["Upscaler", "upscale"]
