"""What a script has set in torch (default device and type, modes, threads) changes no result."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
import torch
import esrgan_ext as esr

image = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
names = ["lite-psnr-x4", "realesr-animevideov3-x4"]
expected = {name: esr.upscale(image, model=name, device="cpu") for name in names}
gray = esr.upscale(image[..., 0], model="lite-micro-x4", device="cpu")
exec(sys.argv[1])
for name in names:
    upscaler = esr.Upscaler(name, device="cpu")
    np.testing.assert_array_equal(upscaler(image), expected[name])
    np.testing.assert_array_equal(esr.upscale(image, model=name, device="cpu"), expected[name])
np.testing.assert_array_equal(esr.upscale(image[..., 0], model="lite-micro-x4", device="cpu"), gray)
tensor = torch.from_numpy(image).permute(2, 0, 1)
assert upscaler(tensor).device.type == "cpu"
assert esr.upscale(image.astype(np.float32), model=names[0], device="cpu").dtype == np.float32
mixed = esr.interpolate("lite-psnr-x4", "lite-esrgan-x4", alpha=0.0)
np.testing.assert_array_equal(esr.upscale(image, model=mixed, device="cpu"), expected[names[0]])
"""


AUTOCAST = "torch.autocast('cpu', dtype=torch.bfloat16).__enter__()"


@pytest.mark.parametrize(
    ("line", "core"),
    [
        ("torch.set_default_dtype(torch.float64)", ""),
        ("torch.set_default_device('meta'); torch.set_default_dtype(torch.float16)", "off"),
        ("torch.device('meta').__enter__()", ""),
        (f"torch.inference_mode().__enter__(); {AUTOCAST}", ""),
        (AUTOCAST, "off"),
    ],
)
def test_nothing_that_a_script_sets_matters(line: str, core: str) -> None:
    environment = {"ESRGAN_EXT": core} if core else {}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, line],
        capture_output=True, text=True, timeout=200, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
