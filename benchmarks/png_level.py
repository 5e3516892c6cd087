"""Time and size of PNGs by level of compression: `python -m benchmarks.png_level [IMAGE]`.

Encodes an image, enlarged four times by a network as results are, with our encoder at every level,
and with OpenCV's at its default and at zlib's levels and strategies. The encoders take turns on one
thread; medians are printed as ratios to OpenCV's default.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from esrgan_ext.inference.files import read_image
from esrgan_ext.inference.formats import png
from esrgan_ext.inference.upscaler import Upscaler

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "astronaut_320.png"
STRATEGIES = {"default": 0, "filtered": 1, "Huffman": 2, "run lengths": 3}
FILTERS = {"mean": 64, "Paeth": 128, "all": 248}


def encoders(pixels: np.ndarray) -> dict[str, Callable[[], int]]:
    """Every encoder with its settings; a call encodes and gives the size in bytes."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)

    def ours(level: int) -> int:
        return len(png.encode(pixels, level=level))

    def opencv(*options: int) -> int:
        return int(cv2.imencode(".png", bgr, list(options))[1].size)

    found: dict[str, Callable[[], int]] = {"OpenCV, as it comes": opencv}
    for level in range(png.MOST_EFFORT + 1):
        found[f"ours, level {level}"] = lambda level=level: ours(level)
    for level in (1, 3, 6):
        found[f"OpenCV, zlib {level}"] = lambda level=level: opencv(
            cv2.IMWRITE_PNG_COMPRESSION, level
        )
    for name, strategy in STRATEGIES.items():
        for filtered, mask in FILTERS.items():
            settings = (
                *(cv2.IMWRITE_PNG_COMPRESSION, 1),
                *(cv2.IMWRITE_PNG_STRATEGY, strategy),
                *(cv2.IMWRITE_PNG_FILTER, mask),
            )
            found[f"OpenCV, zlib 1, {name}, {filtered}"] = lambda given=settings: opencv(*given)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--model", default="lite-psnr-x4")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    photo = np.ascontiguousarray(read_image(args.image).pixels[..., :3])
    pixels = Upscaler(args.model)(photo)
    runs = encoders(pixels)
    times: dict[str, list[float]] = {name: [] for name in runs}
    sizes: dict[str, int] = {}
    for _ in range(args.rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            sizes[name] = run()
            times[name].append(time.perf_counter() - begin)
    first = "OpenCV, as it comes"
    base = statistics.median(times[first])
    height, width = pixels.shape[:2]
    print(f"{width} x {height}: {first} {1e3 * base:.0f} ms, {sizes[first] / 1e6:.2f} MB")
    print(f"{'':40} {'time':>6} {'size':>6}")
    for name in runs:
        share = statistics.median(t / b for t, b in zip(times[name], times[first], strict=True))
        print(f"{name:40} {share:6.2f} {sizes[name] / sizes[first]:6.3f}")


if __name__ == "__main__":
    main()
