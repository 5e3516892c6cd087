"""The compiled kernels, had before they are needed: half a minute on a machine's first run."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from napari_esrgan._work.messages import Cancelled, Report, Status, stop_if

if TYPE_CHECKING:
    from esrgan_ext.inference.devices import Device

_POLL_SECONDS = 0.1

_had: set[tuple[Any, Any]] = set()  # devices and types; a slider asks at every move


def have_kernels(device: Device, report: Report, cancelled: Cancelled) -> None:
    """Find the kernels for a device or wait until they are compiled, and say so.

    A cancel does not stop the compiler, whose work the next run needs all the same.

    Raises
    ------
    UpscaleCancelled
    """
    from esrgan_ext import ops
    from esrgan_ext.ops.build import jit

    key = (device.device, device.dtype)
    if key in _had:
        return

    # A daemon: all it does for long is wait for the compiler, and a window that closes meanwhile
    # shall not stay for that.
    finder = threading.Thread(
        target=ops.backend,
        args=key,
        name="esrgan-kernels",
        daemon=True,
    )
    finder.start()
    said = None
    while finder.is_alive():
        stop_if(cancelled)
        finder.join(_POLL_SECONDS)
        notice = jit.under_way()
        if notice is not None and notice != said:
            report(Status(f"{notice[:1].upper()}{notice[1:]}…"))
            said = notice
    _had.add(key)
