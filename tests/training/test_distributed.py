"""Two processes over gloo give what one process gives on the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esrgan_ext.training import checkpoint

WORKER = Path(__file__).with_name("distributed_worker.py")
ROOT = WORKER.parents[2]


def run(photos: Path, out: Path, name: str, processes: int) -> dict:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [*launcher, str(WORKER), str(photos), str(out), name],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    return checkpoint.load(out / "last.ckpt")


@pytest.mark.parametrize("name", ["psnr", "esrgan"])
def test_two_processes_equal_one(photos, tmp_path, name):
    one = run(photos, tmp_path / "one", name, 1)
    two = run(photos, tmp_path / "two", name, 2)
    assert one["step"] == two["step"] == 6
    networks = ["generator", "ema"] + (["discriminator"] if name == "esrgan" else [])
    for network in networks:
        for key, value in one[network].items():
            # Sums are taken in another order; Adam's first steps have the rate's size, 1e-4,
            # wherever a gradient is not zero, so an error in the averaging would show as that.
            assert torch.allclose(value, two[network][key], rtol=0, atol=2e-6), (network, key)
