"""Packages of the BioImage.IO model zoo: what is written runs in its own reference implementation,
what is read is safe and is the same network."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import random
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import esrgan_ext as esr
from esrgan_ext.cli import app
from esrgan_ext.errors import ModelError
from esrgan_ext.models import (
    CompactConfig,
    RRDBNetConfig,
    SRResNet,
    SRResNetConfig,
    SRVGGNetCompact,
)
from esrgan_ext.weights import export, export_model, find_model, load_model, save_model
from esrgan_ext.weights.info import overlap_for
from esrgan_ext.weights.zoo import architecture, reading
from tests.conftest import make_network

# A dozen runs of each published network in plain PyTorch and ONNX Runtime.
pytestmark = pytest.mark.timeout(1500)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as a package; its one channel is measured in its own range."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("zoo")
    saved = save_model(make_network(in_channels=1, out_channels=1), folder / "small.safetensors")
    done = CliRunner().invoke(app, ["export", str(saved), str(folder / "small.zip")])
    assert done.exit_code == 0, done.output
    return folder / "small.zip"


SMALL_OVERLAP = 16


@pytest.fixture(scope="module", params=["lite-micro-x4", "realesrgan-x4plus-anime"])
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A model's name and the package of it.

    It is given a small overlap: the zoo's test images grow with that, and a dozen runs of such a
    network on 134 or 160 pixels tell no more than on 64.
    """
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("published") / f"{request.param}.zip"
    network = load_model(request.param)
    network.info = replace(network.info, overlap=SMALL_OVERLAP)
    return request.param, export_model(network, path)


@pytest.mark.parametrize(
    "config",
    [
        RRDBNetConfig(nf=8, nb=2, gc=4),
        RRDBNetConfig(nf=8, nb=1, gc=4, scale=2, unshuffle=2),
        RRDBNetConfig(nf=8, nb=1, gc=4, scale=1, unshuffle=4, plus=True, in_channels=1),
        SRResNetConfig(nf=8, nb=2, scale=2),
        SRResNetConfig(nf=8, nb=1, scale=4, batch_norm=False),
        CompactConfig(nf=8, num_conv=2),
        CompactConfig(nf=8, num_conv=1, activation="leakyrelu", in_channels=1),
        CompactConfig(nf=8, num_conv=1, activation="relu", scale=3),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(16, 16), (9, 13), (3, 2)])
