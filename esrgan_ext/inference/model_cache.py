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
from typing import Any

import torch
from torch import nn

from esrgan_ext.errors import DeviceError, ModelError, OptionError, UpscaleCancelled
from esrgan_ext.forks import in_forked_child
from esrgan_ext.inference import devices
from esrgan_ext.inference.claims import claim_gpu
from esrgan_ext.inference.options import UpscaleOptions
from esrgan_ext.inference.upscaler import Model, Upscaler
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights import info_of, load_denoising, load_model, save_model
from esrgan_ext.weights.search import locate
from esrgan_ext.weights.zoo.reading import DESCRIPTIONS

# A long-lived worker may serve several models, and interpolating takes two; the weights of the
# largest take 67 MB, 0.3 GB packed.
_KEPT = 2

# Small ones stay too, up to so many and so many bytes of weights together: the channels of an image
# may each have a network of their own, mixed from two of 1 MB.
_KEPT_SMALL = 16
_SMALL_BYTES = 32_000_000


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
    """Settings that determine how a window is computed.

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
        """The settings in a caller's options."""
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


@dataclass
class _Kept:
    """A network and what it is asked for by."""

    network: SRNetwork
    file: tuple[object, ...] | None = None  # see `_state_of`
    digest: str | None = None


_guard = threading.Lock()  # of the tables below
_loading = threading.Lock()  # a download takes minutes: the tables stay open meanwhile
_networks: list[_Kept] = []  # the last used at the end
_upscalers: OrderedDict[Settings, Upscaler] = OrderedDict()
_places: dict[str, str] = {}  # digest -> a file that was brought here
_locks: dict[str, threading.Lock] = {}


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
    stands = denoise is None or isinstance(denoise, str)
    network = load(model) if stands else load_denoising(model, denoise)
    digest = digest_of(network)
    if isinstance(model, nn.Module) or not stands:
        location = str(_spooled(network, digest))
    else:
        location = os.fspath(model)
        # A name stays a name: on another machine the file is somewhere else.
        if Path(location).exists():
            location = str(Path(location).resolve())
    _keep(network, digest=digest)
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
    if (found := _made(settings)) is not None:
        return found
    with _loading:
        if (found := _made(settings)) is not None:  # by another thread meanwhile
            return found
        options = settings.options
        if options.device != "cpu" and torch.cuda._is_in_bad_fork():
            raise DeviceError(
                "CUDA was in use before this process was forked: start workers by spawn "
                "(dask's default), or give device='cpu'"
            )
        values: Any = {**vars(options), "device": _device(str(options.device))}
        made = Upscaler(_network(settings.model), **values)
        with _guard:
            _upscalers[settings] = made
            for _ in range(_too_many([each.network for each in _upscalers.values()])):
                _upscalers.popitem(last=False)
        return made


def _made(settings: Settings) -> Upscaler | None:
    with _guard:
        if settings in _upscalers:
            _upscalers.move_to_end(settings)
        return _upscalers.get(settings)


def load(
    model: str | os.PathLike[str] | nn.Module, progress: Callable[[int, int], Any] | None = None
) -> SRNetwork:
    """A network by name or path, kept for the next time; a network is returned as it is.

    It is shared: nobody may write to it.

    Parameters
    ----------
    model : str, path or SRNetwork
    progress : callable, optional
        See `esrgan_ext.load_model`.

    Raises
    ------
    ModelError, DownloadError, OptionError
        See `esrgan_ext.load_model`.
    """
    if isinstance(model, nn.Module) or not isinstance(model, str | os.PathLike):
        return load_model(model)
    with _loading:
        network = _find(file=_state_of(locate(model).path))
        if network is None:
            network = load_model(model, progress=progress)
        _keep(network, file=_state_of(info_of(network).path))
    return network


def _state_of(path: Path | None) -> tuple[object, ...] | None:
    """A stamp that differs once a model's file has changed, or one that belongs to it: the numbers
    beside an ncnn graph, the weights beside a description."""
    if path is None:
        return None
    path = path.resolve()
    whole_folder = path.name in DESCRIPTIONS
    files = [file for file in path.parent.iterdir() if whole_folder or file.stem == path.stem]
    states = [(file, file.stat()) for file in sorted(files)]
    return (path, *((file.name, s.st_ino, s.st_size, s.st_mtime_ns) for file, s in states))


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


def _network(model: ModelReference) -> SRNetwork:
    network = _find(digest=model.digest)
    if network is None:
        place = _places.get(model.digest, model.location)
        network = load_model(place)
        if digest_of(network) != model.digest:
            raise ModelError(
                f"{place}: the weights here are not those of the same name where the run was "
                "started: bring both machines to the same version"
            )
    _keep(network, digest=model.digest)
    return network


def _find(*, file: tuple[object, ...] | None = None, digest: str | None = None) -> SRNetwork | None:
    """The network of this file, or with these weights, if it is kept."""
    with _guard:
        for kept in _networks:
            if (file is not None and kept.file == file) or (digest and kept.digest == digest):
                return kept.network
    return None


def _keep(
    network: SRNetwork, *, file: tuple[object, ...] | None = None, digest: str | None = None
) -> None:
    """Keep a network as the last used, with what more is known of it."""
    with _guard:
        kept = next((kept for kept in _networks if kept.network is network), _Kept(network))
        kept.file, kept.digest = file or kept.file, digest or kept.digest
        _networks[:] = [*(other for other in _networks if other is not kept), kept]
        del _networks[: _too_many([each.network for each in _networks])]


def _too_many(networks: list[SRNetwork]) -> int:
    """How many of the first ones are not kept."""
    sizes = [sum(p.numel() * p.element_size() for p in each.parameters()) for each in networks]
    first = 0
    while len(sizes) - first > _KEPT and (
        len(sizes) - first > _KEPT_SMALL or sum(sizes[first:]) > _SMALL_BYTES
    ):
        first += 1
    return first


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
    global _guard, _loading
    _guard, _loading = threading.Lock(), threading.Lock()
    _upscalers.clear()
    _networks.clear()
    _locks.clear()


in_forked_child(_start_anew)
