"""Peak memory grows with the tile, not with the image."""

from __future__ import annotations

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource", reason="peak memory is read from getrusage")

# Prints by how much the peak of a large image exceeds a small one's, their arrays not counted.
PROGRAM = """
import resource
import numpy as np
import esrgan_ext as esr
from esrgan_ext.models import RRDBNet, RRDBNetConfig

def peak(side):
    image = np.zeros((side, side, 3), np.uint8)
    result = upscaler(image)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return used - image.nbytes - result.nbytes

network = RRDBNet(RRDBNetConfig(nf=32, nb=1, gc=16)).eval().requires_grad_(False)
upscaler = esr.Upscaler(network, tile=128, overlap=16, device="cpu")
small = peak(300)
print(peak(600) - small)
"""


def test_peak_memory_is_that_of_one_tile():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    # A few MB; four times the pixels in one piece need 160 MB more.
    assert int(run.stdout) < 60e6
