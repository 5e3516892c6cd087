"""Forked children of a process that has upscaled already: they work, and give the same pixels."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile

import pytest

HOWS = ["multiprocessing", "os.fork", "DataLoader"]

# One parent forks in each way in turn: after each it still upscales as before.
PARENT = """
import os
import sys
import multiprocessing
import numpy as np
import torch
import esrgan_ext as esr
from tests.conftest import make_network

torch.set_num_threads(2)
image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)  # torch shares it out
upscaler = esr.Upscaler(make_network(nf=32, gc=32, nb=1), device="cpu", data_range=(0, 255))
expected = upscaler(image)
torch.ones(3_000_000).sum()  # whatever else the parent's pool was used for


def child(_: int) -> bool:
    assert torch.get_num_threads() == 1
    return bool(np.array_equal(upscaler(image), expected))


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, k):
        return child(k)


for how in sys.argv[1:]:
    if how == "multiprocessing":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(child, range(3)) == [True] * 3
    elif how == "os.fork":
        if (pid := os.fork()) == 0:
            os._exit(0 if child(0) else 1)
        assert os.waitpid(pid, 0)[1] == 0
    else:
        loader = torch.utils.data.DataLoader(
            Images(), num_workers=2, multiprocessing_context="fork", batch_size=None
        )
        assert list(loader) == [True] * 3
    assert torch.get_num_threads() == 2
    assert np.array_equal(upscaler(image), expected)
    print(how, flush=True)
"""


@functools.cache
def done_by_a_parent(core: str) -> list[str]:
    """In which ways a parent's children worked: one parent for all, until one fails or hangs."""
    environment = os.environ | {"ESRGAN_EXT": core, "OMP_NUM_THREADS": "2"}
    if not core:
        del environment["ESRGAN_EXT"]
    command = [sys.executable, "-c", PARENT, *HOWS]
    with tempfile.TemporaryFile("w+") as said:  # children that hang would keep a pipe open
        try:
            subprocess.run(command, timeout=100, env=environment, stdout=said)
        except subprocess.TimeoutExpired as error:
            print(error)
        said.seek(0)
        return said.read().split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("core", ["", "off"])
@pytest.mark.parametrize("how", HOWS)
def test_a_forked_child_upscales_after_its_parent_has(how: str, core: str) -> None:
    assert how in done_by_a_parent(core)
