"""Sample images: a photo, and what a fluorescence microscope gives."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import numpy as np

LayerData = tuple[np.ndarray, dict[str, Any], str]


def _read(name: str) -> np.ndarray:
    import tifffile

    with as_file(files("napari_esrgan") / "data" / name) as path:
        if path.suffix == ".tif":
            return tifffile.imread(path)
        import cv2

        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert bgr is not None  # it comes with the package
        return np.ascontiguousarray(bgr[..., ::-1])


def astronaut() -> list[LayerData]:
    """A photo, 128 x 128, RGB (NASA, public domain)."""
    return [(_read("astronaut.jpg"), {"name": "astronaut", "rgb": True}, "image")]


def nuclei() -> list[LayerData]:
    """Simulated fluorescence, 96 x 96, 16 bit, 0.325 micrometres a pixel."""
    arguments = {
        "name": "nuclei",
        "scale": (0.325, 0.325),
        "units": ("micrometer", "micrometer"),
        "axis_labels": ("y", "x"),
        "colormap": "green",
    }
    return [(_read("nuclei.tif"), arguments, "image")]
