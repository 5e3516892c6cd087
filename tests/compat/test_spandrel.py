"""spandrel's own descriptors accelerated, every family of ours that it reads, and one that is none.

In a process of their own: importing torchvision may take declarations of operators that stay.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import esrgan_ext
from benchmarks.published import BasicSRRRDBNet, ESRGANRRDBNet, OldRRDBNet, SRVGGNetCompact
from benchmarks.torchvision_operators import declare_missing

pytestmark = pytest.mark.alone

FAMILIES = {
    "ESRGAN, 2018": (lambda: OldRRDBNet(64, 2, 32), 4),
    "ESRGAN": (lambda: ESRGANRRDBNet(64, 2, 32), 4),
    "Real-ESRGAN x4": (lambda: BasicSRRRDBNet(4, 64, 2, 32), 4),
    "Real-ESRGAN x2": (lambda: BasicSRRRDBNet(2, 64, 2, 32), 2),
    "Real-ESRGAN x1": (lambda: BasicSRRRDBNet(1, 64, 2, 32), 1),
    "compact x4": (lambda: SRVGGNetCompact(64, 16, 4), 4),
    "compact x2": (lambda: SRVGGNetCompact(64, 16, 2), 2),
    "compact x1": (lambda: SRVGGNetCompact(64, 16, 1), 1),
}


def descriptor(module: nn.Module):
    """As ComfyUI's loader makes it."""
    from spandrel import ModelLoader

    return ModelLoader().load_from_state_dict(dict(module.state_dict())).eval()


@pytest.fixture(autouse=True)
def _importable():
    torch.manual_seed(0)
    try:
        declare_missing()
        import spandrel  # noqa: F401
    except ImportError as error:
        # It asks for a torchvision of the torch in use, which not every machine can get.
        pytest.skip(f"spandrel cannot be imported ({error}): pip install spandrel")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_descriptor_keeps_its_type_its_scale_and_its_results(family):
    make, scale = FAMILIES[family]
    model = descriptor(make())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fast = esrgan_ext.accelerate(model)
    assert type(fast) is type(model)
    assert fast.model is not model.model
    assert fast.scale == model.scale == scale
    assert fast.size_requirements == model.size_requirements
    for size in ((16, 24), (17, 9)):  # spandrel fills up what a network cannot take
        x = torch.rand(2, 3, *size)
        assert torch.allclose(fast(x), model(x), atol=1e-5)
    fast.to("cpu").float()
    assert torch.allclose(fast(x), model(x), atol=1e-5)


def test_another_architecture_comes_back_unchanged():
    from spandrel import ImageModelDescriptor
    from spandrel.architectures.SPAN import SPAN, SPANArch

    network = SPAN(num_in_ch=3, num_out_ch=3, upscale=2)
    model = SPANArch().load(network.state_dict()).eval()
    assert isinstance(model, ImageModelDescriptor)
    with pytest.warns(UserWarning, match="comes back unchanged"):
        assert esrgan_ext.accelerate(model) is model
