"""The networks that stay in a process: each loaded once, and one inference at a time on a device.

For whoever asks for the same network again: tasks of a store, dask's chunks, a viewer's widgets.
Tasks carry a `Settings` of a few hundred bytes; the process that runs them finds the network by
it, loads it on first use and keeps it. A forked child starts empty, as a spawned one does.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from esrgan_ext.errors import DeviceError, ModelError, OptionError, UpscaleCancelled
from esrgan_ext.forks import in_forked_child
from esrgan_ext.inference import devices
from esrgan_ext.inference.claims import claim_gpu
from esrgan_ext.inference.options import UpscaleOptions
from esrgan_ext.inference.upscaler import Model, Upscaler
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights import load_denoising, load_model, save_model
from esrgan_ext.weights.search import locate

# A long-lived worker may serve several models, and interpolating takes two; the weights of the
# largest take 67 MB, 0.3 GB packed.
_KEPT = 2


@dataclass(frozen=True)
class ModelReference:
    """How a process finds a network, and knows that it is the right one.

    Attributes
    ----------
    location : str
        A catalogue name, or the absolute path of a file.
    digest : str
        SHA-256 of the architecture and the weights, whatever file they are in.
    """

    location: str
    digest: str


@dataclass(frozen=True)
class Settings:
    """What determines how a window is computed.

    Attributes
    ----------
    model : ModelReference
    options : UpscaleOptions
        The overlap resolved, the device by its name; what is settled before windows are computed
        (tile, range, axes, denoising) left at its default.
    """

    model: ModelReference
    options: UpscaleOptions

    @classmethod
    def of(cls, reference: ModelReference, options: UpscaleOptions, overlap: int) -> Settings:
        """What windows need of a caller's options."""
        return cls(
            reference,
            replace(
                options,
                overlap=overlap,
                device=str(options.device),
                tile="auto",
                data_range=None,
                channel_axis=None,
                denoise=None,
            ),
        )

    def with_precision(self, precision: str) -> Settings:
        """With the precision that the workers' device takes."""
        return replace(self, options=replace(self.options, precision=precision))


# How often somebody who waits for a device is asked whether it still wants it.
_ASKING_SECONDS = 0.1

_guard = threading.Lock()  # of the tables below
_loading = threading.Lock()  # a download takes minutes: the tables stay open meanwhile
_upscalers: OrderedDict[Settings, Upscaler] = OrderedDict()
# By their digest where a task names them by it, else by file and the time of its change.
_networks: OrderedDict[str, SRNetwork] = OrderedDict()
_places: dict[str, str] = {}  # digest -> a file that was brought here
_locks: dict[str, threading.Lock] = {}
_loads = 0


def digest_of(network: nn.Module) -> str:
    """SHA-256 over a network's kind, shape and weights (as float32)."""
    total = hashlib.sha256(type(network).__name__.encode())
    total.update(repr(getattr(network, "config", "")).encode())
    for name, tensor in sorted(network.state_dict().items()):
        numbers = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        total.update(f"{name}{numbers.shape}".encode())
        total.update(numbers.tobytes())
    return total.hexdigest()


def refer(model: Model, denoise: float | str | None = None) -> tuple[ModelReference, SRNetwork]:
    """Load a model in this process, and say how others find it.

    A network that was made in memory is written to a temporary file, which goes with this
    process.

    Raises
    ------
    ModelError, DownloadError, OptionError
        See `esrgan_ext.load_model`.
    """
    network = load_denoising(model, denoise)
    digest = digest_of(network)
    if isinstance(model, nn.Module) or not (denoise is None or isinstance(denoise, str)):
        location = str(_spooled(network, digest))
    else:
        location = os.fspath(model)
        # A name stays a name: on another machine the file is somewhere else.
        if Path(location).exists():
            location = str(Path(location).resolve())
    with _guard:
        _keep(_networks, digest, network)
    return ModelReference(location, digest), network


