"""The contract of ComfyUI's nodes, without ComfyUI: tables, types, and what the functions give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import esrgan_ext
from comfyui_esrgan import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from esrgan_ext.errors import OptionError
from tests.compat.published import Descriptor, SRVGGNetCompact


def test_every_node_keeps_comfyuis_contract():
    assert len(NODE_CLASS_MAPPINGS) == 4
    assert NODE_CLASS_MAPPINGS.keys() == NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in NODE_CLASS_MAPPINGS.values():
        inputs = node.INPUT_TYPES()
        assert set(inputs) <= {"required", "optional"}
        assert all(isinstance(kind, tuple) for group in inputs.values() for kind in group.values())
        assert isinstance(node.RETURN_TYPES, tuple)
        assert callable(getattr(node(), node.FUNCTION))


def test_images_and_masks_equal_the_arrays(tiny_network):
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    image, mask = torch.rand(2, 8, 10, 3), torch.rand(2, 8, 10)
    result, alpha = node.upscale(tiny_network, image, mask=mask)
    up = esrgan_ext.Upscaler(tiny_network, device="cpu", data_range="type")
    expected = up(image.numpy(), channel_axis=3)
    assert np.array_equal(result.numpy(), expected.clip(0, 1))
    assert np.array_equal(alpha.numpy(), up(mask.numpy(), channel_axis=False).clip(0, 1))
    result, alpha = node.upscale(tiny_network, image, factor=2.0)
    assert result.shape == (2, 16, 20, 3)
    assert torch.equal(alpha, torch.ones(2, 16, 20))


def test_a_mask_of_another_size_is_refused_unless_it_is_one_value(tiny_network):
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    image = torch.rand(1, 8, 10, 3)
    _, alpha = node.upscale(tiny_network, image, mask=torch.zeros(1, 64, 64))
    assert alpha.shape == (1, 32, 40)
    with pytest.raises(ValueError, match="scale the mask"):
        node.upscale(tiny_network, image, mask=torch.rand(1, 64, 64))


def test_a_loaded_model_is_accelerated_and_comes_back_as_one():
    model = Descriptor(SRVGGNetCompact().eval(), 4)
    (fast,) = NODE_CLASS_MAPPINGS["EsrganAccelerateModel"]().accelerate(model)
    assert type(fast) is Descriptor
    x = torch.rand(1, 3, 8, 8)
    assert torch.allclose(fast(x), model(x), atol=1e-5)


def test_denoise_mixes_the_files_that_the_model_came_from():
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    image = torch.rand(1, 8, 10, 1)
    network = esrgan_ext.load_model("lite-micro-x4")
    result, _ = node.upscale(network, image, denoise=0.25)
    up = esrgan_ext.Upscaler("lite-micro-x4", denoise=0.25, device="cpu", data_range="type")
    assert np.array_equal(result.numpy(), up(image.numpy(), channel_axis=3).clip(0, 1))
    mixed = esrgan_ext.interpolate("lite-micro-x4", "lite-micro-denoise-x4", 0.5)
    with pytest.raises(OptionError, match="set denoise to -1"):
        node.upscale(mixed, image, denoise=0.5)


def test_a_file_that_only_has_a_catalogue_models_name_is_not_taken_for_it(tmp_path):
    network = esrgan_ext.load_model("lite-micro-x4")
    for parameter in network.parameters():
        parameter.mul_(1.01)
    esrgan_ext.save_model(network, tmp_path / "lite-micro-x4.safetensors")
    other = esrgan_ext.load_model(tmp_path / "lite-micro-x4.safetensors")
    node = NODE_CLASS_MAPPINGS["EsrganUpscaleImage"]()
    with pytest.raises(OptionError, match="no other to mix with"):
        node.upscale(other, torch.rand(1, 8, 10, 1), denoise=0.5)


def test_a_model_that_is_not_ours_comes_back_and_the_log_says_why(caplog):
    model = Descriptor(torch.nn.Conv2d(3, 3, 3), 1)
    (same,) = NODE_CLASS_MAPPINGS["EsrganAccelerateModel"]().accelerate(model)
    assert same is model
    assert "not an ESRGAN network" in caplog.text
