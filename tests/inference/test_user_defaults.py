"""What a script has set in torch (default device and type, modes, threads) changes no result."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

AUTOCAST = "torch.autocast('cpu', dtype=torch.bfloat16).__enter__()"

# What a script does, and what ESRGAN_EXT says.
CASES = [
    ("torch.set_default_dtype(torch.float64)", ""),
    ("torch.set_default_device('meta'); torch.set_default_dtype(torch.float16)", "off"),
    ("torch.device('meta').__enter__()", ""),
    (f"torch.inference_mode().__enter__(); {AUTOCAST}", ""),
    (AUTOCAST, "off"),
]

# Each case in a process of its own, forked off one that has imported everything and done nothing.
SCRIPT = """
import os
import sys
import numpy as np
import torch
import esrgan_ext as esr

esr.Upscaler, esr.upscale, esr.interpolate  # imported when they are asked for


def judge(line):
    image = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    names = ["lite-psnr-x4", "realesr-animevideov3-x4"]
    expected = {name: esr.upscale(image, model=name, device="cpu") for name in names}
    gray = esr.upscale(image[..., 0], model="lite-micro-x4", device="cpu")
    exec(line)
    for name in names:
        upscaler = esr.Upscaler(name, device="cpu")
        np.testing.assert_array_equal(upscaler(image), expected[name])
        np.testing.assert_array_equal(esr.upscale(image, model=name, device="cpu"), expected[name])
    found = esr.upscale(image[..., 0], model="lite-micro-x4", device="cpu")
    np.testing.assert_array_equal(found, gray)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert upscaler(tensor).device.type == "cpu"
    assert esr.upscale(image.astype(np.float32), model=names[0], device="cpu").dtype == np.float32
    mixed = esr.interpolate("lite-psnr-x4", "lite-esrgan-x4", alpha=0.0)
    found = esr.upscale(image, model=mixed, device="cpu")
    np.testing.assert_array_equal(found, expected[names[0]])


for number in range(0, len(sys.argv) - 1, 2):
    line, core = sys.argv[number + 1 : number + 3]
    child = os.fork()
    if child == 0:
        if core:
            os.environ["ESRGAN_EXT"] = core
        judge(line)
        print(number // 2, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@functools.cache
def judged() -> tuple[list[str], str]:
    """The numbers of the cases that changed no result, and what was said of the others."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *(word for case in CASES for word in case)],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    return done.stdout.split(), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("line", "core"), CASES)
def test_nothing_that_a_script_sets_matters(line: str, core: str) -> None:
    unchanged, errors = judged()
    assert str(CASES.index((line, core))) in unchanged, errors
