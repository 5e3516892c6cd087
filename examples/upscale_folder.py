"""Upscales every image of a folder and says what became of each."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

import esrgan_ext as esr

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder of images")
    parser.add_argument("target", type=Path, help="where the results go")
    parser.add_argument("--model", default="lite-psnr-x4", help="a name of `esrgan models`")
    arguments = parser.parse_args()

    upscaler = esr.Upscaler(arguments.model)  # loads the network once
    arguments.target.mkdir(parents=True, exist_ok=True)
    for path in sorted(arguments.source.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # blue comes first, as OpenCV has it
        if image is None:
            print(f"{path.name}: cannot be read")
            continue
        try:
            result = upscaler(image)
        except esr.EsrganError as error:
            print(f"{path.name}: {error}")
            continue
        cv2.imwrite(str(arguments.target / f"{path.stem}.png"), result)
        size = f"{result.shape[1]} x {result.shape[0]}"
        print(f"{path.name}: {image.shape[1]} x {image.shape[0]} -> {size}")


if __name__ == "__main__":
    main()
