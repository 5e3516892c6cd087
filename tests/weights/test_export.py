"""What is written can be read back, by us and by others; ONNX agrees with ONNX Runtime."""

from __future__ import annotations

import builtins
import importlib.util
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from esrgan_ext.errors import ModelError, OptionError
from esrgan_ext.models import RRDBNetConfig, SRResNet, SRResNetConfig
from esrgan_ext.weights import (
    export,
    export_model,
    find_model,
    info_of,
    interpolate,
    load_model,
    save_model,
)
from tests.conftest import make_network

CONFIGS: list[dict[str, Any]] = [
    {},
    {"scale": 1},
    {"scale": 8, "in_channels": 1, "out_channels": 1},
    {"scale": 2, "unshuffle": 2, "plus": True},
    {"scale": 1, "unshuffle": 4},
    # Only the file's own note tells this one from an unshuffled network of one channel.
    {"scale": 2, "in_channels": 4, "out_channels": 1},
]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("config", CONFIGS)
def test_saved_networks_load_as_they_were(
    tmp_path: Path, config: dict[str, Any], suffix: str
) -> None:
    network = make_network(**config)
    loaded = load_model(save_model(network, tmp_path / f"net{suffix}"))
    assert loaded.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_srresnet_is_saved_too(tmp_path: Path, suffix: str) -> None:
    network = SRResNet(SRResNetConfig(nf=4, nb=2, scale=2)).eval()
    loaded = load_model(save_model(network, tmp_path / f"net{suffix}"))
    assert loaded.config == network.config


def test_other_tools_find_canonical_tensors(tmp_path: Path) -> None:
    """Real-ESRGAN reads `params`; a .safetensors holds the names at its top."""
    network = make_network()
    pth = torch.load(save_model(network, tmp_path / "a.pth"), weights_only=True)["params"]
    flat = load_file(save_model(network, tmp_path / "a.safetensors"))
    assert list(pth) == list(network.state_dict())
    for state in (pth, flat):
        assert set(state) == set(network.state_dict())
        assert all(value.is_contiguous() for value in state.values())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_mix_keeps_its_facts(tmp_path: Path, suffix: str) -> None:
    a, b = make_network(seed=1), make_network(seed=2)
    a.info = replace(info_of(a), name="a", license="MIT", overlap=16)
    b.info = replace(info_of(b), name="b", license="BSD-3-Clause", overlap=24)
    path = save_model(interpolate(a, b, 0.5), tmp_path / f"mix{suffix}")
    info = find_model(path)
    assert (info.name, info.license, info.overlap) == ("mix", "MIT AND BSD-3-Clause", 24)
    assert info.purpose == "interpolation of a and b"


def test_facts_of_the_wrong_type_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    facts = {"overlap": -5, "license": 7, "purpose": None, "config": {"nf": "many"}}
    torch.save({"params": make_network().state_dict(), "esrgan_ext": facts}, path)
    info = find_model(path)
    assert (info.license, info.overlap, info.blocks) == ("unknown", 64, 1)


@pytest.mark.parametrize(
    "config",
    [
        RRDBNetConfig(nf=8, nb=2, gc=4),
        RRDBNetConfig(nf=8, nb=1, gc=4, scale=2, unshuffle=2),
        RRDBNetConfig(nf=8, nb=1, gc=4, scale=1, unshuffle=4, plus=True),
        SRResNetConfig(nf=8, nb=1, scale=2),
    ],
    ids=["x4", "x2 unshuffle", "x1 unshuffle plus", "srresnet"],
)
def test_onnx_agrees_with_onnx_runtime_at_free_sizes(
    tmp_path: Path, config: RRDBNetConfig | SRResNetConfig
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = (
        make_network(**vars(config))
        if isinstance(config, RRDBNetConfig)
        else SRResNet(config).eval().requires_grad_(False)
    )
    path = export_model(network, tmp_path / "net.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]  # no external data
    session = onnxruntime.InferenceSession(path)
    assert [entry.name for entry in session.get_inputs()] == ["image"]
    for shape in [(1, 3, 24, 32), (2, 3, 17, 9), (3, 3, 1, 6), (1, 3, 3, 2)]:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = network(image).numpy()
        found = session.run(None, {"image": image.numpy()})[0]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_real_model_as_onnx_agrees_with_onnx_runtime(tmp_path: Path, photo: np.ndarray) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = load_model("realesrgan-x4plus-anime")
    session = onnxruntime.InferenceSession(export_model(network, tmp_path / "anime.onnx"))
    for crop in (photo[:32, :32], photo[10:43, 5:52]):
        image = np.ascontiguousarray(crop.transpose(2, 0, 1)[None]).astype(np.float32) / 255
        with torch.no_grad():
            expected = network(torch.from_numpy(image)).numpy()
        found = session.run(None, {"image": image})[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_the_onnx_packages_the_pip_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == missing else real(name, *a)
    )
    with pytest.raises(ModelError, match=rf"needs {missing}: pip install 'esrgan-ext\[onnx\]'"):
        export_model(make_network(), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", ".png", ".onnx", ".bin"])
def test_other_suffixes_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OptionError, match=r"suffix must be one of \.pth, \.safetensors"):
        save_model(make_network(), tmp_path / f"net{suffix}")


def test_other_modules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="got a Conv2d"):
        export_model(torch.nn.Conv2d(1, 1, 1), tmp_path / "net.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
def test_a_folder_that_is_missing_is_reported(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ModelError, match="cannot be written: No such file or directory"):
        export_model(make_network(), tmp_path / "no" / f"net{suffix}")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = save_model(make_network(seed=1), tmp_path / f"net{suffix}")
    before = path.read_bytes()

    def full(_: object, temporary: Path, **__: object) -> None:
        Path(temporary).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        save_model(make_network(seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    with builtins.open(reference, "w"):
        pass
    path = save_model(make_network(), tmp_path / "net.pth")
    assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IMODE(os.stat(reference).st_mode)
