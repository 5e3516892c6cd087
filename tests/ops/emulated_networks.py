"""Everything between an image and the CUDA kernels, with the kernels emulated on the host.

Runs in a process of its own, `python -m tests.ops.emulated_networks LIBRARY`, because the emulated
operators take the place of the CPU's: `torch.ops.esrgan_ext` on CPU tensors is csrc/cuda here. Only
the device itself is missing: streams, graphs and torch's CUDA allocator.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from functools import partial
from typing import Any

os.environ["ESRGAN_EXT"] = "off"

import numpy as np
import pytest
import torch


def load(path: str) -> object:
    """The library with the emulated operators; its allocator is torch's from now on."""
    from esrgan_ext.ops import cpu_operators

    cpu_operators.define()
    loader = importlib.machinery.ExtensionFileLoader("esrgan_emulated", path)
    spec = importlib.util.spec_from_loader("esrgan_emulated", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def check_operators() -> None:
    """Every precision, odd sizes, strides, conversions; outputs start out as NaN."""
    from esrgan_ext.ops import cuda, reference
    from esrgan_ext.ops.build import paths, selfcheck

    for precision, dtype in selfcheck.PRECISIONS.items():
        result = selfcheck.check(torch.device("cpu"), dtype)
        print("self-check", precision, result)
        assert result.agrees
    for dtype in (torch.float16, torch.bfloat16):
        for path in ("mma", "wgmma"):
            assert paths._agrees(torch.device("cpu"), dtype, path)

    shape = [1, 2, 32, 16, 1, 1]
    weights, biases = selfcheck._parameters(shape)
    network = cuda.NetworkShape(*shape)
    packed = cuda.PackedWeights()
    fused = cuda.FusedNetwork(
        network, "float32", partial(packed.get, network, weights, biases, "float32")
    )
    exact = [t.double() for t in (*weights, *biases)]
    base = torch.randint(0, 65536, (2, 5, 1, 7)).to(torch.uint16)
    x = base.permute(0, 2, 1, 3)[..., ::2]  # N, C, H, W with gaps and in another order
    seen = x.to(torch.float64) * 0.01 - 3
    expected = reference.rrdbnet(
        seen, exact[: len(weights)], exact[len(weights) :], network.rrdbs, network.upsamplings
    )
    flag = torch.ones(1, dtype=torch.int32)
    out = torch.empty(2, 10, 8, 2).permute(0, 3, 1, 2)
    fused.into(x, fused.packed(), out, cuda.PixelMap(0.01, -3, 2, 1), flag)
    assert flag.item() == 0
    difference = (out - (expected * 2 + 1)).abs().max() / expected.abs().max()
    print("strides and maps", difference.item())
    assert difference < 1e-5
    as_bytes = torch.empty(2, 2, 10, 8, dtype=torch.uint8)
    span = float(expected.abs().max())
    fused.into(x, fused.packed(), as_bytes, cuda.PixelMap(0.01, -3, 255 / span, 100), flag)
    rounded = (expected * (255 / span) + 100).round().clamp(0, 255)
    assert (as_bytes - rounded).abs().max() <= 1
    fused.into(x, fused.packed(), out, cuda.PixelMap(float("inf"), 0, 1, 0), flag)
    assert flag.item() == 1

    empty = torch.empty(0, 1, 3, 4)
    assert torch.ops.esrgan_ext.rrdbnet(empty, fused.packed(), shape, "float32").shape == (
        0,
        2,
        6,
        8,
    )
    for wrong, message in (
        (lambda: torch.ops.esrgan_ext.rrdbnet_pack(weights[1:], biases[1:], shape), "convolutions"),
        (lambda: torch.ops.esrgan_ext.rrdbnet_pack(weights, biases, shape[:5]), "shape must be"),
        (lambda: torch.ops.esrgan_ext.rrdbnet_pack(weights, biases, [1, 2, 48, 16, 1, 1]), "nf"),
        (lambda: torch.ops.esrgan_ext.rrdbnet(seen, fused.packed(), shape), "compute"),
        (lambda: torch.ops.esrgan_ext.rrdbnet(seen, fused.packed(), shape, "int4"), "float16"),
        (lambda: torch.ops.esrgan_ext.rrdbnet(seen, fused.packed()[1:], shape, "tf32"), "packed"),
    ):
        with pytest.raises(RuntimeError, match=message):
            wrong()


def by_definition(exact: Any, image: np.ndarray) -> np.ndarray:
    """What the network makes of (H, W, 3 or 4) or (H, W) in [0, 1], or of a stack of (H, W)."""

    def run(planes: np.ndarray) -> np.ndarray:
        return exact.plain_forward(torch.from_numpy(planes.astype(np.float64))[None])[0].numpy()

    def gray(plane: np.ndarray) -> np.ndarray:
        return run(np.repeat(plane[None], 3, 0)).mean(0)

    if image.ndim == 2:
        return gray(image)
    if image.shape[2] not in (3, 4):
        return np.stack([gray(plane) for plane in image])
    planes = np.moveaxis(image, -1, 0)
    channels = [*run(planes[:3]), *(gray(plane) for plane in planes[3:])]
    return np.moveaxis(np.stack(channels), 0, -1)


def check_upscaler() -> None:
    """Images of all kinds through the upscaler, against the network's definition."""
    import esrgan_ext as esr
    from esrgan_ext.inference import engine, upscaler
    from esrgan_ext.inference.devices import Device
    from esrgan_ext.models import RRDBNet
    from esrgan_ext.ops import cuda
    from tests.conftest import make_network
    from tests.inference.test_graphs import PretendedQueue

    def fused(network: RRDBNet) -> cuda.FusedNetwork:
        compute = cuda.compute_name(network.conv_first.weight.dtype)
        packed = partial(network.kernels.packed_for_cuda, compute)
        return cuda.FusedNetwork(network.kernels.shape, compute, packed)

    launched = 0

    def into(*arguments: Any) -> None:
        nonlocal launched
        launched += 1
        in_one_launch(*arguments)

    in_one_launch = cuda.FusedNetwork.into
    # Not to be set without being looked for: what has another name by now would change nothing.
    patched = pytest.MonkeyPatch()
    patched.setattr(cuda.FusedNetwork, "into", into)
    patched.setattr(RRDBNet, "fused", fused)
    patched.setattr(engine, "_queue", lambda device: PretendedQueue())
    network = make_network(nf=32, gc=16, scale=2)
    exact = make_network(nf=32, gc=16, scale=2).double()
    rng = np.random.default_rng(0)
    images = {
        "RGB, 8 bit": rng.integers(0, 256, (9, 13, 3), np.uint8),
        "RGB, 16 bit": rng.integers(0, 65536, (7, 5, 3), np.uint16),
        "gray, 8 bit": rng.integers(0, 256, (6, 5), np.uint8),
        "RGBA, float": rng.random((5, 6, 4), np.float32),
        "planes": rng.random((2, 4, 7), np.float32),
    }
    for precision, decibels in (("fp16", 55), ("bf16", 40), ("fp32", 90)):
        device = Device(torch.device("cpu"), precision)
        patched.setattr(upscaler, "choose_devices", lambda *_, device=device: (device,))
        up = esr.Upscaler(network)
        for name, image in images.items():
            top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
            # Else all but 8 bits would be taken to span the range of their own values.
            known = None if image.dtype == np.uint8 else (0.0, float(top))
            before = launched
            got = up(image, data_range=known).astype(np.float64) / top
            expected = by_definition(exact, image / top)
            if top > 1:
                expected = np.rint(np.clip(expected, 0, 1) * top) / top
            error = np.mean((got - expected) ** 2)
            psnr = -10 * np.log10(max(error, 1e-20))
            print(precision, name, f"{psnr:.1f} dB")
            assert psnr > min(decibels, 45 if top == 255 else 999), (precision, name, psnr)
            assert launched > before, (precision, name)
            # As much as its numbers hold: fp32 has 150 dB.
            assert precision == "fp32" or top == 255 or psnr < 120, (precision, name, psnr)


if __name__ == "__main__":
    torch.set_num_threads(1)
    # The emulated module stands for that of the CUDA operators.
    emulated = load(sys.argv[1])
    from esrgan_ext.ops.build import library

    library._cuda_result = (emulated, "emulated")  # type: ignore[assignment]
    torch.backends.cudnn.allow_tf32 = False
    check_operators()
    check_upscaler()
    print("all right")
