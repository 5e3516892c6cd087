"""`load_model`: from a name or a path to a network that is ready to run."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from esrgan_ext.errors import ModelError, OptionError
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights.download import Progress
from esrgan_ext.weights.files import read_weights_file
from esrgan_ext.weights.info import ModelInfo, default_overlap
from esrgan_ext.weights.layouts import canonical
from esrgan_ext.weights.search import describe, locate, obtain


def load_model(
    model: str | os.PathLike[str] | nn.Module, *, progress: Progress | None = None
) -> SRNetwork:
    """Load a network.

    Parameters
    ----------
    model : str, path or nn.Module
        A name of `list_models`, the stem of a file in ``./models`` or ``ESRGAN_MODEL_DIR``, or
        a path to a `.pth`, `.safetensors`, ncnn `.param`/`.bin`, or to a package of the
        BioImage.IO zoo (a `.zip`, or a folder with `rdf.yaml`). A network is returned unchanged.
    progress : callable, optional
        ``progress(done, total)`` in bytes, while weights are downloaded.

    Returns
    -------
    SRNetwork
        In eval mode: float32 on the CPU, channels-last, without
        gradients. Its attribute ``info`` is the `ModelInfo`.

    Raises
    ------
    ModelError
        The name is unknown, or the file is damaged or not an ESRGAN network.
    DownloadError
        The weights could not be downloaded.
    OptionError
        `model` is of another type.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> network = esr.load_model("lite-psnr-x4")
    >>> network.scale, network.info.license
    (4, 'Apache-2.0')
    """
    if isinstance(model, SRNetwork):
        return model
    if isinstance(model, nn.Module):
        raise OptionError(
            "the model must be a catalogue name, a file or one of esrgan_ext.models' networks, "
            f"not {type(model).__name__}"
        )
    if not isinstance(model, str | os.PathLike):
        raise OptionError(f"model must be a name, a path or a module, got {type(model).__name__}")
    found = locate(model)
    path = obtain(found, progress)
    info = describe(replace(found, path=path))
    file = read_weights_file(path)
    state = canonical(file.tensors, path.name, file.metadata.get("config"), file.scale)
    state = replace(
        state, tensors={key: _ready(key, value, path) for key, value in state.tensors.items()}
    )
    network = state.build().requires_grad_(False)
    network.info = info
    return network


def _ready(name: str, tensor: Tensor, path: os.PathLike[str]) -> Tensor:
    """A copy in the dtype and memory format in which networks run fastest.

    In NumPy: for torch each of the hundreds of small tensors is a parallel region, and on a
    busy machine waiting for its threads took 20 seconds.
    """
    if not tensor.is_floating_point():
        return tensor.clone()
    numbers = tensor.to(torch.float32).numpy()
    if not np.isfinite(numbers).all():
        raise ModelError(f"{path}: {name} holds NaN or infinity; the file is damaged")
    if numbers.ndim != 4:
        return torch.from_numpy(numbers.copy())
    channels_last = np.array(numbers.transpose(0, 2, 3, 1), order="C", copy=True)
    return torch.from_numpy(channels_last).permute(0, 3, 1, 2)


def info_of(network: nn.Module) -> ModelInfo:
    """The `ModelInfo` of a network; one is made up for a module that did not come from here.

    Raises
    ------
    OptionError
        The module is not a super-resolution network.

    Examples
    --------
    >>> from esrgan_ext.models import RRDBNet, RRDBNetConfig
    >>> from esrgan_ext.weights import info_of
    >>> info_of(RRDBNet(RRDBNetConfig(nf=32, nb=1, gc=16))).scale
    4
    """
    if isinstance(info := getattr(network, "info", None), ModelInfo):
        return info
    if not isinstance(network, SRNetwork):
        raise OptionError(
            f"a {type(network).__name__} is not a super-resolution network: it lacks "
            "scale, in_channels or out_channels"
        )
    return ModelInfo(
        name="custom",
        scale=network.scale,
        blocks=getattr(network.config, "nb", 0),
        in_channels=network.in_channels,
        out_channels=network.out_channels,
        purpose="made in memory",
        license="unknown",
        source="memory",
        sha256=None,
        size_bytes=None,
        overlap=default_overlap(network.config),
        path=None,
        architecture=type(network).__name__,
    )
