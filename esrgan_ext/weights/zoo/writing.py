"""Writes a network as a model package of the BioImage.IO zoo (spec 0.5): one zip for Fiji's
DeepImageJ, ilastik, QuPath and bioimageio.core.

The weights stand in it three times, as ONNX, TorchScript and PyTorch's state dict with the
network's source, since no one format is read by all of these hosts. The same network written by
the same versions gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from esrgan_ext.errors import ModelError
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights.info import ModelInfo, overlap_for
from esrgan_ext.weights.zoo import architecture, credits

# What readers of every 0.5 release understand; newer ones read it as their own.
FORMAT_VERSION = "0.5.4"

RDF = "rdf.yaml"

# As for data that is measured everywhere in this package: a hot pixel does not undo the range.
PERCENTILES = (0.1, 99.9)

# A tile's inner part at the smallest size that hosts may choose.
_CORE = 32

# Weights are nearly random digits: zlib's usual 6 takes eight times as long for 6% less.
_COMPRESSION = 1

_SPDX = re.compile(r"[A-Za-z0-9.+-]+")


def write_package(network: SRNetwork, info: ModelInfo, onnx: bytes, opset: int, to: Path) -> None:
    """Write the package.

    Parameters
    ----------
    network : SRNetwork
        On any device.
    info : ModelInfo
        The network's name, purpose, license and source.
    onnx : bytes
        It as an ONNX file, input and output in [0, 1], and the operator set of that.
    opset : int
    to : Path
        Replaced where it exists.
    """
    plain = _plain(network)
    overlap = overlap_for(network)
    side = _smallest_side(network, overlap)
    raw = _test_image(network.in_channels, side, _measured(info))
    result = _run(plain, raw, _measured(info))
    source = inspect.getsource(architecture).encode()
    state = _state_bytes(plain)
    files = {
        "weights.onnx": onnx,
        "weights.pt": state,
        "weights-torchscript.pt": _torchscript_bytes(network, source, state),
        "architecture.py": source,
        "test_input.npy": _npy(raw),
        "test_output.npy": _npy(result),
        "cover.png": _cover(raw, result, network.scale),
        "documentation.md": _documentation(network, info, overlap).encode(),
    }
    rdf = _description(network, info, overlap, side, opset, files)
    _write_zip(to, {RDF: _yaml(rdf), **files})


def _measured(info: ModelInfo) -> bool:
    """Whether black and white are found in the image rather than being 0 and 255."""
    return info.role == "faithful" or info.in_channels == 1


def _plain(network: SRNetwork) -> nn.Module:
    made = getattr(architecture, type(network).__name__)(**dataclasses.asdict(network.config))
    state = {
        name: value.detach().to("cpu", torch.float32) if value.is_floating_point() else value.cpu()
        for name, value in network.state_dict().items()
    }
    # Contiguous, whatever order they are kept in here: what is written says nothing of that.
    made.load_state_dict({name: value.contiguous().clone() for name, value in state.items()})
    return made.eval().requires_grad_(False)


def _smallest_side(network: SRNetwork, overlap: int) -> int:
    """Below this nothing would be left of a tile without its halo; even, for unshuffling."""
    alignment = getattr(network.config, "unshuffle", 1)
    return -(-(2 * overlap + _CORE) // alignment) * alignment


def _test_image(channels: int, side: int, measured: bool) -> np.ndarray:
    """Spots, rings and bars of known shape, float32, N,C,H,W, in whole numbers: 8 bits, or counts
    on a background where the range is found in the data."""
    y, x = np.mgrid[:side, :side] / side
    planes = []
    for k in range(channels):
        spots = np.zeros_like(x)
        for i in range(9):  # a few nuclei's worth of round things, never on a grid
            cy, cx = (0.13 + 0.618 * i + 0.07 * k) % 1, (0.31 + 0.414 * i) % 1
            radius = 0.03 + 0.006 * (i % 5)
            spots += np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2)) ** 2))
        rings = 0.5 + 0.5 * np.cos(60 * ((x - 0.8) ** 2 + (y - 0.25 - 0.1 * k) ** 2) * np.pi)
        bars = (np.sin(2 * np.pi * x * (10 + 14 * y)) > 0) & (y > 0.72)
        planes.append(np.clip(0.65 * spots + 0.2 * rings + 0.3 * bars, 0, 1))
    stack = np.stack(planes)[None]
    return np.rint(stack * 2900 + 400 if measured else stack * 255).astype(np.float32)


def _run(plain: nn.Module, raw: np.ndarray, measured: bool) -> np.ndarray:
    """The result of a host, which takes the steps that the description states."""
    image = raw.astype(np.float64)
    if measured:
        low, high = np.percentile(image, PERCENTILES)
        image = (image - low) / (high - low + 1e-6)
    else:
        image = image / 255
    with torch.inference_mode():
        result = plain(torch.from_numpy(image.astype(np.float32))).numpy()
    return result if measured else np.clip(result * np.float32(255), 0, 255)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _state_bytes(plain: nn.Module) -> bytes:
    """The tensors alone, since the zoo's readers allow nothing else in the file."""
    buffer = io.BytesIO()
    torch.save(dict(plain.state_dict()), buffer)
    return buffer.getvalue()


