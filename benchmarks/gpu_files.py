"""From a photo's file to the result's file on a GPU, step by step: for `benchmarks.gpu`."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

import esrgan_ext as esr
from benchmarks.cpu import photo
from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.models import SRNetwork


@dataclass(frozen=True)
class FileTimes:
    """Median milliseconds of the three steps for one kind of file."""

    suffix: str
    size: str
    read: float
    upscale: float
    write: float

    @property
    def total(self) -> float:
        return self.read + self.upscale + self.write


def file_times(
    network: SRNetwork, size: tuple[int, int], device: torch.device, precision: str, rounds: int = 3
) -> list[FileTimes]:
    """Times for JPEG and PNG, after one run that is not counted."""
    pixels = np.round(photo(size)[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    upscaler = esr.Upscaler(network, device=device, precision=precision)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".jpg", ".png"):
            source, target = Path(folder, f"photo{suffix}"), Path(folder, f"result{suffix}")
            cv2.imwrite(str(source), pixels[..., ::-1])
            steps: list[tuple[float, float, float]] = []
            for _ in range(rounds + 1):
                begin = time.perf_counter()
                image = read_image(source)
                read = time.perf_counter()
                result = upscaler(image.pixels)
                upscaled = time.perf_counter()
                write_image(target, result, like=image)
                written = time.perf_counter()
                steps.append((read - begin, upscaled - read, written - upscaled))
            medians = [1000 * statistics.median(step[i] for step in steps[1:]) for i in range(3)]
            results.append(FileTimes(suffix, f"{size[0]}x{size[1]}", *medians))
    return results
