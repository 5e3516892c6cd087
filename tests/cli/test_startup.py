"""What `esrgan upscale` of a small photo takes beside torch and the network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PHOTO = Path(__file__).parents[1] / "data" / "astronaut_320.png"

# Beside `import torch` and the network's own work, at most half of both may be spent. A tenth more
# is for the noise of a shared machine.
MOST = 1.5 * 1.1

# The network's time, in a process that is warm; printed for the parent.
NETWORK = f"""
import time
import esrgan_ext as esr
from esrgan_ext.inference.files import read_image
up = esr.Upscaler("lite-psnr-x4", device="cpu")
photo = read_image({str(PHOTO)!r}).pixels
up(photo)
times = []
for _ in range(2):
    begin = time.process_time()
    up(photo)
    times.append(time.process_time() - begin)
print(min(times))
"""


def seconds(*arguments: str) -> float:
    """CPU time of a Python process on one thread, which a busy machine does not lengthen much."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no CPU time of a child on this system")
def test_a_small_photo_takes_little_more_than_torch_and_the_network(tmp_path: Path) -> None:
    command = ["-m", "esrgan_ext.cli", "upscale", str(PHOTO), str(tmp_path), "--overwrite"]
    command += ["-m", "lite-psnr-x4", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    network = float(
        subprocess.run(
            [sys.executable, "-c", NETWORK],
            env=environment, check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    ratios = []
    for _ in range(5):  # the first also compiles, checks and caches what it will
        torch = seconds("-c", "import torch")
        ratios.append(seconds(*command) / (torch + network))
        if ratios[-1] <= MOST:
            return
    raise AssertionError(f"times (import torch + network): {ratios}, network {network:.2f} s")