# Run by a fresh interpreter: TorchScript numbers its types through a process, and the second
# export of one would differ from the first. It also shows that the package's files suffice.
_TRACE = """
import json, sys, warnings
import torch
warnings.simplefilter("ignore")  # tracing is deprecated in torch, and what the hosts' torch runs
import architecture
name, arguments, channels = json.loads(sys.argv[1])
network = getattr(architecture, name)(**arguments).eval().requires_grad_(False)
network.load_state_dict(torch.load("weights.pt", weights_only=True))
image = torch.zeros(1, channels, 20, 24)
torch.jit.save(torch.jit.trace(network, image, check_trace=False), "weights-torchscript.pt")
"""


def _torchscript_bytes(network: SRNetwork, source: bytes, state: bytes) -> bytes:
    """The network as a TorchScript archive, without what tells where this was made.

    Raises
    ------
    ModelError
        The interpreter that traces it fails.
    """
    facts = (type(network).__name__, dataclasses.asdict(network.config), network.in_channels)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "architecture.py").write_bytes(source)
        (folder / "weights.pt").write_bytes(state)
        command = [sys.executable, "-c", _TRACE, json.dumps(facts)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise ModelError(f"TorchScript cannot be written: {reason}")
        with zipfile.ZipFile(folder / "weights-torchscript.pt") as archive:
            kept = {
                entry.filename: archive.read(entry)
                for entry in archive.infolist()
                # Paths of this machine, and a number made of them.
                if not entry.filename.endswith((".debug_pkl", ".data/serialization_id"))
            }
    stripped = io.BytesIO()
    _write_zip(stripped, kept, zipfile.ZIP_STORED)
    return stripped.getvalue()


def _write_zip(
    to: Path | io.BytesIO, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED
) -> None:
    """A zip whose bytes depend on names and contents only."""
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980
            entry.compress_type = compression
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, content, compresslevel=_COMPRESSION)


def _cover(raw: np.ndarray, result: np.ndarray, scale: int) -> bytes:
    """The middle of the test image as pixels, beside its result; twice as wide as high."""
    import cv2

    side = raw.shape[-1]
    span = min(side, 128)
    first = (side - span) // 2

    def panel(image: np.ndarray, factor: int, limits: np.ndarray) -> np.ndarray:
        low, high = limits
        part = image[0, :3, first * factor : (first + span) * factor]
        part = part[..., first * factor : (first + span) * factor]
        part = np.clip((part - low) / max(high - low, 1e-6), 0, 1) * 255
        part = part if part.shape[0] == 3 else part[:1]
        picture = np.rint(part).astype(np.uint8).transpose(1, 2, 0)
        return cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)

    panels = [
        panel(raw, 1, np.percentile(raw, (0.1, 99.9))),
        panel(result, scale, np.percentile(result, (0.1, 99.9))),
    ]
    picture = np.concatenate(panels, axis=1)
    if picture.ndim == 3:
        picture = picture[..., ::-1]
    done, encoded = cv2.imencode(".png", picture)
    assert done
    return encoded.tobytes()


def _tensor(
    name: str, channels: int, sizes: dict[str, Any], scale: float, limits: list[Any]
) -> dict[str, Any]:
    names = ["red", "green", "blue"] if channels == 3 else [f"channel{k}" for k in range(channels)]
    axes: list[dict[str, Any]] = [
        {"type": "batch", "size": 1},
        {"type": "channel", "channel_names": names},
    ]
    axes += [{"type": "space", "id": axis, "scale": scale, **sizes[axis]} for axis in "yx"]
    return {
        "id": name,
        "axes": axes,
        "test_tensor": None,
        "data": {"type": "float32", "range": limits},
    }


