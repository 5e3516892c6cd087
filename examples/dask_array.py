"""Upscales an array larger than memory lazily: what is not looked at is never computed."""

from __future__ import annotations

import argparse

import dask.array as da
import numpy as np

import esrgan_ext as esr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000, help="of the square image, in pixels")
    parser.add_argument("--model", default="lite-psnr-x4", help="a name of `esrgan models`")
    arguments = parser.parse_args()

    # Stands for a slide: `da.from_zarr("slide.zarr/0")` is used in the same way.
    side = arguments.side
    rows = da.arange(side, chunks=1024)[:, None]
    columns = da.arange(side, chunks=1024)[None, :]
    slide = (127 + 120 * da.sin(rows / 7) * da.cos(columns / 11)).astype(np.uint8)

    result = esr.upscale_lazy(slide, model=arguments.model)
    print(f"{slide.shape} -> {result.shape}, {result.nbytes / 1e9:.2f} GB if it were computed")
    corner = result[4 * (side - 50) :, :200].compute()  # two of the slide's many chunks
    print(f"a corner of {corner.shape[0]} x {corner.shape[1]} pixels, mean {corner.mean():.1f}")


if __name__ == "__main__":
    main()
