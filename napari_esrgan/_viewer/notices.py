"""Errors and hints in words, as napari's notifications."""

from __future__ import annotations

import re
from typing import Any

from esrgan_ext.errors import DownloadError, EsrganError
from esrgan_ext.literal import literal


def explain(error: BaseException) -> str:
    """A sentence for the user."""
    if isinstance(error, DownloadError):
        return f"{error} — models that come with the installation work offline."
    if isinstance(error, EsrganError):
        return str(error)
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return (
            "There is not enough memory: close other programs, or choose a smaller region, "
            "output scale or model, or another device."
        )
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return f"Unexpected {type(error).__name__}: {error}"


def plain(text: str) -> str:
    """Text that a notification shows as it is.

    napari's labels take what looks like tags for markup, and its console prints what is sent to
    it: a layer's or a file's name shall be neither.
    """
    return re.sub(r"<(?=[A-Za-z/!?])", "<\u200b", literal(text))  # a tag begins without a space


def show_error(message: str) -> None:
    from napari.utils.notifications import show_error

    show_error(f"ESRGAN: {plain(message)}")


def show_warning(message: str) -> None:
    from napari.utils.notifications import show_warning

    show_warning(f"ESRGAN: {plain(message)}")


def show_info(message: str) -> None:
    from napari.utils.notifications import show_info

    show_info(f"ESRGAN: {plain(message)}")


def tell(error: BaseException) -> None:
    """Show an error of a worker thread in words."""
    show_error(explain(error))


def warning_colour() -> str:
    """The colour of warnings on the window's background, as CSS: 4.5 to 1 and more."""
    from napari.settings import get_settings
    from napari.utils.theme import get_theme

    theme = get_theme(get_settings().appearance.theme)
    # napari's own yellow cannot be read on white.
    return "#8a5a00" if _is_light(theme) else theme.warning.as_hex()


def _is_light(theme: Any) -> bool:
    red, green, blue = theme.background.as_rgb_tuple()[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue > 128