def test_the_source_in_packages_is_the_same_network(config: Any, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    if isinstance(config, RRDBNetConfig):
        ours: Any = make_network(**vars(config))
    else:
        made = SRResNet(config) if isinstance(config, SRResNetConfig) else SRVGGNetCompact(config)
        ours = made.eval().requires_grad_(False)
    theirs = getattr(architecture, type(ours).__name__)(**vars(config)).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(2, config.in_channels, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = ours.plain_forward(image)
        found = theirs(image)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_zoo_passes_published_models(
    published: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Format, kinds of weights against the test output, several sizes: of the small network all
    three, of the large one the one by another runtime."""
    core = pytest.importorskip("bioimageio.core", reason="bioimageio.core is not installed")
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # after each run, of all that the tests hold
    name, path = published
    small = name == "lite-micro-x4"
    summary = core.test_model(path, weight_format=None if small else "onnx")
    failed = [(d.name, [e.msg for e in d.errors]) for d in summary.details if d.errors]
    assert summary.status == "passed", failed
    names = " ".join(detail.name for detail in summary.details)
    for kind in ("onnx", "pytorch_state_dict", "torchscript") if small else ("onnx",):
        assert f"Reproduce test outputs from test inputs ({kind})" in names
    assert same_weights(load_model(path), load_model(name))


def test_the_same_network_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    again = export_model(load_model(package.with_suffix(".safetensors")), tmp_path / "other.zip")
    with zipfile.ZipFile(package) as first, zipfile.ZipFile(again) as second:
        for name in first.namelist():
            assert first.read(name) == second.read(name), name
    assert package.read_bytes() == again.read_bytes()


def test_nothing_in_a_package_tells_of_this_machine(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            for folder in (Path(esr.__file__).parent, Path(torch.__file__).parent, package.parent):
                assert str(folder).encode() not in content, name
            if zipfile.is_zipfile(io.BytesIO(content)):
                inner = zipfile.ZipFile(io.BytesIO(content))
                assert not any(entry.endswith("debug_pkl") for entry in inner.namelist())


def test_the_description_states_scale_halo_range_and_license(
    package: Path, published: tuple[str, Path]
) -> None:
    name, path = published
    with zipfile.ZipFile(path) as archive:
        rdf = yaml.safe_load(archive.read("rdf.yaml"))
        test_input = np.load(io.BytesIO(archive.read("test_input.npy")))
        test_output = np.load(io.BytesIO(archive.read("test_output.npy")))
        for entry in (rdf["covers"][0], rdf["documentation"], *rdf["weights"].values()):
            digest = hashlib.sha256(archive.read(entry["source"])).hexdigest()
            assert digest == entry["sha256"]
    assert rdf["format_version"].startswith("0.5")
    assert rdf["license"] == find_model(name).license
    (image,), (result,) = rdf["inputs"], rdf["outputs"]
    assert [axis["scale"] for axis in image["axes"][2:]] == [1, 1]
    assert [axis["scale"] for axis in result["axes"][2:]] == [0.25, 0.25]
    assert [axis["halo"] for axis in result["axes"][2:]] == [4 * SMALL_OVERLAP] * 2
    assert test_output.shape[2:] == tuple(4 * side for side in test_input.shape[2:])
    # One whose overlap nobody has measured.
    with zipfile.ZipFile(package) as archive:
        axes = yaml.safe_load(archive.read("rdf.yaml"))["outputs"][0]["axes"]
    overlap = overlap_for(load_model(package))
    assert overlap not in (0, SMALL_OVERLAP)
    assert [axis["halo"] for axis in axes[2:]] == [4 * overlap] * 2
    # What the package says is what the upscaler computes of the same values.
    step = image["preprocessing"][0]
    if name == "lite-micro-x4":
        assert step["kwargs"]["max_percentile"] == 99.9
        low, high = np.percentile(test_input, (0.1, 99.9))
        up = esr.Upscaler(name, data_range=(low, high), denoise=0.0)
        expected = (up(test_input[0, 0]) - low) / (high - low)
        np.testing.assert_allclose(test_output[0, 0], expected, atol=2e-4)
    else:
        assert step == {"id": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": 0.0}}
        up = esr.Upscaler(name, data_range=(0, 255), channel_axis=0)
        expected = np.clip(up(test_input[0]), 0, 255)
        np.testing.assert_allclose(test_output[0], expected, atol=0.05)


@pytest.mark.parametrize("form", ["zip", "folder", "description", "zip with a folder"])
def test_a_package_loads_as_the_network_it_was(package: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / "foreign"
    if form == "zip":
        path = package
    elif form == "zip with a folder":
        path = tmp_path / "nested.zip"
        with zipfile.ZipFile(package) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(f"model/{name}", old.read(name))
    else:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(path)
    loaded = load_model(path / "rdf.yaml" if form == "description" else path)
    assert same_weights(loaded, make_network(in_channels=1, out_channels=1))
    info = find_model(path)
    assert info.name == {"zip": "small", "zip with a folder": "nested"}.get(form, "foreign")
    assert (info.license, info.scale) == ("unknown", 4)


def test_configurations_that_tensors_do_not_tell_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_write_onnx", lambda _, path: path.write_bytes(b"not read"))
    torch.manual_seed(0)
    network = SRVGGNetCompact(CompactConfig(nf=8, num_conv=1, activation="leakyrelu", scale=2))
    loaded = load_model(export_model(network.eval(), tmp_path / "compact.zip"))
    assert loaded.config == network.config


def test_the_command_line_takes_packages(package: Path, tmp_path: Path) -> None:
    import cv2

    image = np.random.default_rng(0).integers(0, 255, (12, 10), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    target = tmp_path / "out.png"
    for arguments in (
        ["upscale", tmp_path / "a.png", target, "--model", package],
        ["export", package, tmp_path / "again.safetensors"],
    ):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
    found = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
    assert found.shape == (48, 40)
    np.testing.assert_array_equal(
        found, esr.upscale(image, make_network(in_channels=1, out_channels=1))
    )
    assert same_weights(load_model(tmp_path / "again.safetensors"), load_model(package))


# What others write, and what may not pass.

WEIGHTS = "model.pt"


def state_bytes(**config: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(make_network(**config).state_dict(), buffer)
    return buffer.getvalue()


def description(**changes: Any) -> dict[str, Any]:
    """Of format 0.4, as most packages of the zoo are."""
    found: dict[str, Any] = {
        "type": "model",
        "format_version": "0.4.10",
        "description": "of another laboratory",
        "license": "CC-BY-4.0",
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"min": [1, 3, 64, 64], "step": [0, 0, 8, 8]},
                "preprocessing": [{"name": "scale_range", "kwargs": {"mode": "per_sample"}}],
            }
        ],
        "outputs": [
            {
                "name": "result",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {
                    "reference_tensor": "raw",
                    "scale": [1, 1, 4, 4],
                    "offset": [0, 0, 0, 0],
                },
            }
        ],
        "weights": {"pytorch_state_dict": {"source": WEIGHTS, "architecture": "model.py:Net"}},
    }
    return {**found, **changes}


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set one thing in a description: ``inputs.0.axes``."""

    def change(content: dict[str, Any]) -> None:
        *way, last = path.split(".")
        place: Any = content
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        place[int(last) if last.isdigit() else last] = value

    return change


def written(folder: Path, content: object, weights: bytes | None = None) -> Path:
    path = folder / "foreign.zip"
    with zipfile.ZipFile(path, "w") as archive:
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        archive.writestr("rdf.yaml", text)
        archive.writestr(WEIGHTS, state_bytes() if weights is None else weights)
    return path


def test_packages_of_the_older_format_load(tmp_path: Path) -> None:
    path = written(tmp_path, description())
    assert same_weights(load_model(path), make_network())
    info = find_model(path)
    assert (info.license, info.purpose) == ("CC-BY-4.0", "of another laboratory")


REFUSED = {
    "another scale": (changed("outputs.0.shape.scale", [1, 1, 2, 2]), "enlarge by 2, but"),
    "another range": (
        changed("inputs.0.preprocessing", [{"name": "zero_mean_unit_variance"}]),
        "'zero_mean_unit_variance' is not done here",
    ),
    "a shift": (
        changed(
            "inputs.0.preprocessing",
            [{"name": "scale_linear", "kwargs": {"gain": 2.0, "offset": -1.0}}],
        ),
        "shifts values",
    ),
    "values to 255": (
        lambda c: c["inputs"][0].update(preprocessing=[], data_range=[0, 255]),
        "takes values up to 255",
    ),
    "bytes as they are": (
        lambda c: c["inputs"][0].update(preprocessing=[], data_type="uint8"),
        "takes values up to 255",
    ),
    "masks": (changed("outputs.0.postprocessing", [{"name": "sigmoid"}]), "'sigmoid' is not done"),
    "volumes": (changed("inputs.0.axes", "bczyx"), "images of two axes"),
    "two images": (lambda c: c["inputs"].append(dict(c["inputs"][0])), "2 tensors in"),
    "other weights": (changed("weights", {"torchscript": {"source": "a.pt"}}), "as torchscript"),
    "no model": (changed("type", "dataset"), "not that of a model"),
    "an old format": (changed("format_version", "0.3.2"), "formats 0.4 and 0.5"),
    "weights elsewhere": (
        changed("weights.pytorch_state_dict.source", "https://example.org/w.pt"),
        "weights are elsewhere",
    ),
    "a path out": (changed("weights.pytorch_state_dict.source", "../w.pt"), "not a path within"),
    "a root": (changed("weights.pytorch_state_dict.source", "/etc/passwd"), "not a path within"),
    "a drive": (changed("weights.pytorch_state_dict.source", "C:\\w.pt"), "not a path within"),
    "no file": (changed("weights.pytorch_state_dict.source", "w.pt"), "w.pt is not in the zip"),
    "another file": (changed("weights.pytorch_state_dict.sha256", "0" * 64), "SHA-256 differs"),
    "nonsense": (changed("inputs", 7), "not that of a model"),
    "odd axes": (changed("inputs.0.axes", [3]), "not that of a model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_wrong_or_unsafe_is_refused(tmp_path: Path, case: str) -> None:
    change, message = REFUSED[case]
    content = description()
    change(content)
    path = written(tmp_path, content)
    with pytest.raises(ModelError, match=re.escape(message)) as error:
        load_model(path)
    assert str(error.value).startswith(("foreign.zip: ", f"{path}: "))


@pytest.mark.parametrize(
    "weights", [b"", b"no weights", b"PK\x03\x04 half"], ids=["empty", "text", "half a zip"]
)
def test_weights_that_are_none_are_reported(tmp_path: Path, weights: bytes) -> None:
    path = written(tmp_path, description(), weights)
    with pytest.raises(ModelError, match=r"foreign\.zip: its PyTorch weights: not a PyTorch"):
        load_model(path)


def test_weights_of_another_network_are_reported(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(3, 3).state_dict(), buffer)
    with pytest.raises(ModelError, match="not an ESRGAN network"):
        load_model(written(tmp_path, description(), buffer.getvalue()))


def test_weights_that_would_run_code_do_not(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    buffer = io.BytesIO()
    torch.save({"params": make_network().state_dict(), "x": Evil()}, buffer)
    load_model(written(tmp_path, description(), buffer.getvalue()))
    assert not (tmp_path / "ran").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_UNSUSPICIOUS_BYTES", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rdf.yaml", yaml.safe_dump(description()))
        archive.writestr(WEIGHTS, bytes(8 << 20))
    with pytest.raises(ModelError, match="not what a network's weights look like"):
        load_model(path)


def test_a_zip_that_lies_about_a_size_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path, description())
    raw = path.read_bytes()
    size = len(state_bytes()).to_bytes(4, "little")
    place = raw.rindex(size)  # in the directory at the end
    path.write_bytes(raw[:place] + (1000).to_bytes(4, "little") + raw[place + 4 :])
    with pytest.raises(ModelError, match="foreign"):
        load_model(path)


@pytest.mark.parametrize(
    "text",
    [
        "type: [model",
        "a: &a {type: model}\nb: {<<: *a}\n",
        "[" * 100_000,
        "x: !!python/object/apply:os.system ['true']",
        "- 1",
        "x: " + "y" * (2 << 20),
        "\x00",
    ],
    ids=["broken", "merge", "deep", "code", "a list", "long", "binary"],
)
def test_descriptions_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=r"foreign\.zip"):
        load_model(written(tmp_path, text))


def test_a_zip_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, description())
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        raw[archive.start_dir + 6] = 150  # the version that is needed to read it
    path.write_bytes(raw)
    with pytest.raises(ModelError, match="not a zip, or a damaged one"):
        load_model(path)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_packages_raise_one_kind_of_error(tmp_path: Path, seed: int) -> None:
    """Some bytes changed near the ends, where a zip's structure is, or cut off."""
    whole = written(tmp_path, description()).read_bytes()
    draw = random.Random(seed)
    for number in range(25):
        raw = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            place = draw.choice([draw.randrange(1500), len(raw) - 1 - draw.randrange(200)])
            raw[place] = draw.randrange(256)
        path = tmp_path / f"{number}.zip"
        path.write_bytes(raw[: draw.randrange(len(raw))] if number % 8 == 0 else raw)
        with contextlib.suppress(ModelError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert same_weights(load_model(path), make_network())


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, description())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(WEIGHTS, b"others")
    with pytest.raises(ModelError, match="2 times"):
        load_model(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (tmp_path / "secret.pt").write_bytes(state_bytes())
    (folder / WEIGHTS).symlink_to(tmp_path / "secret.pt")
    (folder / "rdf.yaml").write_text(yaml.safe_dump(description()))
    with pytest.raises(ModelError, match="outside of the package's folder"):
        load_model(folder)


def test_what_is_no_package_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"")
    with pytest.raises(ModelError, match=r"there is no rdf\.yaml"):
        load_model(tmp_path / "photos.zip")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(ModelError, match="not a zip"):
        load_model(tmp_path / "text.zip")
    with pytest.raises(ModelError, match="not a file"):
        load_model(tmp_path)
