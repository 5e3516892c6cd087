"""Settings of the console script's own process, made before torch is loaded."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from esrgan_ext.openmp import waiting_settings


def print_whatever_is_named() -> None:
    """A character that the terminal's encoding lacks is replaced; printing never stops work."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="replace")


def _terminated(number: int, frame: FrameType | None) -> None:
    # An exception, unlike the default, lets partial files be removed on the way out.
    raise SystemExit(128 + number)


def prepare() -> None:
    """All of it."""
    signal.signal(signal.SIGTERM, _terminated)
    os.environ.update(waiting_settings())
    print_whatever_is_named()
