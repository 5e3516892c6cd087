"""Frames a second of moving pictures against ncnn: `python -m benchmarks.video`.

Frames of 640x480 (a photo that moves) go from 8-bit RGB to upscaled 8-bit RGB through
`Upscaler` and through ncnn in turn. Decoding and encoding, the same for both, are left out. Prints
medians over the frames; the first of each is warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import esrgan_ext as esr
from benchmarks.cpu import cpu_name, photo
from benchmarks.runners import Ncnn
from esrgan_ext.inference.upscaler import Upscaler


def through_ncnn(runner: Ncnn, frame: np.ndarray) -> np.ndarray:
    """A frame from 8 bits to 8 bits, (H, W, 3)."""
    x = np.ascontiguousarray(frame.transpose(2, 0, 1)[None], dtype=np.float32) / 255
    result = np.rint(np.clip(runner(x)[0], 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(result.transpose(1, 2, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", nargs="+", default=["realesr-animevideov3-x2", "realesr-animevideov3-x4"]
    )
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--size", default="480x640", metavar="HxW")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.lower().split("x"))
    torch.set_num_threads(args.threads)
    still = np.rint(photo((height, width))[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    print(f"{cpu_name()}, {args.threads} threads, {width} x {height}")
    for name in args.models:
        network = esr.load_model(name)
        ours = Upscaler(network, device="cpu", channel_axis=-1, denoise=None)
        peer = Ncnn(network, Path("unused.onnx"), (height, width), args.threads)  # type: ignore[arg-type]
        runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "esrgan_ext": ours,
            "ncnn": lambda frame, peer=peer: through_ncnn(peer, frame),  # type: ignore[misc]
        }
        times: dict[str, list[float]] = {runner: [] for runner in runs}
        for number in range(args.frames + 1):
            frame = np.roll(still, 3 * number, axis=1)
            results = []
            for runner, run in runs.items():
                begin = time.perf_counter()
                results.append(run(frame))
                if number:
                    times[runner].append(time.perf_counter() - begin)
            off = np.abs(results[0].astype(int) - results[1]).max()
            assert off <= 1, f"{name}: the runtimes differ by {off} levels"
        medians = {runner: statistics.median(taken) for runner, taken in times.items()}
        for runner, median in medians.items():
            gain = median / medians["esrgan_ext"]
            print(f"{name:26} {runner:12} {1 / median:6.2f} frames/s, {gain:.2f} times ours")


if __name__ == "__main__":
    main()
