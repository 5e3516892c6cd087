"""Damaged, foreign and malicious weight files: a message with the file's name, nothing run."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from esrgan_ext.errors import ModelError, OptionError
from esrgan_ext.weights import load_model, save_model
from tests.conftest import make_network


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.proof}'",)


@pytest.mark.parametrize("how", ["torch", "torch beside tensors", "pickle", "pickle protocol 2"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_a_pickle_that_runs_code_does_not_run(tmp_path: Path, how: str, suffix: str) -> None:
    proof, path = tmp_path / "it-ran", tmp_path / f"evil{suffix}"
    if how == "torch":
        torch.save({"params": Malicious(proof)}, path)
    elif how == "torch beside tensors":
        torch.save({"params": make_network().state_dict(), "hook": Malicious(proof)}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(proof), protocol=2 if "2" in how else 4))
    if how == "torch beside tensors":
        load_model(path)
    else:
        with pytest.raises(ModelError, match=r"evil.*(holds no tensors|not a PyTorch checkpoint)"):
            load_model(path)
    assert not proof.exists()


def test_the_malicious_pickle_of_these_tests_would_run(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    proof, path = tmp_path / "it-ran", tmp_path / "evil.pth"
    torch.save(Malicious(proof), path)
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.pth"
    torch.save({"params": make_network().state_dict()}, path)
    return path


@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    state = make_network().state_dict()
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ModelError, match=r"cut\.\w+: not a .*damaged"):
        load_model(path)


@settings(max_examples=60, deadline=None)
@given(
    suffix=st.sampled_from([".pth", ".safetensors"]),
    position=st.floats(0, 1, exclude_max=True),
    flipped=st.integers(1, 255),
)
def test_files_with_a_flipped_byte_are_read_or_refused_but_never_crash(
    suffix: str, position: float, flipped: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = save_model(make_network(), Path(folder) / f"net{suffix}")
        data = bytearray(path.read_bytes())
        data[int(position * len(data))] ^= flipped
        path.write_bytes(bytes(data))
        with contextlib.suppress(ModelError):
            load_model(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"hello, this is a text file\n" * 9, b"\x89PNG\r\n\x1a\n", b"\0" * 99, b"}{"]
)
def test_foreign_content_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"foreign{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"foreign\.\w+: (not a|holds)"):
        load_model(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.zeros(3), "holds a Tensor, expected a dictionary"),
        ([1, 2], "holds a list"),
        ({"epoch": 3, "lr": 0.1}, "holds no tensors; its keys are: epoch, lr"),
        ({"params": {}}, "holds no tensors"),
        ({"params": {"conv.weight": torch.zeros(1)}}, "not an ESRGAN network"),
    ],
)
def test_checkpoints_of_something_else_say_what_they_hold(
    tmp_path: Path, content: object, reason: str
) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ModelError, match=rf"other\.pth: {reason}"):
        load_model(path)


class Option(dict):
    """A class of the trainer's that the reader does not know."""


class Scheduler:
    def __init__(self) -> None:
        self.last_epoch = 3


def wrapped(kind: str, state: dict[str, torch.Tensor]) -> object:
    if kind.endswith("."):
        return {f"{kind}{key}": value for key, value in state.items()}
    if kind.endswith(" dictionary"):
        return {kind.split()[0]: state}
    if kind == "parameters":
        return {key: torch.nn.Parameter(value) for key, value in state.items()}
    if kind == "lightning":
        others = {"discriminator.conv.weight": torch.zeros(3, 3)}
        named = {f"generator.{key}": value for key, value in state.items()}
        return {"state_dict": named | others, "epoch": 3, "hyper_parameters": Option(lr=1e-4)}
    if kind == "stray entries":
        return state | {"step": torch.tensor(7), "bn.num_batches_tracked": torch.tensor(7)}
    if kind == "average beside":
        zeros = {f"net_g.{key}": torch.zeros_like(value) for key, value in state.items()}
        return zeros | {f"net_g_ema.{key}": value for key, value in state.items()}
    if kind == "objects beside":
        return {
            "model": state,
            "args": argparse.Namespace(lr=np.float64(1e-4), betas=(0.9, 0.99)),
            "best": np.float32(31.5),
            "seed": np.arange(3),
            "scheduler": Scheduler(),
            "dtype": torch.float16,
            Scheduler: {1, 2},
        }
    assert kind == "a whole module"
    network = make_network()
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "kind",
    [
        *(f"{name} dictionary" for name in ("net_g", "netG", "generator", "G", "model", "ema")),
        *(f"{name}." for name in ("module", "net_g", "netG", "generator", "G", "model", "a.b")),
        "parameters", "lightning", "stray entries", "average beside", "objects beside",
        "a whole module",
    ],
)  # fmt: skip
def test_training_checkpoints_are_read_whatever_holds_the_network(
    tmp_path: Path, kind: str, protocol: int
) -> None:
    state = dict(make_network().state_dict())
    torch.save(wrapped(kind, state), tmp_path / "net.pth", pickle_protocol=protocol)
    loaded = load_model(tmp_path / "net.pth").state_dict()
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(loaded[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 67040989\n", "LFS"),
        (b"\n\n<!DOCTYPE html>\n<html lang='en'>", "web page"),
        (b"\xef\xbb\xbf<html><head><title>404</title>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
    ],
)
def test_what_was_saved_in_place_of_the_weights_is_named(
    tmp_path: Path, suffix: str, content: bytes, reason: str
) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{reason}.*[Dd]ownload"):
        load_model(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pth"
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 1, 1)), path)
    with pytest.raises(ModelError, match=r"scripted\.pth: not a PyTorch checkpoint"):
        load_model(path)


@pytest.mark.parametrize("name", ["missing.pth", "no/such/folder/x.safetensors", "missing.param"])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        load_model(tmp_path / name)


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a file"):
        load_model(tmp_path)


def test_other_suffixes_are_refused(good: Path) -> None:
    renamed = good.rename(good.with_suffix(".onnx"))
    with pytest.raises(ModelError, match=r"good\.onnx: \.onnx is not a weights format"):
        load_model(renamed)


def test_legacy_torch_files_load(tmp_path: Path) -> None:
    path = tmp_path / "legacy.pth"
    torch.save(make_network().state_dict(), path, _use_new_zipfile_serialization=False)
    assert load_model(path).config == make_network().config


@pytest.mark.parametrize("model", [None, 3, b"realesrgan-x4plus", ["a"]])
def test_models_of_another_type_are_refused(model: object) -> None:
    with pytest.raises(OptionError, match="model must be"):
        load_model(model)  # type: ignore[arg-type]


def test_a_module_is_returned_unchanged() -> None:
    network = make_network()
    assert load_model(network) is network
