"""Peak memory grows with the tile, not with the image."""

from __future__ import annotations

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource", reason="peak memory is read from getrusage")

# The side of the image is the argument; prints the growth of the peak beyond input and output.
PROGRAM = """
import resource, sys
import numpy as np
import esrgan_ext as esr
from esrgan_ext.models import RRDBNet, RRDBNetConfig

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

side = int(sys.argv[1])
network = RRDBNet(RRDBNetConfig(nf=32, nb=1, gc=16)).eval().requires_grad_(False)
upscaler = esr.Upscaler(network, tile=128, overlap=16, device="cpu")
upscaler(np.zeros((64, 64, 3), np.uint8))  # libraries, threads, caches
image = np.zeros((side, side, 3), np.uint8)
before = peak()
result = upscaler(image)
print(peak() - before - result.nbytes)
"""


def growth(side: int) -> int:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(side)], capture_output=True, text=True, check=True
    )
    return int(run.stdout)


def test_peak_memory_is_that_of_one_tile():
    # A tile needs about 120 MB here; nine times the pixels in one piece would need 1 GB more.
    assert growth(1100) - growth(400) < 60e6