def upscaler(settings: Settings) -> Upscaler:
    """The upscaler of these settings, made on first use; safe to call from any thread.

    Raises
    ------
    ModelError
        The model is not found in this process, or is another one under the same name.
    DeviceError
        The device is not here, or CUDA was in use before this process was forked.
    """
    with _guard:
        found = _upscalers.get(settings)
        if found is None:
            options = settings.options
            if options.device != "cpu" and torch.cuda._is_in_bad_fork():
                raise DeviceError(
                    "CUDA was in use before this process was forked: start workers by spawn "
                    "(dask's default), or give device='cpu'"
                )
            values: Any = {**vars(options), "device": _device(str(options.device))}
            found = Upscaler(_network(settings.model), **values)
        _keep(_upscalers, settings, found)
        return found


def load(
    model: str | os.PathLike[str] | nn.Module, progress: Callable[[int, int], Any] | None = None
) -> SRNetwork:
    """A network by name or path, kept for the next time; a network is returned as it is.

    Parameters
    ----------
    model : str, path or SRNetwork
    progress : callable, optional
        See `esrgan_ext.load_model`.

    Raises
    ------
    ModelError, DownloadError
        See `esrgan_ext.load_model`.
    """
    if isinstance(model, nn.Module):
        return cast(SRNetwork, model)
    path = locate(model).path
    changed = path.stat().st_mtime_ns if path is not None and path.exists() else 0
    key = f"{model}|{changed}"
    with _loading:
        network = _networks.get(key)
        if network is None:
            network = load_model(model, progress=progress)
        with _guard:
            _keep(_networks, key, network)
    return network


@contextmanager
def inference(
    device: torch.device, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold a device for one inference: two would share its cores or its memory, which is planned
    for one at a time. Do not read images meanwhile: they may be another inference's result.

    Parameters
    ----------
    device : torch.device
    cancelled : callable
        Asked while another inference has the device.

    Raises
    ------
    UpscaleCancelled
        `cancelled` said so.
    """
    with _guard:
        lock = _locks.setdefault(str(device), threading.Lock())
    while not lock.acquire(timeout=_ASKING_SECONDS):
        if cancelled():
            raise UpscaleCancelled("upscaling was cancelled")
    try:
        yield
    finally:
        lock.release()


def bring(digest: str, path: str) -> None:
    """Say that the weights with this digest are in a file here, whatever the reference says."""
    with _guard:
        _places[digest] = path


def loads() -> int:
    """How often this process has read a model from a file."""
    return _loads


def _network(model: ModelReference) -> SRNetwork:
    global _loads
    network = _networks.get(model.digest)
    if network is None:
        place = _places.get(model.digest, model.location)
        loaded = load_model(place)
        _loads += 1
        if digest_of(loaded) != model.digest:
            raise ModelError(
                f"{place}: the weights here are not those of the same name where the run was "
                "started: bring both machines to the same version"
            )
        network = loaded
    _keep(_networks, model.digest, network)
    return network


def _device(wanted: str) -> str:
    """'auto' takes a GPU that no other process of ours has taken."""
    names = devices.names_of(wanted)
    if len(names) > 1:
        raise OptionError(
            "a store, and an array that is computed when it is looked at, has one device in each "
            "process: give one, or let several processes work (the command line's "
            "--scheduler processes), which take a GPU each"
        )
    wanted = str(names[0])
    if wanted != "auto" or devices.available_devices()[0].type != "cuda":
        return wanted
    return f"cuda:{claim_gpu()}"


def _keep(kept: OrderedDict, key: object, value: object) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)


_spool: tuple[int, Path] | None = None


def _spooled(network: SRNetwork, digest: str) -> Path:
    global _spool
    with _guard:
        if _spool is None or _spool[0] != os.getpid():
            folder = Path(tempfile.mkdtemp(prefix="esrgan-models-"))
            _spool = (os.getpid(), folder)
            atexit.register(_remove_spool, os.getpid(), folder)
        path = _spool[1] / f"{digest}.safetensors"
        if not path.exists():
            save_model(network, path)
    return path


def _remove_spool(pid: int, folder: Path) -> None:
    if pid == os.getpid():  # not in a forked child, which has inherited the exit handler
        with suppress(OSError):
            shutil.rmtree(folder)


def _start_anew() -> None:
    """In a forked child: another thread may have held a lock, and it starts without networks."""
    global _guard, _loading, _loads
    _guard, _loading = threading.Lock(), threading.Lock()
    _upscalers.clear()
    _networks.clear()
    _locks.clear()
    _loads = 0


in_forked_child(_start_anew)
