"""Compact networks in every file format, mixed, exported; and files that are none."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from esrgan_ext.errors import ArchitectureMismatch, ModelError
from esrgan_ext.models import SRVGGNetCompact
from esrgan_ext.weights import export_model, find_model, interpolate, load_model, save_model
from tests.models.test_compact import make, published
from tests.weights.ncnn_files import GraphWriter, run_ncnn


def write_compact(network: SRVGGNetCompact, folder: Path, *, fp16: bool, fused: bool) -> Path:
    """Write the two files as converters do; returns the `.param`."""
    config = network.config
    graph = GraphWriter(fused, fp16)
    image = x = graph.add("Input", [], "")
    for k, conv in enumerate(network.convolutions()):
        if k == len(network.convolutions()) - 1:
            x = graph.conv(x, conv)
        elif config.activation == "prelu":
            x = graph.conv(x, conv)
            slopes = network.body[2 * k + 1].weight.detach().numpy()
            graph.data += slopes.astype("<f4").tobytes()
            x = graph.add("PReLU", [x], f"0={len(slopes)}")
        elif config.activation == "relu":
            x = graph.conv(x, conv)
            if fused:
                kind, inputs, params = graph.layers[-1]
                graph.layers[-1] = (kind, inputs, params + " 9=1")
            else:
                x = graph.add("ReLU", [x], "")
        else:
            x = graph.conv(x, conv, activated=True)
            kind, inputs, params = graph.layers[-1]
            graph.layers[-1] = (kind, inputs, params.replace("2.000000e-01", "1.000000e-01"))
    factor = config.upsampling
    x = graph.add("PixelShuffle", [x], f"0={factor}")
    large = graph.add("Interp", [image], f"0=1 1={factor:.6e} 2={factor:.6e}")
    x = graph.add("BinaryOp", [x, large], "0=0")
    if config.reduced:
        part = config.scale / factor
        graph.add("Interp", [x], f"0=3 1={part:.6e} 2={part:.6e}")
    param = folder / "compact.param"
    param.write_text(graph.text(), encoding="ascii")
    param.with_suffix(".bin").write_bytes(bytes(graph.data))
    return param


CONFIGS = [
    {},
    {"activation": "relu"},
    {"activation": "leakyrelu", "upsampling": 2},
    {"scale": 2},
    {"scale": 3},
    {"in_channels": 1, "upsampling": 3, "num_conv": 0},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_ncnn_files_load_and_compute_what_ncnn_computes(tmp_path, config, fp16, fused):
    network = make(**config)
    param = write_compact(network, tmp_path, fp16=fp16, fused=fused)
    loaded = load_model(param)
    assert loaded.config == network.config
    image = np.random.default_rng(0).random((network.in_channels, 9, 12), dtype=np.float32)
    with torch.no_grad():
        found = loaded(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(found, run_ncnn(param, image), atol=1e-5)
    info = find_model(param)
    assert (info.scale, info.blocks, info.architecture) == (
        network.scale, network.config.num_conv, "SRVGGNetCompact",
    )  # fmt: skip


@pytest.mark.parametrize("wrapping", ["params", "params_ema", "bare", "module."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_published_files_are_recognised_by_their_tensors(tmp_path, wrapping, suffix):
    network = make(upsampling=2, num_conv=3)
    prefix = "module." if wrapping == "module." else ""
    state = {prefix + key: value for key, value in network.state_dict().items()}
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save({wrapping: state} if wrapping.startswith("params") else state, path)
    else:
        save_file(state, path)
    loaded = load_model(path)
    x = torch.rand(1, 3, 8, 7)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), published(network, x), atol=1e-5, rtol=0)
    assert loaded.info.overlap == network.reach


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_saved_networks_come_back_whole(tmp_path, config, suffix):
    network = make(**config)
    loaded = load_model(save_model(network, tmp_path / f"net{suffix}"))
    assert loaded.config == network.config
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


@pytest.mark.parametrize("config", [{}, {"scale": 3, "activation": "relu"}], ids=str)
def test_onnx_runtime_computes_the_same_at_other_sizes(tmp_path, config):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = make(**config)
    path = export_model(network, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in ((8, 7), (13, 21)):
        x = torch.rand(2, 3, *size)
        found = session.run(None, {"image": x.numpy()})[0]
        expected = published(copy.deepcopy(network).double(), x.double()).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_compact_networks_mix_by_their_weights():
    a, b = make(), make()
    nn.init.normal_(b.body[2].weight)
    nn.init.normal_(b.body[3].weight)
    mixed = interpolate(a, b, 0.25)
    for name, tensor in mixed.state_dict().items():
        expected = 0.75 * a.state_dict()[name] + 0.25 * b.state_dict()[name]
        torch.testing.assert_close(tensor, expected)
    with pytest.raises(ArchitectureMismatch, match="cannot be mixed"):
        interpolate(a, make(scale=2), 0.5)


def test_an_activation_that_the_file_does_not_state_is_not_guessed(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(make(activation="relu").state_dict(), path)
    with pytest.raises(ModelError, match="whether ReLU or LeakyReLU"):
        load_model(path)


@pytest.mark.parametrize(
    ("key", "shape", "reason"),
    [
        ("body.6.weight", (47, 8, 3, 3), "47 outputs"),
        ("body.6.bias", (47,), "body.6.bias has shape"),
        ("body.3.weight", (7,), "body.3.weight has shape"),
        ("body.7.weight", (7,), "its last layer is body.7"),
        ("body.9.running", (7,), "its last layer is body.9"),
    ],
)
def test_other_networks_are_refused(tmp_path, key, shape, reason):
    path = tmp_path / "net.pth"
    torch.save({**make().state_dict(), key: torch.zeros(shape)}, path)
    with pytest.raises(ModelError, match=reason):
        load_model(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0=4\n", "0=2\n", "sum of pixel shuffle and enlarged image"),
        ("0=3 1=5.0", "0=3 1=4.0", "by one factor"),
        ("0=3 1=5.0", "0=2 1=5.0", "reduced by bicubic"),
        ("2=5.000000e-01", "2=5.000000e-01 6=1", "half-pixel centres"),
        ("output 0=3", "output 0=1", "reduced by bicubic"),
        ("0=8\n", "0=7\n", "PReLU with a slope a channel"),
        ("PReLU", "Sigmoid", "Sigmoid does not occur"),
        ("5=1 6=576", "5=1 6=577", "number of weights"),
    ],
)
def test_graphs_of_other_networks_are_refused(tmp_path, old, new, reason):
    param = write_compact(make(scale=2), tmp_path, fp16=False, fused=False)
    text = param.read_text()
    assert old in text
    param.write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError, match=reason):
        load_model(param)


def test_truncated_slopes_are_noticed(tmp_path):
    param = write_compact(make(), tmp_path, fp16=False, fused=False)
    binary = param.with_suffix(".bin")
    binary.write_bytes(binary.read_bytes()[:-4])
    with pytest.raises(ModelError, match="truncated"):
        load_model(param)


def test_copies_of_models_that_share_their_numbers_are_told_apart(tmp_path):
    for scale in (2, 3, 4):
        source = find_model(f"realesr-animevideov3-x{scale}").path
        for suffix in (".param", ".bin"):
            (tmp_path / f"copy{suffix}").write_bytes(source.with_suffix(suffix).read_bytes())
        assert find_model(tmp_path / "copy.param").name == f"realesr-animevideov3-x{scale}"
