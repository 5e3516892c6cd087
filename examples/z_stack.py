"""Upscales a z-stack of a microscope; the pixel size in its metadata is divided by the scale."""

from __future__ import annotations

import argparse
from pathlib import Path

import tifffile

import esrgan_ext as esr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a TIFF of planes: Z, Y, X")
    parser.add_argument("target", type=Path, help="the OME-TIFF to write")
    parser.add_argument("--model", default="lite-psnr-x4", help="one that is true to the data")
    parser.add_argument("--pixel-size", type=float, default=0.1, help="of the source, in um")
    arguments = parser.parse_args()

    stack = tifffile.imread(arguments.source)
    # A camera's 12 bits in a file of 16 would look black to the network: the range follows the
    # data, one for the whole stack, so that planes stay comparable.
    upscaler = esr.Upscaler(arguments.model, data_range="auto", channel_axis=False)
    result = upscaler(stack, progress=lambda done, total: print(f"{done / total:.0%}", end=" "))
    print()
    size = arguments.pixel_size / upscaler.scale
    tifffile.imwrite(
        arguments.target,
        result,
        metadata={
            "axes": "ZYX",
            "PhysicalSizeX": size,
            "PhysicalSizeXUnit": "um",
            "PhysicalSizeY": size,
            "PhysicalSizeYUnit": "um",
        },
    )
    print(f"{stack.shape} -> {result.shape}, {size:g} um a pixel")


if __name__ == "__main__":
    main()
