"""Trains a small network on a folder of photos and upscales an image with it.

The command does the same, with all its options: esrgan train lite-psnr --hr photos/
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import cv2

import esrgan_ext as esr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="a folder of HR photos")
    parser.add_argument("image", type=Path, help="an image to upscale with the new network")
    parser.add_argument("--out", type=Path, default=Path("runs/my-own"))
    parser.add_argument("--steps", type=int, default=12_000, help="half an hour on two cores")
    arguments = parser.parse_args()

    # Run it again after an interruption, and training continues from the last checkpoint.
    command = [sys.executable, "-m", "esrgan_ext.cli", "train", "lite-psnr"]
    command += ["--hr", str(arguments.photos), "--out", str(arguments.out)]
    command += ["--steps", str(arguments.steps), "--device", "auto"]
    subprocess.run(command, check=True)

    model = arguments.out / "model.safetensors"
    image = cv2.imread(str(arguments.image))
    result = esr.upscale(image, model=model)
    cv2.imwrite(str(arguments.out / "result.png"), result)
    print(f"{arguments.out / 'result.png'}: {result.shape[1]} x {result.shape[0]}")


if __name__ == "__main__":
    main()
