"""`esrgan info`: what a bug report needs to say about a machine."""

from __future__ import annotations

from typing import Annotated

import typer

from esrgan_ext.cli.errors import reports_errors, say

_PACKAGES = (
    "torch", "numpy", "opencv-python-headless", "tifffile", "safetensors", "onnx", "napari", "dask",
    "distributed", "zarr", "ome-zarr",
)  # fmt: skip
# Wheels of OpenCV that share one import name; two of them at once overwrite each other's files.
_OPENCV_WHEELS = (
    "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip


EXAMPLES = """
# for a bug report
esrgan info --check
"""


@reports_errors
def command(
    check: Annotated[
        bool,
        typer.Option("--check", help="Also check the compiled kernels against float64."),
    ] = False,
) -> None:
    """Print versions, devices and free memory.

    With --check, the exit code is 1 if a kernel is wrong; plain PyTorch then takes its place.
    """
    parts = [
        ("versions", _versions()),
        ("memory", _memory()),
        ("devices", _devices()),
        ("operators", _operators()),
    ]
    right = True
    if check:
        rows, right = _checks()
        parts.append(("self-check", rows))
    for title, rows in parts:
        say(title)
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            say(f"  {name:<{width}}  {value}")
    if not right:
        raise typer.Exit(1)


def _versions() -> list[tuple[str, str]]:
    import platform
    from importlib import metadata

    from esrgan_ext import __version__

    rows = [
        ("esrgan-ext", __version__),
        ("python", platform.python_version()),
        ("system", platform.platform()),
    ]
    for package in _PACKAGES:
        try:
            rows.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            rows.append((package, "not installed"))
    for package in _OPENCV_WHEELS:
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        rows.append((package, f"{version}: in conflict with opencv-python-headless, uninstall it"))
    return rows


def _memory() -> list[tuple[str, str]]:
    import psutil

    from esrgan_ext.inference.devices import free_ram

    total = psutil.virtual_memory().total
    return [("RAM", f"{free_ram() / 2**30:.1f} of {total / 2**30:.1f} GiB free")]


def _devices() -> list[tuple[str, str]]:
    """Every device with its name, memory and the precisions it runs; the first is `auto`."""
    from esrgan_ext.errors import DeviceError
    from esrgan_ext.inference.devices import PRECISIONS, available_devices, choose_device

    rows = []
    for number, device in enumerate(available_devices()):
        chosen = choose_device(device)
        usable = []
        for precision in PRECISIONS:
            try:
                choose_device(device, precision)
            except DeviceError:
                continue
            usable.append(f"{precision} (auto)" if precision == chosen.precision else precision)
        details = [chosen.name, ", ".join(usable)]
        if device.type == "cuda":
            import torch

            free, total = torch.cuda.mem_get_info(device)
            details.append(f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
        name = f"{device} (auto)" if number == 0 else str(device)
        rows.append((name, "; ".join(details)))
    return rows


def _operators() -> list[tuple[str, str]]:
    """The backend that runs the networks, from `esrgan_ext.ops`."""
    import torch

    from esrgan_ext import ops
    from esrgan_ext.inference.devices import available_devices

    rows = [("RRDBNet on the CPU", ops.backend()), ("extension", ops.library.origin())]
    cpu_library = ops.library.load()
    if cpu_library is not None:
        info = cpu_library.build_info()
        rows.append(("compiler", f"{info['compiler']}, C++{info['standard']}"))
    rows.append(("CUDA operators", ops.library.cuda_origin()))
    cuda = ops.library.load_cuda()
    architectures = "none" if cuda is None else str(cuda.build_info()["architectures"])
    rows.append(("CUDA architectures", architectures))
    for device in available_devices():
        if device.type != "cuda":
            continue
        kernels = ops.backend(device)
        if kernels == "cuda" and cuda is not None:
            usable = (
                f"{c} {' or '.join(cuda.paths(device.index, c))}" for c in ops.cuda.COMPUTE_NAMES
            )
            kernels = f"cuda: {', '.join(usable)}"
        rows.append((f"RRDBNet on {device}", kernels))
        if kernels.startswith("cuda"):
            rows += ops.cuda.paths.describe(device)
    rows.append(("threads", str(torch.get_num_threads())))
    return rows


def _checks() -> tuple[list[tuple[str, str]], bool]:
    """Results of the self-check for every device and precision, and whether all are right."""
    from esrgan_ext.inference.devices import available_devices
    from esrgan_ext.ops.build import selfcheck

    rows, right = [], True
    for device in available_devices():
        checks = selfcheck.check_all(device)
        rows += [(f"{device} {check.precision}", str(check)) for check in checks]
        right = right and all(check.agrees for check in checks)
        if not checks:
            rows.append((str(device), "no compiled kernels: plain PyTorch"))
    return rows, right
