"""Devices that can run a network: their precisions, and how much of their memory is free.

The one place that knows devices; the rest passes `Device` along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from esrgan_ext.errors import DeviceError, OptionError

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Shares of the free memory that a tile may be planned for. A CPU shares its memory with the
# desktop and the page cache; on a GPU the rest covers convolution workspaces.
CPU_SHARE = 0.6
GPU_SHARE = 0.8


@dataclass(frozen=True)
class Device:
    """A torch device and the precision that networks run in there.

    Attributes
    ----------
    device : torch.device
    precision : {'fp32', 'fp16', 'bf16'}
    share : float
        Share of the free memory, where several workers use the device at once.
    """

    device: torch.device
    precision: str
    share: float = 1.0

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def name(self) -> str:
        """A name for people: the GPU's own, or the CPU with its number of threads."""
        return device_name(self.device)

    def free_memory(self) -> int:
        """Bytes a network may use now, already reduced to the share that is safe to plan for."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            reserved = torch.cuda.memory_reserved(self.device)
            return int(
                (free + reserved - torch.cuda.memory_allocated(self.device))
                * GPU_SHARE
                * self.share
            )
        return int(free_ram() * CPU_SHARE * self.share)


def available_devices() -> list[torch.device]:
    """Every device here that can run a network, the one that 'auto' takes first."""
    devices = [torch.device("cuda", k) for k in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    return [*devices, torch.device("cpu")]


def device_name(device: torch.device) -> str:
    """A name for people: the GPU's own, or the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def choose_device(device: str | torch.device = "auto", precision: str = "auto") -> Device:
    """Turn the user's choice into a device that exists and a precision it can run.

    Parameters
    ----------
    device : str or torch.device
        'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'. 'auto' takes the first GPU, else the CPU.
    precision : str
        'auto', 'fp32', 'fp16' or 'bf16'. 'auto' is fp16 on CUDA and fp32 elsewhere.

    Returns
    -------
    Device

    Raises
    ------
    OptionError
        If a name is not one of these.
    DeviceError
        If the device is not on this machine, or cannot run the precision.
    """
    if precision != "auto" and precision not in PRECISIONS:
        raise OptionError(f"precision must be auto, fp32, fp16 or bf16, not {precision!r}")
    here = available_devices()
    if device == "auto":
        chosen = here[0]
    else:
        try:
            chosen = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise OptionError(
                f"device must be auto, cpu, cuda, cuda:N or mps, not {device!r}"
            ) from error
        if chosen.type not in ("cpu", "cuda", "mps"):
            raise OptionError(f"device must be auto, cpu, cuda, cuda:N or mps, not {device!r}")
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", 0)
        if chosen.type == "cpu":
            chosen = torch.device("cpu")
        if chosen not in here:
            names = ", ".join(str(d) for d in here)
            raise DeviceError(f"device {str(device)!r} is not available here; there is: {names}")
    if precision == "auto":
        precision = "fp16" if chosen.type == "cuda" else "fp32"
    if precision == "bf16" and chosen.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"{device_name(chosen)} does not support bf16; use fp16 or fp32")
    return Device(chosen, precision)


Devices = str | torch.device | Sequence[str | torch.device]
"""A device; or several, as a sequence or in one text: 'cuda:0,cuda:1', or 'all' for every GPU."""


def names_of(devices: Devices) -> list[str | torch.device]:
    """The single devices of a choice, for one worker each; one may stand there twice.

    Raises
    ------
    OptionError
        There are none, or one is left to 'auto' beside others.
    """
    if isinstance(devices, str) and devices == "all":
        here = available_devices()
        gpus = [device for device in here if device.type != "cpu"]
        return [*(gpus or here)]
    if isinstance(devices, str | torch.device):
        given: list[str | torch.device] = (
            [name.strip() for name in devices.split(",")] if isinstance(devices, str) else [devices]
        )
    elif isinstance(devices, Sequence):
        given = list(devices)
    else:
        raise OptionError(f"device must be auto, cpu, cuda, cuda:N or mps, not {devices!r}")
    if not given or (len(given) > 1 and any(name in ("auto", "all", "") for name in given)):
        raise OptionError(f"device must be one, all, or several as in cuda:0,cuda:1: {devices!r}")
    return given


def choose_devices(devices: Devices = "auto", precision: str = "auto") -> tuple[Device, ...]:
    """`choose_device` for each of a choice; those that are named twice share their memory."""
    chosen = [choose_device(name, precision) for name in names_of(devices)]
    users = [sum(other.device == device.device for other in chosen) for device in chosen]
    return tuple(
        replace(device, share=1 / count) for device, count in zip(chosen, users, strict=True)
    )


def free_ram() -> int:
    """Bytes of main memory that can be had without swapping, within a container's limit."""
    free = psutil.virtual_memory().available
    limit = _control_group_free()
    return free if limit is None else min(free, limit)


def _control_group_free() -> int | None:
    """Bytes that a Linux control group (version 2, then 1) still allows; None without a limit."""
    for limit_file, usage_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            text = Path(limit_file).read_text().strip()
            limit = None if text == "max" else int(text)
            usage = int(Path(usage_file).read_text())
        except (OSError, ValueError):
            continue
        if limit is None or limit > 1 << 60:  # version 1 writes a huge number for "none"
            return None
        return max(0, limit - usage)
    return None
