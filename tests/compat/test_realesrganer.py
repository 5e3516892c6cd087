"""Scripts for Real-ESRGAN: the arrays that its class gives, by a pass written down anew."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.published import BasicSRRRDBNet
from esrgan_ext.compat import RealESRGANer
from esrgan_ext.errors import ImageError, OptionError


def plane(module, rgb, scale, pre_pad=10):
    """One picture as the published class computes it, without tiles; RGB in [0, 1]."""
    h, w = rgb.shape[:2]
    x = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None]
    x = F.pad(x, (0, pre_pad, 0, pre_pad), "reflect") if pre_pad else x
    multiple = {1: 4, 2: 2}.get(scale, 1)
    x = F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple), "reflect")
    with torch.no_grad():
        y = module(x)[0, :, : h * scale, : w * scale].clamp(0, 1)
    return y.numpy().transpose(1, 2, 0)


@pytest.fixture(params=[4, 2])
def module(request):
    torch.manual_seed(0)
    module = BasicSRRRDBNet(scale=request.param).eval()
    with torch.no_grad():
        module.conv_last.bias.fill_(0.5)
    return module


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_pictures_are_those_of_the_published_class(module, dtype, channels):
    shape = (14, 18) if channels is None else (14, 18, channels)
    full = np.iinfo(dtype).max
    img = np.random.default_rng(0).integers(0, full, shape, dtype)
    up = RealESRGANer(module.scale, None, model=module, device="cpu")
    result, mode = up.enhance(img)
    assert mode == {None: "L", 3: "RGB", 4: "RGBA"}[channels]
    values = img.astype(np.float32) / full
    if channels is None:
        planes = plane(module, np.repeat(values[..., None], 3, 2), module.scale)
        expected = planes @ np.array([0.299, 0.587, 0.114])
    else:
        expected = plane(module, values[..., 2::-1], module.scale)[..., ::-1]
    if channels == 4:
        alpha = plane(module, np.repeat(values[..., 3:], 3, 2), module.scale)
        expected = np.dstack((expected, alpha @ np.array([0.299, 0.587, 0.114])))
    assert result.dtype == dtype
    assert np.abs(result.astype(float) - expected * full).max() <= 0.5 + full * 1e-5


def test_outscale_tiles_and_linear_alpha(module):
    img = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    up = RealESRGANer(module.scale, None, model=module, device="cpu")
    whole, _ = up.enhance(img, alpha_upsampler="linear")
    size = (24 * module.scale, 20 * module.scale)
    linear = cv2.resize(img[..., 3].astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(whole[..., 3] - linear).max() <= 0.51
    reduced, _ = up.enhance(img, outscale=1.5, alpha_upsampler="linear")
    assert np.array_equal(reduced, cv2.resize(whole, (36, 30), interpolation=cv2.INTER_LANCZOS4))
    tiled = RealESRGANer(module.scale, None, model=module, tile=8, tile_pad=32, device="cpu")
    assert np.abs(tiled.enhance(img)[0].astype(int) - up.enhance(img)[0]).max() <= 1


def test_a_name_and_two_models():
    img = np.random.default_rng(0).integers(0, 256, (12, 13, 3), np.uint8)
    names = ["lite-psnr-x4", "lite-esrgan-x4"]
    one = RealESRGANer(4, names[0], device="cpu").enhance(img)[0]
    mixed = RealESRGANer(4, names, dni_weight=[1.0, 0.0], device="cpu").enhance(img)[0]
    assert np.array_equal(one, mixed)
    with pytest.raises(OptionError, match="scale"):
        RealESRGANer(2, names[0], device="cpu")
    with pytest.raises(OptionError, match="shares"):
        RealESRGANer(4, names, device="cpu")


def test_an_image_smaller_than_its_padding_is_refused():
    up = RealESRGANer(4, "lite-psnr-x4", device="cpu")
    with pytest.raises(ImageError, match="pre_pad"):
        up.enhance(np.zeros((8, 30, 3), np.uint8))
