"""Writes networks: `.pth`, `.safetensors`, `.onnx` and the zoo's `.zip`, always to a temporary
name first.

ONNX is made from `plain_forward`, the definition in torch operations, whatever kernels run the
network here; batch, height and width stay free.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from esrgan_ext.errors import ModelError, OptionError, first_line
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights.files import METADATA_KEY
from esrgan_ext.weights.layouts import build_network
from esrgan_ext.weights.loading import info_of

STATE_SUFFIXES = (".pth", ".safetensors")
EXPORT_SUFFIXES = (*STATE_SUFFIXES, ".onnx", ".zip")

# The newest operator set whose Resize and Pad every ONNX Runtime since 1.17 runs.
OPSET = 20


def save_model(network: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Write a network's weights with canonical names.

    Parameters
    ----------
    network : nn.Module
        A network of `esrgan_ext.models`.
    path : path
        `.pth` (``{"params": tensors}``, as Real-ESRGAN's and its tools read it) or
        `.safetensors`. Replaced where it exists.

    Returns
    -------
    Path
        The file. Configuration, license and overlap are written beside the tensors.

    Raises
    ------
    OptionError
        Another suffix, or a module that is not a network of ours.
    ModelError
        The file cannot be written.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> network = esr.interpolate("lite-psnr-x4", "lite-esrgan-x4", alpha=0.5)
    >>> esr.save_model(network, "mix.safetensors").name
    'mix.safetensors'
    >>> esr.load_model("mix.safetensors").info.overlap == network.info.overlap
    True
    """
    target = _checked_target(network, path, STATE_SUFFIXES)
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }
    facts = _facts(network)
    if target.suffix.lower() == ".pth":
        content = {"params": tensors, METADATA_KEY: facts}
        _write(target, lambda temporary: torch.save(content, temporary))
    else:
        metadata = {"format": "pt", METADATA_KEY: json.dumps(facts)}
        _write(target, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    return target


def export_model(network: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Write a network in a format chosen by suffix.

    Parameters
    ----------
    network : nn.Module
        A network of `esrgan_ext.models`.
    path : path
        `.pth` or `.safetensors` as `save_model`, or `.onnx`: one float32 input ``image``
        (batch, in_channels, height, width) and one output ``upscaled``. `.zip` is a package of
        the BioImage.IO model zoo (spec 0.5), the same bytes each time.

    Returns
    -------
    Path

    Raises
    ------
    OptionError
        Another suffix, or a module that is not a network of ours.
    ModelError
        The file cannot be written, or the packages for ONNX are not installed.

    Examples
    --------
    >>> from esrgan_ext.weights import export_model, load_model
    >>> export_model(load_model("lite-micro-x4"), "lite-micro.pth").name
    'lite-micro.pth'
    """
    target = _checked_target(network, path, EXPORT_SUFFIXES)
    if target.suffix.lower() in STATE_SUFFIXES:
        return save_model(network, target)
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"{target}: writing ONNX needs {' and '.join(missing)}: pip install 'esrgan-ext[onnx]'"
        )
    if target.suffix.lower() == ".zip":
        _write(target, lambda temporary: _write_zoo_package(network, temporary))
    else:
        _write(target, lambda temporary: _write_onnx(network, temporary))
    return target


def _write_zoo_package(network: nn.Module, path: Path) -> None:
    from esrgan_ext.weights.zoo.writing import write_package

    assert isinstance(network, SRNetwork)
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "weights.onnx"
        _write_onnx(network, onnx)
        write_package(network, info_of(network), onnx.read_bytes(), OPSET, path)


def _checked_target(
    network: nn.Module, path: str | os.PathLike[str], suffixes: tuple[str, ...]
) -> Path:
    if not isinstance(network, SRNetwork):
        raise OptionError(
            f"only networks of esrgan_ext.models can be written, got a {type(network).__name__}"
        )
    target = Path(path).expanduser()
    if target.suffix.lower() not in suffixes:
        raise OptionError(f"{target}: the suffix must be one of {', '.join(suffixes)}")
    return target


def _facts(network: nn.Module) -> dict[str, Any]:
    info = info_of(network)
    config = network.config
    return {
        "architecture": type(network).__name__,
        "config": dataclasses.asdict(config),  # type: ignore[call-overload]
        "name": info.name,
        "purpose": info.purpose,
        "license": info.license,
        "source": info.source,
        "overlap": info.overlap,
    }


def _write(target: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file in the same folder and rename it."""
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
        )
        os.close(descriptor)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are for their owner only
        temporary.replace(target)
    except (OSError, RuntimeError) as error:  # torch and safetensors wrap OSError in their own
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(f"{target}: cannot be written: {reason}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unshuffle(network: SRNetwork) -> int:
    return getattr(network.config, "unshuffle", 1)


class _Plain(nn.Module):
    """The reference computation alone, in operations that ONNX has with free sizes."""

    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self.network = network
        self.unshuffle = _unshuffle(network)

    def forward(self, image: Tensor) -> Tensor:
        if self.unshuffle == 1:
            return self.network.plain_forward(image)
        height, width = image.shape[-2:]
        padded = _mirrored(_mirrored(image, self.unshuffle, 2), self.unshuffle, 3)
        scale = self.network.scale
        return self.network.plain_forward(padded)[..., : height * scale, : width * scale]


def _mirrored(image: Tensor, multiple: int, axis: int) -> Tensor:
    """`models.network.pad_to_multiple` along one axis, without branches on the size."""
    size = image.shape[axis]
    below = (multiple - size % multiple) % multiple
    index = torch.arange(size + below, device=image.device)
    last = torch.ones_like(index[:1]) * size - 1
    mirrored = 2 * last - index
    mirrored = torch.where(last - below >= 0, mirrored, last)  # too short: repeat the last
    return image.index_select(axis, torch.where(index > last, mirrored, index))


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back the exporter's notes, which are about its own internals and torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _write_onnx(network: nn.Module, path: Path) -> None:
    assert isinstance(network, SRNetwork)
    plain = build_network(network.config)  # type: ignore[arg-type]
    state = {
        name: value.detach().to("cpu", torch.float32) if value.is_floating_point() else value.cpu()
        for name, value in network.state_dict().items()
    }
    plain.load_state_dict(state, assign=True)
    module = _Plain(plain.eval()).requires_grad_(False)
    side = 4 * _unshuffle(network) + 1
    image = torch.zeros(2, network.in_channels, side, side + 1)
    auto = torch.export.Dim.DYNAMIC
    with _quiet_exporter():
        torch.onnx.export(
            module,
            (image,),
            path,
            input_names=["image"],
            output_names=["upscaled"],
            dynamic_shapes={"image": {0: auto, 2: auto, 3: auto}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,  # one file, however large
            verbose=False,
        )
    _strip_origin(path)


def _strip_origin(path: Path) -> None:
    """Take out what the exporter notes of this machine: stack traces with the paths of sources."""
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    path.write_bytes(model.SerializeToString(deterministic=True))
