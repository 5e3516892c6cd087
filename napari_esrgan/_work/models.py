"""Models, devices, and how fast they are: shared by all widgets of the process.

Everything here may block and imports torch when first called: worker threads only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_esrgan._work.garbage import no_collections

if TYPE_CHECKING:
    from esrgan_ext import Upscaler
    from esrgan_ext.inference.devices import Device
    from esrgan_ext.models import SRNetwork
    from esrgan_ext.weights import ModelInfo

# What an interpolation begins with, PSNR-oriented first: the first pair that is on this machine.
# The last one always is.
FIRST_PAIRS = (("lite-psnr-x4", "lite-esrgan-x4"), ("realsr-df2k", "realesrgan-x4plus"))

_speeds: dict[tuple[str, str], float] = {}


@dataclass(frozen=True)
class DeviceChoice:
    """A device as the form shows it: what `Upscaler` takes, and a name for people."""

    key: str
    label: str


@dataclass(frozen=True)
class Inventory:
    """Models and devices of this machine."""

    models: tuple[ModelInfo, ...]
    devices: tuple[DeviceChoice, ...]


def take_inventory(*_: Any) -> Inventory:
    """List the models and devices; imports torch, which takes seconds the first time."""
    with no_collections():
        from esrgan_ext.inference import upscaler  # noqa: F401  # for later, while at it
        from esrgan_ext.inference.devices import available_devices, device_name
        from esrgan_ext.weights import list_models

    devices = available_devices()
    choices = [DeviceChoice("auto", f"Automatic ({device_name(devices[0])})")]
    choices += [DeviceChoice(str(device), device_name(device)) for device in devices]
    return Inventory(tuple(list_models()), tuple(choices))


def first_pair(models: Iterable[ModelInfo]) -> tuple[str, str]:
    """The two models that an interpolation begins with."""
    here = {info.name for info in models if info.path is not None}
    return next((pair for pair in FIRST_PAIRS if here.issuperset(pair)), FIRST_PAIRS[-1])


def stand_in(info: ModelInfo) -> SRNetwork:
    """A network that costs what a model not yet downloaded will cost."""
    from esrgan_ext.models import CompactConfig, RRDBNet, RRDBNetConfig, SRVGGNetCompact

    if info.architecture == "SRVGGNetCompact":
        compact = CompactConfig(info.in_channels, num_conv=info.blocks, upsampling=info.scale)
        small = SRVGGNetCompact(compact).eval().requires_grad_(False)
        small.info = info  # type: ignore[assignment]
        return small
    unshuffle = max(1, 4 // info.scale)
    config = RRDBNetConfig(
        in_channels=info.in_channels,
        out_channels=info.out_channels,
        nb=info.blocks,
        scale=info.scale,
        unshuffle=unshuffle,
    )
    network = RRDBNet(config).eval().requires_grad_(False)
    network.info = info  # type: ignore[assignment]
    return network


def speed(device: Device) -> float:
    """Multiply-accumulates a second: of the last real run there, else measured now."""
    from esrgan_ext.inference.model_cache import inference
    from esrgan_ext.inference.plan import measure_speed

    key = (str(device.device), device.precision)
    if key not in _speeds:
        with inference(device.device):
            _speeds[key] = measure_speed(device)
    return _speeds[key]


def learn_speed(upscaler: Upscaler, macs: float, seconds: float) -> None:
    """Remember what a real run did; too short a run says little."""
    if seconds > 0.2:
        key = (str(upscaler.device.device), upscaler.device.precision)
        _speeds[key] = macs / seconds
