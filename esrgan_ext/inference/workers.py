"""One upscaler a device, for jobs that several devices share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from esrgan_ext.inference.batch import FileUpscaler, Upscale, Upscaled
from esrgan_ext.inference.devices import Devices, names_of
from esrgan_ext.inference.files import ImageFile
from esrgan_ext.inference.progress import Progress
from esrgan_ext.inference.upscaler import Model, Upscaler
from esrgan_ext.weights.choice import is_auto
from esrgan_ext.weights.denoise import load_denoising


def upscalers_on(devices: Devices, model: Model, **options: Any) -> list[Upscaler]:
    """Upscalers that may work at the same time, alike but for their devices.

    Parameters
    ----------
    devices
        Two workers may have one device; they share its memory then.
    model, **options
        See `Upscaler`; `device` apart.

    Raises
    ------
    OptionError, ModelError, DeviceError
        See `Upscaler`.
    """
    names = names_of(devices)
    network = model
    if len(names) > 1 and not is_auto(model):
        network = load_denoising(model, options.get("denoise", "auto"))
        if not isinstance(options.get("denoise", "auto"), str):
            options["denoise"] = None  # in the network already
    made = []
    for number, name in enumerate(names):
        # Networks keep packed weights and buffers, which two threads must not share.
        own = copy.deepcopy(network) if number and isinstance(network, torch.nn.Module) else network
        made.append(Upscaler(own, **{**options, "device": name}))
    for upscaler in made:
        users = sum(other.device.device == upscaler.device.device for other in made)
        if users > 1:
            upscaler.device = replace(upscaler.device, share=1 / users)
    return made


def file_upscalers(upscalers: Sequence[Upscaler]) -> list[Upscale]:
    """What does the jobs of a folder, one a worker."""
    on_cpu = sum(upscaler.device.is_cpu for upscaler in upscalers)
    made: list[Upscale] = [FileUpscaler(upscaler) for upscaler in upscalers]
    if on_cpu < 2:
        return made
    threads = max(1, torch.get_num_threads() // on_cpu)
    return [
        _WithThreads(upscale, threads) if upscaler.device.is_cpu else upscale
        for upscale, upscaler in zip(made, upscalers, strict=True)
    ]


class _WithThreads:
    """Upscales with a number of torch's threads: those of a CPU are shared by its workers."""

    def __init__(self, upscale: Upscale, threads: int) -> None:
        self._upscale, self._threads = upscale, threads

    def __call__(self, image: ImageFile, progress: Progress) -> Upscaled:
        usual = torch.get_num_threads()
        torch.set_num_threads(self._threads)  # of this thread
        try:
            return self._upscale(image, progress)
        finally:
            torch.set_num_threads(usual)
