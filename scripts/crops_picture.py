"""The same crops of photos by several models, one below the other, beside the originals.

    python scripts/crops_picture.py chelsea.png:120,80 coffee.png:300,180 astronaut.png:160,40 \
        rocket.jpg:300,300 --models lite-psnr-x4 before.safetensors lite-esrgan-x4 \
        --names lite-psnr-x4 before lite-esrgan-x4 -o docs/images/lite-crops.png

Each photo is reduced by four (MATLAB's bicubic), upscaled as a whole, and shown in part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

import esrgan_ext as esr
from esrgan_ext.inference.files import read_image
from esrgan_ext.training.bicubic import crop_to_multiple, downscale
from esrgan_ext.training.pack import rgb8

SCALE, SIDE, ZOOM, GAP = 4, 96, 2, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "photos", nargs="+", metavar="FILE:X,Y", help="photo and corner of the crop"
    )
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--names", nargs="+", help="as the picture calls them")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for photo in options.photos:
        path, _, corner = photo.rpartition(":")
        x, y = map(int, corner.split(","))
        original = crop_to_multiple(rgb8(read_image(Path(path))), SCALE)
        reduced = downscale(original, SCALE)
        results = [esr.upscale(reduced, model) for model in options.models]
        panels = []
        for image in (*results, original):
            crop = image[y : y + SIDE, x : x + SIDE]
            panels += [crop.repeat(ZOOM, 0).repeat(ZOOM, 1), np.full((ZOOM * SIDE, GAP, 3), 255)]
        rows += [np.concatenate(panels[:-1], axis=1).astype(np.uint8)]
        rows += [np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)]
    heads = np.full((22, rows[0].shape[1], 3), 255, np.uint8)
    for number, name in enumerate([*(options.names or options.models), "original"]):
        place = (number * (ZOOM * SIDE + GAP) + 4, 15)
        cv2.putText(heads, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    picture = np.concatenate([heads, *rows[:-1]])
    cv2.imwrite(str(options.output), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
