"""The project's own pair: as good as documented, and two ends of one interpolation."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from esrgan_ext import interpolate, load_model, upscale
from esrgan_ext.evaluation.metrics import luma, psnr
from esrgan_ext.evaluation.perceptual import ST_LPIPS_WHEEL, load_perceptual
from esrgan_ext.inference.resample import imresize
from esrgan_ext.ops.build import library
from esrgan_ext.training.validation import upscaled, validate, validation_pairs

BICUBIC = {"Set5": 28.42, "Set14": 26.00}


@pytest.fixture(scope="module")
def pairs(shared_data):
    return {
        name: validation_pairs(shared_data / "bench" / name / "HR", 4) for name in ("Set5", "Set14")
    }


@pytest.mark.parametrize(("name", "gain"), [("Set5", 2.9), ("Set14", 1.8)])
def test_lite_psnr_beats_bicubic(pairs, name, gain):
    found, _ = validate(load_model("lite-psnr-x4"), pairs[name])
    assert found >= BICUBIC[name] + gain


def test_interpolating_gives_up_psnr_step_by_step(pairs):
    first, second = load_model("lite-psnr-x4"), load_model("lite-esrgan-x4")
    found = [
        validate(interpolate(first, second, alpha=alpha), pairs["Set14"])[0]
        for alpha in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert all(a > b for a, b in pairwise(found))


def test_lite_esrgan_looks_better_than_lite_psnr_and_bicubic(pairs, published_wheel):
    distance = load_perceptual(published_wheel(ST_LPIPS_WHEEL))
    means = {}
    for name in ("lite-psnr-x4", "lite-esrgan-x4"):
        network = load_model(name)
        results = [distance(upscaled(network, p.lr), p.hr) for p in pairs["Set14"]]
        means[name] = np.mean(results)
    bicubic = [distance(imresize(p.lr, p.hr.shape[:2]), p.hr) for p in pairs["Set14"]]
    assert means["lite-esrgan-x4"] < min(means["lite-psnr-x4"], np.mean(bicubic))


@pytest.mark.parametrize("name", ["lite-psnr-x4", "lite-esrgan-x4"])
def test_they_sharpen_the_sample_photo(photo, name):
    """Without the development data: a photo that is shrunk comes back better than by bicubic."""
    lr = imresize(photo, (32, 32))
    ours = psnr(luma(upscale(lr, model=name)), luma(photo))
    assert ours > psnr(luma(imresize(lr, (128, 128))), luma(photo)) - (1.0 if "gan" in name else 0)


def test_they_run_in_the_compiled_core(photo):
    if library.load() is None:
        pytest.skip("no compiler here")
    network = load_model("lite-psnr-x4")
    assert network.kernels.supports(network.conv_first.weight)
    result = upscale(cv2.resize(photo, (40, 30)), network)
    assert result.shape == (120, 160, 3)
