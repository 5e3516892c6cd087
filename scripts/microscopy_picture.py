"""The first picture of the README: what the default for microscopy makes of a measured image.

    python scripts/microscopy_picture.py bbbc039_11.tif --at 200 150 \
        -o docs/images/nuclei-before-after.png

The image there is of nuclei of U2OS cells out of BBBC039v1 (Caicedo et al., Cytometry Part A, 2019;
CC0), one that no bundled model was trained on. It is reduced by four, upscaled as a whole, and
shown in part beside the image as it was measured, all panels over one range of values.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

import esrgan_ext as esr
from esrgan_ext.evaluation.metrics import psnr
from esrgan_ext.inference.files import read_image
from esrgan_ext.inference.ranges import robust_range
from esrgan_ext.inference.resample import bicubic

SCALE, SIDE, GAP = 4, 288, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path, help="one plane of one channel")
    parser.add_argument("--at", type=int, nargs=2, metavar=("X", "Y"), default=(0, 0))
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    plane = read_image(options.image).pixels
    height, width = (side // SCALE for side in plane.shape)
    plane = plane[: height * SCALE, : width * SCALE]
    reduced = bicubic(plane, (height, width))
    x, y = options.at
    low, high = robust_range([plane[y : y + SIDE, x : x + SIDE]])

    def shown(image: np.ndarray) -> np.ndarray:
        return np.rint(255 * np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)).astype(
            np.uint8
        )

    images = {
        "reduced by 4": reduced.repeat(SCALE, 0).repeat(SCALE, 1),
        "bicubic": bicubic(reduced, plane.shape),
        "lite-micro-x4": esr.upscale(reduced),  # what "auto" takes for a single channel
        "as measured": plane,
    }
    panels = []
    for name, image in images.items():
        panel = np.ascontiguousarray(shown(image)[y : y + SIDE, x : x + SIDE])
        if name in ("bicubic", "lite-micro-x4"):
            name += f"  {psnr(shown(image), shown(plane), border=SCALE):.1f} dB"
        cv2.putText(panel, name, (9, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.55, 255, 1, cv2.LINE_AA)
        panels += [panel, np.full((SIDE, GAP), 255, np.uint8)]
    cv2.imwrite(str(options.output), np.concatenate(panels[:-1], axis=1))


if __name__ == "__main__":
    main()
