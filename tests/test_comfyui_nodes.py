"""The contract of ComfyUI's nodes, without ComfyUI: tables, types, and what the functions give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import esrgan_ext
from comfyui_esrgan import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
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
