"""Reading ncnn models: compared with the ncnn runtime and with files written here."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.errors import ModelError
from esrgan_ext.weights import load_model
from esrgan_ext.weights.ncnn import read_ncnn, read_shapes
from tests.conftest import make_network
from tests.weights.ncnn_files import run_ncnn, write_ncnn


@st.composite
def configs(draw: st.DrawFn) -> dict[str, int]:
    channels, unshuffle = draw(st.sampled_from([1, 3, 4])), draw(st.sampled_from([1, 2, 4]))
    zoom = draw(st.sampled_from([z for z in (1, 2, 4, 8) if z >= unshuffle]))
    return {
        "in_channels": channels,
        "out_channels": channels,
        "nf": draw(st.integers(1, 9)),
        "nb": draw(st.integers(1, 3)),
        "gc": draw(st.integers(1, 6)),
        "scale": zoom // unshuffle,
        "unshuffle": unshuffle,
    }


@settings(max_examples=40, deadline=None)
@given(config=configs(), fp16=st.booleans(), fused=st.booleans())
def test_every_number_gets_its_name(config: dict[str, int], fp16: bool, fused: bool) -> None:
    network = make_network(**config)
    with tempfile.TemporaryDirectory() as folder:
        param, binary = write_ncnn(network, Path(folder), fp16=fp16, fused=fused)
        state, _ = read_ncnn(param, binary)
        shapes, _ = read_shapes(param)
    expected = network.state_dict()
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        rounded = tensor.half().float() if fp16 and tensor.ndim == 4 else tensor
        assert torch.equal(state[name], rounded), name
        assert state[name].dtype == torch.float32
        assert shapes[name].shape == tensor.shape


@settings(max_examples=8, deadline=None)
@given(config=configs(), fused=st.booleans())
def test_small_networks_compute_what_ncnn_computes(config: dict[str, int], fused: bool) -> None:
    network = make_network(**config)
    image = np.random.default_rng(0).random((config["in_channels"], 8, 12), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        param, _ = write_ncnn(network, Path(folder), fused=fused)
        expected = run_ncnn(param, image)
        loaded = load_model(param)
    with torch.no_grad():
        found = loaded(torch.from_numpy(image)[None])[0].numpy()
    assert loaded.config == network.config
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "realesrgan-x4plus-anime",
        "realesrgan-x4plus",
        "realsr-df2k",
        "realesr-animevideov3-x2",
        "realesr-animevideov3-x3",
        "realesr-animevideov3-x4",
    ],
)
def test_packaged_models_agree_with_the_ncnn_runtime(name: str, photo: np.ndarray) -> None:
    network = load_model(name)
    # No larger than detail needs: ncnn without its fast convolutions is slow.
    image = np.ascontiguousarray(photo[56:96, 40:80].transpose(2, 0, 1)).astype(np.float32) / 255
    expected = run_ncnn(network.info.path, image, input_blob="data")
    with torch.no_grad():
        found = network(torch.from_numpy(image)[None])[0].numpy()
    assert found.shape == expected.shape == (3, 40 * network.scale, 40 * network.scale)
    assert np.abs(found - expected).max() <= 1e-5
    # A comparison of two flat images would say nothing.
    assert expected.std() > 0.05


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_ncnn(make_network(nb=1, nf=5, gc=3), tmp_path, fp16=True)


@pytest.mark.parametrize("missing", [1, 2, 100, 5000])
def test_truncated_bin_is_refused(pair: tuple[Path, Path], missing: int) -> None:
    pair[1].write_bytes(pair[1].read_bytes()[:-missing])
    with pytest.raises(ModelError, match=r"net\.bin: truncated"):
        read_ncnn(*pair)


@pytest.mark.parametrize("extra", [1, 4, 4096])
def test_bytes_left_over_are_refused(pair: tuple[Path, Path], extra: int) -> None:
    pair[1].write_bytes(pair[1].read_bytes() + bytes(extra))
    with pytest.raises(ModelError, match=rf"net\.bin: {extra} bytes are left over"):
        read_ncnn(*pair)


@pytest.mark.parametrize("flag", [0x000D4B38, 0x0002C056, 0xFFFFFFFF, 1])
def test_other_number_formats_are_refused(pair: tuple[Path, Path], flag: int) -> None:
    pair[1].write_bytes(flag.to_bytes(4, "little") + pair[1].read_bytes()[4:])
    with pytest.raises(ModelError, match=f"conv_first is stored in .* flag 0x{flag:08X}"):
        read_ncnn(*pair)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-23310=1,2.000000e-01", "-23310=1,1.000000e-01", "LeakyReLU with slope 0.2"),
        ("9=2 -23310=1,2.000000e-01", "9=1", "LeakyReLU with slope 0.2"),
        (" 9=2 -23310=1,2.000000e-01", "", "its activation differs"),
        ("2,2.000000e-01,1.000000e+00", "2,1.000000e+00,1.000000e+00", "its input differs"),
        ("0=1 1=2.000000e+00", "0=2 1=2.000000e+00", "nearest-neighbour upsampling by 2"),
        ("1=2.000000e+00 2=2.000000e+00", "1=3.0 2=3.0", "nearest-neighbour upsampling by 2"),
        ("1=3 4=1", "1=5 4=1", "3x3 convolution"),
        ("1=3 4=1", "1=3 4=0", "3x3 convolution"),
        ("4=1 5=1", "4=1 5=0", "3x3 convolution"),
        ("Interp", "PixelShuffle", "not an SRVGGNetCompact"),
        ("6=135", "6=136", "number of weights"),
        ("7767517", "7767518", "not an ncnn .param file"),
        ("1 1 blob0 blob1 ", "1 1 nowhere blob1 ", "computed nowhere"),
        ("0=5 1=3", "0=5 1=", "line 4: not a valid layer"),
        ("-23310=1,2", "-23310=3,2", "not a valid layer"),
        ("0=5 1=3", "0=inf 1=3", "not a finite number"),
    ],
)
def test_graphs_of_other_networks_are_refused(
    pair: tuple[Path, Path], old: str, new: str, reason: str
) -> None:
    text = pair[0].read_text()
    assert old in text
    pair[0].write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=f"(?s){reason}") as raised:
        read_ncnn(*pair)
    assert "net.param" in str(raised.value)


def test_layers_cut_off_are_noticed(pair: tuple[Path, Path]) -> None:
    lines = pair[0].read_text().splitlines()
    pair[0].write_text("\n".join(lines[:-3]))
    with pytest.raises(ModelError, match="announced but"):
        read_ncnn(*pair)


def test_a_graph_whose_skip_is_missing_is_refused(pair: tuple[Path, Path]) -> None:
    """Dropping the addition of conv_first's features keeps every shape and count of weights."""
    text = pair[0].read_text()
    line = next(line for line in text.splitlines() if line.startswith("BinaryOp"))
    words = line.split()
    skip, trunk, output = words[4], words[5], words[6]
    text = text.replace(line, f"BinaryOp {words[1]} 2 1 {trunk} {trunk} {output}")
    pair[0].write_text(text)
    assert skip != trunk
    with pytest.raises(ModelError, match="stands where conv_up1 should be"):
        read_ncnn(*pair)


