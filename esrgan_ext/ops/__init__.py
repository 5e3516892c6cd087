"""Operators of the ESRGAN networks: one signature, several implementations.

`reference` defines what is correct, `eager` is the pure-torch inference path.
"""

from __future__ import annotations

from esrgan_ext.ops import eager, reference

__all__ = ["backend", "eager", "reference"]


def backend() -> str:
    """Name of the implementation that runs the dense blocks on this machine."""
    return "reference"
