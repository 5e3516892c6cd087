"""Mixes a smooth and a sharp network, weight by weight, and upscales an image with each mix."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

import esrgan_ext as esr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("target", type=Path, help="a folder for the results")
    arguments = parser.parse_args()

    image = cv2.imread(str(arguments.image))
    arguments.target.mkdir(parents=True, exist_ok=True)
    smooth = esr.upscale(image, model="lite-psnr-x4").astype(float)
    for alpha in (0.0, 0.5, 1.0):
        network = esr.interpolate("lite-psnr-x4", "lite-esrgan-x4", alpha=alpha)
        result = esr.upscale(image, model=network)
        cv2.imwrite(str(arguments.target / f"alpha-{alpha:.1f}.png"), result)
        difference = float(np.abs(result - smooth).mean())
        print(f"alpha {alpha:.1f}: {difference:.2f} levels from the smooth result, on average")


if __name__ == "__main__":
    main()
