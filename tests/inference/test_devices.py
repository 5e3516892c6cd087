"""Devices and free memory: what is chosen, what is refused."""

from __future__ import annotations

import psutil
import pytest
import torch

from esrgan_ext.errors import DeviceError, OptionError
from esrgan_ext.inference import devices
from esrgan_ext.inference.devices import choose_device, free_ram


def test_the_cpu_is_always_there_and_runs_fp32_by_default():
    device = choose_device("cpu")
    assert device.device == torch.device("cpu")
    assert device.precision == "fp32"
    assert "CPU" in device.name
    assert choose_device(torch.device("cpu")) == device
    assert choose_device("cpu:0") == device


def test_auto_takes_the_first_available_device(monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(devices, "available_devices", lambda: [gpu, torch.device("cpu")])
    assert choose_device("auto").device == gpu
    assert choose_device("auto").precision == "fp16"
    assert choose_device("cuda").device == gpu
    assert choose_device("auto", "fp32").precision == "fp32"
    with pytest.raises(DeviceError, match="cuda:0, cpu"):
        choose_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "xla"])
def test_unknown_names_are_refused(name):
    with pytest.raises(OptionError, match="device must be"):
        choose_device(name)


def test_absent_devices_are_refused_with_those_that_are_there():
    absent = "mps" if not torch.backends.mps.is_available() else "cuda:63"
    with pytest.raises(DeviceError, match="cpu"):
        choose_device(absent)


def test_free_memory_is_what_the_system_has_at_most():
    total = psutil.virtual_memory().total
    assert 0 < free_ram() <= total
    assert 0 < choose_device("cpu").free_memory() < total


@pytest.mark.parametrize(
    ("limit", "expected"), [("1000000", 600000), ("max", None), ("junk", None)]
)
def test_a_container_limits_free_memory(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("400000\n")

    class Redirected(type(tmp_path)):
        def __new__(cls, path):
            name = "memory.max" if path.endswith("memory.max") else path.rsplit("/", 1)[1]
            if path.startswith("/sys/fs/cgroup/memory/"):
                name = "absent"
            return tmp_path / name

    monkeypatch.setattr(devices, "Path", Redirected)
    if expected is None:
        assert free_ram() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    else:
        assert free_ram() == expected