@settings(max_examples=150, deadline=None)
@given(
    position=st.floats(0, 1, exclude_max=True),
    text=st.sampled_from(["", "-", "9", "=", " ", ",", "\n", "1e999", "nan", "Split", "-23300=0,"]),
    removed=st.integers(0, 12),
)
def test_edited_graphs_are_read_or_refused_but_never_crash(
    position: float, text: str, removed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        param, binary = write_ncnn(make_network(nf=2, gc=1), Path(folder))
        content = param.read_text()
        at = int(position * len(content))
        param.write_text(content[:at] + text + content[at + removed :])
        with contextlib.suppress(ModelError):
            state, _ = read_ncnn(param, binary)
            assert set(state) == set(make_network(nf=2, gc=1).state_dict())


@pytest.mark.parametrize("suffix", [".param", ".bin"])
def test_half_a_pair_names_the_missing_file(pair: tuple[Path, Path], suffix: str) -> None:
    kept, other = sorted(pair, key=lambda path: path.suffix != suffix)
    other.unlink()
    with pytest.raises(ModelError, match=f"{other.name} is missing"):
        load_model(kept)


def test_binary_content_named_param_is_refused(pair: tuple[Path, Path]) -> None:
    pair[0].write_bytes(bytes(range(256)))
    with pytest.raises(ModelError, match="not text"):
        read_ncnn(*pair)


def test_the_bin_stands_for_the_pair(pair: tuple[Path, Path]) -> None:
    assert load_model(pair[1]).info.blocks == 1
