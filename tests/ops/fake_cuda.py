"""A CUDA machine that is none: an nvcc that records its calls, and devices torch believes in."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

NVCC = """#!/bin/sh
here={here}
case "$*" in
    *--version*) echo 'Cuda compilation tools, release {version}, V{version}.48' ;;
    *--list-gpu-code*) printf '%s\\n' {codes} ;;
    *--dryrun*) echo '#$ TOP={here}/bin/..' >&2 ;;
    *)
        printf '%s\\n' "$*" >>"$here/calls"
        {action}
        ;;
esac
"""

# What a CUDA source would have given, from the host compiler: an object file with nothing in it.
EMPTY_OBJECT = """
        while [ "$1" != "-o" ]; do shift; done
        echo '' | c++ -x c++ -fPIC -c - -o "$2"
"""


def make_nvcc(
    folder: Path, version: str = "13.0", codes: str = "sm_80 sm_86 sm_89 sm_90 sm_120",
    action: str = EMPTY_OBJECT,
) -> Path:  # fmt: skip
    """A toolkit in `folder`: `bin/nvcc`, whose calls to compile are lines of `folder/calls`."""
    nvcc = folder / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(
        NVCC.format(here=shlex.quote(str(folder)), version=version, codes=codes, action=action)
    )
    nvcc.chmod(0o755)
    return nvcc


def pretend_devices(
    monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int], cuda: str = "13.0"
) -> None:
    """Let torch say that it was built for CUDA and sees these devices."""
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: _of(device))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {_index(device)}")

    def _index(device: int | torch.device) -> int:
        return device if isinstance(device, int) else device.index or 0

    def _of(device: int | torch.device) -> tuple[int, int]:
        return capabilities[_index(device)]
