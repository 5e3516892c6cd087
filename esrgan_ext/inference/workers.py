"""One upscaler a device, for jobs that several devices share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.batch import FileUpscaler, Upscale
from esrgan_ext.inference.devices import Devices, names_of
from esrgan_ext.inference.folder import FileJob
from esrgan_ext.inference.headers import read_header
from esrgan_ext.inference.upscaler import Model, Upscaler
from esrgan_ext.weights.choice import AUTO, is_auto
from esrgan_ext.weights.denoise import load_denoising

# Two images of this size go through the largest network in 4 GB.
_SMALL_PIXELS = 2_000_000

Call = TypeVar("Call", bound=Callable[..., Any])


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
    first = Upscaler(network, **{**options, "device": names[0]})
    return alike_on(names, first)


def alike_on(names: Sequence[str | torch.device], first: Upscaler) -> list[Upscaler]:
    """An upscaler and others like it, one a name of a device; `first` is on the first of them."""
    model: Model = AUTO if first.model is None else first.network
    options = dict(vars(first.options))
    made = [first]
    for name in names[1:]:
        # Networks keep packed weights and buffers, which two threads must not share.
        own = copy.deepcopy(model)
        made.append(Upscaler(own, **{**options, "device": name}))
    for upscaler in made:
        users = sum(other.device.device == upscaler.device.device for other in made)
        if users > 1:
            upscaler.share_memory(1 / users)
    return made


def for_jobs(upscalers: list[Upscaler], jobs: Sequence[FileJob]) -> list[Upscaler]:
    """The upscalers; one of all devices where there is a single job, which may be a stack; and two
    in place of one on a CPU where several small images are to be done.

    Each of those works with half of the threads then. Threads that share one image wait for each
    other hundreds of times a second, the longer the busier the machine is.
    """
    first = upscalers[0]
    if len(upscalers) > 1 and len(jobs) == 1:
        return [_together(upscalers)]
    if len(upscalers) > 1 or len(jobs) < 2 or not first.device.is_cpu:
        return upscalers
    if torch.get_num_threads() < 2 or not all(_is_small(job.source) for job in jobs):
        return upscalers
    return alike_on([first.device.device] * 2, first)


def _together(upscalers: Sequence[Upscaler]) -> Upscaler:
    """One upscaler on the devices of several."""
    first = upscalers[0]
    options = {**vars(first.options), "device": [one.device.device for one in upscalers]}
    return Upscaler(AUTO if first.model is None else first.network, **options)


def _is_small(path: Path) -> bool:
    try:
        header = read_header(path)
    except ImageFileError:
        return True  # reading it will fail and say why
    return not header.stack and header.width * header.height <= _SMALL_PIXELS


def file_upscalers(upscalers: Sequence[Upscaler]) -> list[Upscale]:
    """Workers that do the jobs of a folder, one job each."""
    return sharing_threads([FileUpscaler(upscaler) for upscaler in upscalers], upscalers)


def sharing_threads(calls: Sequence[Call], upscalers: Sequence[Upscaler]) -> list[Call]:
    """The calls, one an upscaler, with torch's threads shared by those that work on the CPU."""
    on_cpu = sum(upscaler.device.is_cpu for upscaler in upscalers)
    threads = max(1, torch.get_num_threads() // max(on_cpu, 1))
    return [
        cast(Call, _with_threads(call, threads)) if on_cpu > 1 and upscaler.device.is_cpu else call
        for call, upscaler in zip(calls, upscalers, strict=True)
    ]


def _with_threads(call: Callable[..., Any], threads: int) -> Callable[..., Any]:
    def limited(*arguments: Any) -> Any:
        usual = torch.get_num_threads()
        torch.set_num_threads(threads)  # of this thread
        try:
            return call(*arguments)
        finally:
            torch.set_num_threads(usual)

    return limited
