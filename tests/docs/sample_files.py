"""The files that examples of the documentation speak of, small."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from tests.conftest import ROOT


def write_sample_files(folder: Path) -> None:
    photo = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))
    for name in ("photos/HR", "Set14/HR"):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "a.png"), photo[:96, 20:116])
    for name in ("photo.png", "photo.jpg", "photos/a.png", "photos/b.png"):
        cv2.imwrite(str(folder / name), photo[:16, 40:64])
    plane = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)
    tifffile.imwrite(folder / "plane.ome.tif", plane, tile=(16, 16))


def write_clip(path: Path) -> None:
    """Three frames of 32 x 24 pixels, 25 a second."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for i in range(3):
            frame = np.full((24, 32, 3), 40 * i, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
