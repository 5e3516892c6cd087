"""Key layouts: networks written as they were published must load and compute the same."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from esrgan_ext.errors import ModelError
from esrgan_ext.models import RRDBNetConfig, SRResNet, SRResNetConfig
from esrgan_ext.weights import load_model
from esrgan_ext.weights.layouts import canonical
from tests.conftest import make_network
from tests.weights.published_networks import NewNetwork, OldNetwork

WRAPPINGS = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "params_ema preferred": lambda state: {
        "params": {key: value + 1 for key, value in state.items()},
        "params_ema": state,
    },
    "state_dict": lambda state: {"state_dict": state, "epoch": 7, "optimizer": [1, 2]},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "module. in params": lambda state: {
        "params": {f"module.{key}": value for key, value in state.items()}
    },
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
}


def write(state: dict[str, Any], folder: Path, suffix: str) -> Path:
    path = folder / f"network{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("layout", ["old", "old plus", "new"])
@pytest.mark.parametrize(
    ("wrapping", "ups"),
    [*((wrapping, 2) for wrapping in WRAPPINGS), ("bare", 0), ("bare", 1), ("bare", 3)],
)
def test_published_networks_load_and_compute_the_same(
    tmp_path: Path, wrapping: str, layout: str, ups: int
) -> None:
    torch.manual_seed(ups)
    published = {
        "new": lambda: NewNetwork(ups=ups),
        "old": lambda: OldNetwork(ups=ups),
        "old plus": lambda: OldNetwork(ups=ups, plus=True),
    }[layout]()
    path = write(WRAPPINGS[wrapping](published.state_dict()), tmp_path, ".pth")
    loaded = load_model(path)
    image = torch.rand(1, 3, 7, 5)
    with torch.no_grad():
        expected, found = published(image), loaded(image)
    assert loaded.scale == 2**ups
    assert loaded.config.plus == (layout == "old plus")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@st.composite
def network_configs(draw: st.DrawFn) -> RRDBNetConfig:
    unshuffle = draw(st.sampled_from([1, 2, 4]))
    zoom = draw(st.sampled_from([z for z in (1, 2, 4, 8) if z >= unshuffle]))
    in_channels = draw(st.sampled_from([1, 2, 3, 4]))
    # Networks that unshuffle take and return the same channels; else four inputs and one
    # output could mean either.
    outputs = [in_channels] if unshuffle > 1 else [1, 3, 4] if in_channels < 4 else [3, 4]
    return RRDBNetConfig(
        in_channels=in_channels,
        out_channels=draw(st.sampled_from(outputs)),
        nf=draw(st.integers(1, 8)),
        nb=draw(st.integers(1, 12)),
        gc=draw(st.integers(1, 5)),
        scale=zoom // unshuffle,
        unshuffle=unshuffle,
        plus=draw(st.booleans()),
    )


def to_new(name: str) -> str:
    name = re.sub(r"body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", name)
    for canonical_name, new in (("conv_body", "trunk_conv"), ("conv_hr", "HRconv")):
        name = name.replace(canonical_name, new)
    return re.sub(r"conv_up(\d)", r"upconv\1", name)


def to_old(name: str, nb: int, ups: int) -> str:
    name = re.sub(r"body\.(\d+)\.rdb(\d)\.(conv\d)\.", r"model.1.sub.\1.RDB\2.\3.0.", name)
    name = re.sub(r"body\.(\d+)\.rdb(\d)\.conv1x1", r"model.1.sub.\1.RDB\2.conv1x1", name)
    name = name.replace("conv_first", "model.0").replace("conv_body", f"model.1.sub.{nb}")
    name = re.sub(r"conv_up(\d)", lambda match: f"model.{3 * int(match[1])}", name)
    return name.replace("conv_hr", f"model.{3 * ups + 2}").replace(
        "conv_last", f"model.{3 * ups + 4}"
    )


@settings(max_examples=60, deadline=None)
@given(
    config=network_configs(),
    layout=st.sampled_from(["old", "new", "canonical"]),
    suffix=st.sampled_from([".pth", ".safetensors"]),
    half=st.booleans(),
    shuffle=st.randoms(),
)
def test_the_shape_of_a_network_is_read_off_its_tensors(
    config: RRDBNetConfig, layout: str, suffix: str, half: bool, shuffle: Any
) -> None:
    network = make_network(**vars(config))
    rename = {
        "canonical": lambda name: name,
        "new": to_new,
        "old": lambda name: to_old(name, config.nb, config.upsamplings),
    }[layout]
    items = [
        (rename(name), value.half() if half else value)
        for name, value in network.state_dict().items()
    ]
    shuffle.shuffle(items)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_model(write(dict(items), Path(folder), suffix))
    assert loaded.config == config
    found = loaded.state_dict()  # once: made anew, for each of a thousand names, it took most of it
    for name, value in network.state_dict().items():
        expected = value.half().float() if half else value
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_srresnet_is_recognised(tmp_path: Path, batch_norm: bool, scale: int) -> None:
    config = SRResNetConfig(
        in_channels=1, out_channels=1, nf=6, nb=3, scale=scale, batch_norm=batch_norm
    )
    network = SRResNet(config).eval()
    loaded = load_model(write(network.state_dict(), tmp_path, ".pth"))
    image = torch.rand(1, 1, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image))
    assert loaded.config == config


def test_what_is_loaded_is_ready_to_run(tmp_path: Path) -> None:
    state = {name: value.bfloat16() for name, value in make_network().state_dict().items()}
    loaded = load_model(write(state, tmp_path, ".pth"))
    assert not loaded.training
    for parameter in loaded.parameters():
        assert parameter.dtype == torch.float32
        assert not parameter.requires_grad
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)


def state_without(*names: str) -> dict[str, Tensor]:
    state = dict(make_network().state_dict())
    for name in names:
        del state[name]
    return state


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"encoder.weight": torch.zeros(3)}, "not an ESRGAN network.*first are: encoder.weight"),
        ({}, "not an ESRGAN network.*none"),
        (state_without("conv_first.weight"), "tensor conv_first.weight is missing"),
        (state_without("conv_body.bias"), "tensor conv_body.bias missing"),
        (state_without("conv_up1.weight", "conv_up1.bias"), "do not make a scale|unknown"),
        ({**state_without(), "body.0.rdb1.noise": torch.zeros(1)}, "body.0.rdb1.noise unknown"),
        (
            {**state_without(), "conv_hr.weight": torch.zeros(8, 9, 3, 3)},
            "conv_hr.weight has shape 8x9x3x3, expected 8x8x3x3",
        ),
        (
            {**state_without(), "conv_first.weight": torch.zeros(8)},
            "conv_first.weight has shape 8, expected 4 axes",
        ),
        (
            {**state_without(), "conv_first.weight": torch.zeros(8, 3, 5, 5)},
            "expected 8x3x3x3",
        ),
        (
            {
                "model.0.weight": torch.zeros(8, 3, 3, 3),
                "model.1.sub.0.res.0.weight": torch.zeros(8, 8, 3, 3),
            },
            "SRResNet",
        ),
        (
            {**OldNetwork().state_dict(), "model.11.weight": torch.zeros(1)},
            "no convolution can stand at model.11",
        ),
    ],
)
def test_other_networks_are_refused_with_a_reason(state: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(ModelError, match=f"given.pth: .*{reason}"):
        canonical(state, "given.pth")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    state = dict(make_network().state_dict())
    state["conv_hr.bias"] = torch.full((8,), bad)
    path = write(state, tmp_path, ".safetensors")
    with pytest.raises(ModelError, match=r"network\.safetensors: conv_hr.bias holds NaN"):
        load_model(path)
