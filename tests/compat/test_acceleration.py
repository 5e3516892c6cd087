"""Models of other packages made fast: the same results, the same object, and never a wrong one."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

import esrgan_ext
from benchmarks.published import (
    BasicSRRRDBNet,
    Descriptor,
    ESRGANRRDBNet,
    OldRRDBNet,
    SRVGGNetCompact,
)
from esrgan_ext.errors import OptionError
from esrgan_ext.models import SRNetwork, SRResNet, SRResNetConfig

MODULES = {
    "BasicSR x4": BasicSRRRDBNet,
    "BasicSR x2": lambda: BasicSRRRDBNet(scale=2),
    "BasicSR x1": lambda: BasicSRRRDBNet(scale=1),
    "BasicSR narrow": lambda: BasicSRRRDBNet(nf=24, gc=8),
    "ESRGAN": ESRGANRRDBNet,
    "old layout": OldRRDBNet,
    "compact": SRVGGNetCompact,
    "compact x2, ReLU": lambda: SRVGGNetCompact(scale=2, act="relu"),
    "compact, LeakyReLU": lambda: SRVGGNetCompact(act="leakyrelu"),
    "data parallel": lambda: nn.DataParallel(BasicSRRRDBNet()),
}


class PublishedSRResNet(nn.Module):
    """SRResNet by another class, with BatchNorm whose statistics are not those of a new one."""

    def __init__(self) -> None:
        super().__init__()
        inner = SRResNet(SRResNetConfig(nf=8, nb=2))
        for part in inner.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.running_mean, -0.1, 0.1)
                nn.init.uniform_(part.running_var, 0.5, 2)
        for name, child in inner.named_children():
            self.add_module(name, child)

    def forward(self, x):
        features = self.act_first(self.conv_first(x))
        y = self.bn_body(self.conv_body(self.body(features))) + features
        return self.conv_last(self.upsample(y))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def made(kind: str) -> nn.Module:
    return MODULES[kind]().eval()


def ran_ours(fast: nn.Module, x: torch.Tensor) -> bool:
    """Whether a call goes through our network."""
    network = fast.forward._network
    calls = []
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    fast(x)
    handle.remove()
    return bool(calls)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("size", [(16, 24), (28, 20), (17, 9)])
def test_results_are_those_of_the_module(kind, size):
    module = made(kind)
    fast = esrgan_ext.accelerate(module)
    assert fast is not module
    assert type(fast) is type(module)
    x = torch.rand(2, 3, *size)
    with torch.inference_mode():
        try:
            expected = module(x)
        except RuntimeError:  # BasicSR's unshuffling asks for a multiple
            with pytest.raises(RuntimeError):
                fast(x)
            return
        assert torch.allclose(fast(x), expected, atol=1e-5)
    with torch.no_grad():
        assert ran_ours(fast, x) == (kind not in ("BasicSR x2", "BasicSR x1") or size[0] % 4 == 0)


def test_srresnet_keeps_its_statistics():
    module = PublishedSRResNet().eval()
    fast = esrgan_ext.accelerate(module)
    x = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        assert ran_ours(fast, x)
        assert torch.allclose(fast(x), module(x), atol=1e-5)
        module.bn_body.running_mean = module.bn_body.running_mean + 1  # replaced, not written to
        assert torch.allclose(fast(x), module(x), atol=1e-5)
        module.train()
        assert not ran_ours(fast, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    module = made("BasicSR x4").to(dtype)
    fast = esrgan_ext.accelerate(module)
    x = torch.rand(1, 3, 12, 12, dtype=dtype)
    with torch.no_grad():
        expected, found = module(x), fast(x)
    assert found.dtype == dtype
    assert (found - expected).abs().max() <= (1e-9 if dtype == torch.float64 else 0.05)


def test_a_descriptor_comes_back_as_one():
    descriptor = Descriptor(made("old layout"), 4)
    fast = esrgan_ext.accelerate(descriptor)
    assert type(fast) is Descriptor
    assert fast.scale == 4
    assert fast.tags == ["64nf"]
    assert type(fast.model) is OldRRDBNet
    assert fast.model is not descriptor.model
    x = torch.rand(1, 3, 20, 20)
    assert torch.allclose(fast(x), descriptor(x), atol=1e-5)
    assert ran_ours(fast.to("cpu").model, x.requires_grad_(False)) is False  # gradients recorded
    with torch.inference_mode():
        assert ran_ours(fast.model, x)


def test_an_object_that_holds_a_model():
    class Holder:
        def __init__(self) -> None:
            self.model = made("compact")

    holder = Holder()
    fast = esrgan_ext.accelerate(holder)
    assert type(fast) is Holder
    assert fast.model is not holder.model


def test_weights_are_shared_and_changes_to_them_are_seen():
    module = made("BasicSR x4")
    fast = esrgan_ext.accelerate(module)
    ours = {id(p) for p in fast.forward._network.parameters()}
    assert ours == {id(p) for p in module.parameters()} == {id(p) for p in fast.parameters()}
    x = torch.rand(1, 3, 16, 16)
    other = {name: value * 1.1 for name, value in module.state_dict().items()}
    for assign in (False, True):
        fast.load_state_dict(other, assign=assign)
        with torch.no_grad():
            assert torch.allclose(fast(x), type(module).forward(module, x), atol=1e-5)
        other = {name: value * 0.8 for name, value in other.items()}
    fast.double()
    with torch.no_grad():
        assert torch.allclose(fast(x.double()), module(x.double()), atol=1e-9)


def test_gradients_autocast_hooks_and_tracing_are_the_modules_own():
    module = made("BasicSR x4")
    fast = esrgan_ext.accelerate(module)
    x = torch.rand(1, 3, 8, 8)
    assert not ran_ours(fast, x)
    fast(x).sum().backward()
    assert module.conv_first.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fast(x).dtype == module(x).dtype == torch.bfloat16
    seen = []
    handle = module.body[0].rdb1.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        fast(x)
        handle.remove()
        assert seen == [1]
        assert ran_ours(fast, x)
        traced = torch.jit.trace(fast, x)
        assert torch.allclose(traced(x), module(x), atol=1e-5)
        assert torch.allclose(torch.vmap(fast)(x[None])[0], module(x), atol=1e-5)


def test_copies_and_pickles_are_fast_too():
    fast = esrgan_ext.accelerate(made("compact"))
    x = torch.rand(1, 3, 8, 8)
    buffer = io.BytesIO()
    pickle.dump(fast, buffer)
    for other in (copy.deepcopy(fast), pickle.loads(buffer.getvalue())):
        with torch.no_grad():
            assert ran_ours(other, x)
            nn.init.zeros_(other.body[-1].weight)
            nn.init.zeros_(other.body[-1].bias)
            expected = x.repeat_interleave(4, 2).repeat_interleave(4, 3)
            assert torch.allclose(other(x), expected, atol=1e-6)
            assert not torch.allclose(fast(x), expected, atol=1e-3)


class Clamping(BasicSRRRDBNet):
    def forward(self, x):
        return super().forward(x).clamp(0, 1)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (lambda: nn.Conv2d(3, 3, 3), "not an ESRGAN network"),
        (lambda: nn.ReLU(), "no parameters"),
        (lambda: BasicSRRRDBNet(slope=0.1), "computes something else"),
        (Clamping, "computes something else"),
        (lambda: SRVGGNetCompact(act="other"), "computes something else"),
        (lambda: nn.ModuleDict({"generator": BasicSRRRDBNet()}), "failed"),
    ],
)
def test_what_is_not_ours_comes_back_unchanged_with_a_warning(module, reason):
    module = module().eval()
    if isinstance(module, SRVGGNetCompact | Clamping):  # large enough for the difference to show
        with torch.no_grad():
            for p in module.parameters():
                p.mul_(2)
    with pytest.warns(UserWarning, match=reason):
        assert esrgan_ext.accelerate(module) is module


def test_our_networks_and_fast_ones_come_back_as_they_are(tiny_network):
    assert isinstance(tiny_network, SRNetwork)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert esrgan_ext.accelerate(tiny_network) is tiny_network
        fast = esrgan_ext.accelerate(made("compact"))
        assert esrgan_ext.accelerate(fast) is fast


def test_training_mode_is_left_as_it_was():
    module = BasicSRRRDBNet()
    module.body.eval()
    fast = esrgan_ext.accelerate(module)
    assert [part.training for part in fast.modules()] == [
        part.training for part in module.modules()
    ]
    assert module.training
    assert not module.body.training


@pytest.mark.parametrize("wrong", ["realesrgan-x4plus", None, 3])
def test_what_holds_no_module_is_refused(wrong):
    with pytest.raises(OptionError, match="cannot be accelerated"):
        esrgan_ext.accelerate(wrong)