def _description(
    network: SRNetwork,
    info: ModelInfo,
    overlap: int,
    side: int,
    opset: int,
    files: dict[str, bytes],
) -> dict[str, Any]:
    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    measured = _measured(info)
    limits: list[Any] = [None, None] if measured else [0.0, 255.0]
    free = {"size": {"min": side, "step": 1}}
    inputs = _tensor("image", network.in_channels, dict.fromkeys("yx", free), 1.0, limits)
    inputs["test_tensor"] = file("test_input.npy")
    inputs["preprocessing"] = [_range_step() if measured else _linear_step(1 / 255)]
    follows = {
        axis: {
            "size": {"tensor_id": "image", "axis_id": axis},
            **({"halo": overlap * network.scale} if overlap else {}),
        }
        for axis in "yx"
    }
    output = _tensor("upscaled", network.out_channels, follows, 1 / network.scale, limits)
    output["test_tensor"] = file("test_output.npy")
    output["postprocessing"] = (
        []
        if measured
        else [_linear_step(255.0), {"id": "clip", "kwargs": {"min": 0.0, "max": 255.0}}]
    )
    version = torch.__version__.split("+")[0]
    license = info.license if _SPDX.fullmatch(info.license) and info.license != "unknown" else None
    rdf = {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": _name(info),
        "description": f"Enlarges images by {network.scale}: {info.purpose}{_alone(info)}"[:512],
        "authors": [{"name": name} for name in credits.authors(info)],
        "packaged_by": [{"name": "The esrgan_ext authors"}],
        "license": license,
        "cite": [
            {
                "text": title,
                "doi": f"10.48550/arXiv.{number}",
                "url": f"https://arxiv.org/abs/{number}",
            }
            for title, number in credits.citations(info)
        ],
        "documentation": file("documentation.md"),
        "covers": [file("cover.png")],
        "tags": [
            "super-resolution",
            "image-restoration",
            "2d",
            "pytorch",
            info.architecture.lower(),
        ],
        "inputs": [inputs],
        "outputs": [output],
        "weights": {
            "pytorch_state_dict": {
                **file("weights.pt"),
                "architecture": {
                    **file("architecture.py"),
                    "callable": type(network).__name__,
                    "kwargs": dataclasses.asdict(network.config),
                },
                "pytorch_version": version,
            },
            "torchscript": {
                **file("weights-torchscript.pt"),
                "pytorch_version": version,
                "parent": "pytorch_state_dict",
            },
            "onnx": {
                **file("weights.onnx"),
                "opset_version": opset,
                "parent": "pytorch_state_dict",
            },
        },
        # Between runtimes that add in another order, in the result's own units.
        "config": {
            "bioimageio": {
                "reproducibility_tolerance": [
                    {"relative_tolerance": 1e-3, "absolute_tolerance": 2e-4 if measured else 0.05}
                ]
            },
            "esrgan_ext": {
                "overlap": overlap,
                "purpose": info.purpose,
                "license": info.license,
                "source": info.source,
            },
        },
    }
    if license is None:
        del rdf["license"]
    return rdf


def _name(info: ModelInfo) -> str:
    """Letters, digits and a few signs are all that the zoo allows."""
    return re.sub(r"[^A-Za-z0-9_+\- ()]", "-", info.name)[:64].ljust(5, "-")


def _range_step() -> dict[str, Any]:
    low, high = PERCENTILES
    kwargs = {"axes": ["channel", "y", "x"], "min_percentile": low, "max_percentile": high}
    return {"id": "scale_range", "kwargs": kwargs}


def _linear_step(gain: float) -> dict[str, Any]:
    return {"id": "scale_linear", "kwargs": {"gain": gain, "offset": 0.0}}


def _alone(info: ModelInfo) -> str:
    """A note on what a package lacks of a model that is mixed with another by the image's noise."""
    return "" if info.denoise is None else " (in this package: one network, one strength)"


def _documentation(network: SRNetwork, info: ModelInfo, overlap: int) -> str:
    kind = "one channel" if network.in_channels == 1 else f"{network.in_channels} channels"
    if _measured(info):
        values = (
            "The image's own values, of any type as float32: the 0.1 and 99.9 percentiles of a "
            "sample become 0 and 1. The result is on that scale: multiply it by their distance and "
            "add the lower one to come back to the image's units. What lies beyond is not clipped."
        )
    else:
        values = "8-bit values as float32, 0 to 255, RGB. So is the result."
    if info.role == "faithful":
        trust = (
            "Trained for the smallest error: it invents nothing, and what the image does not hold "
            "stays smooth."
        )
    elif info.role is None:
        trust = "Nothing is known of how this model was trained: compare before you measure on it."
    else:
        trust = "A GAN: it draws detail that was not in the image. Do not measure on its results."
    return f"""# {info.name}

{info.purpose}{_alone(info)}. {info.architecture}, {network.scale} times as many pixels along each
axis, {kind}.
Written by esrgan_ext; weights from {info.source}, license:
{info.license}.

## Input and output

{values}

A tile needs {overlap} pixels of context on each side; the halo of the output axes says so to
programs that run tiles.

## What to trust

{trust}

## Validation

Take sharp images of your own kind, reduce them by {network.scale} (with antialiasing), enlarge them
with this model and with bicubic interpolation, and compare both with the originals by PSNR and
SSIM; `esrgan evaluate` does so for a folder of them. A model that does not beat bicubic on your
images is none for them.
"""


def _yaml(content: dict[str, Any]) -> bytes:
    import yaml

    class Plain(yaml.SafeDumper):
        """Without anchors, which not every host's reader follows."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(content, Dumper=Plain, sort_keys=False, allow_unicode=True, width=100)
    return text.encode()
