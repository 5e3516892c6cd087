"""Two processes over gloo give what one process gives on the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esrgan_ext.training import checkpoint
from tests.conftest import torch_threads
from tests.training import distributed_worker

WORKER = Path(distributed_worker.__file__)
ROOT = WORKER.parents[2]


def run(photos: Path, out: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [*launcher, "--nproc-per-node=2", str(WORKER), str(photos), str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
    )


@pytest.fixture(scope="module")
def folders(photos, tmp_path_factory) -> tuple[Path, Path]:
    """Runs of `psnr` and `esrgan` in one process, which is this one, and in two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    with torch_threads(1):
        distributed_worker.main(photos, one)
    run(photos, two)
    return one, two


@pytest.mark.timeout(900)  # three processes start, which takes long on a busy machine
@pytest.mark.parametrize("name", ["psnr", "esrgan"])
def test_two_processes_equal_one(folders, name):
    one, two = (checkpoint.load(folder / name / "last.ckpt") for folder in folders)
    assert one["step"] == two["step"] == 6
    networks = ["generator", "ema"] + (["discriminator"] if name == "esrgan" else [])
    for network in networks:
        for key, value in one[network].items():
            if (network, key) == ("discriminator", "conv_last.bias"):
                continue  # the relativistic loss does not depend on it: its gradient is rounding
            # Sums are taken in another order; Adam's first steps have the rate's size, 1e-4,
            # wherever a gradient is not zero, so an error in the averaging would show as that.
            assert torch.allclose(value, two[network][key], rtol=0, atol=2e-6), (network, key)
