"""A user's script over the public functions, for type checkers alone: see `test_types`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

import esrgan_ext as esr
from esrgan_ext.compat import RealESRGANer
from esrgan_ext.models import SRNetwork


def arrays_and_tensors(array: np.ndarray, tensor: Tensor, picture: Image, spread: bool) -> None:
    assert_type(esr.upscale(array), np.ndarray)
    assert_type(esr.upscale(tensor, "lite-psnr-x4", outscale=2.5, tile=256), Tensor)
    assert_type(esr.upscale(picture), Image)
    assert_type(esr.upscale(tensor, return_std=True), tuple[Tensor, Tensor])

    up = esr.Upscaler("lite-psnr-x4", device="cuda:0", data_range=(0, 1), consistent=True)
    assert_type(up(array), np.ndarray)
    assert_type(up(array, channel_axis=0, out=np.empty((3, 8, 8))), np.ndarray)
    assert_type(up(tensor, progress=lambda done, total: done < total), Tensor)
    assert_type(up(tensor, return_std=True), tuple[Tensor, Tensor])
    assert_type(up(array, return_std=spread), np.ndarray | tuple[np.ndarray, np.ndarray])
    assert_type(up.output_size(8, 9), tuple[int, int])
    assert_type(up.network, SRNetwork)

    def on_tensor(piece: Tensor, where: tuple[int | slice, ...]) -> None: ...
    def on_array(piece: np.ndarray, where: tuple[int | slice, ...]) -> None: ...

    up(tensor, on_tile=on_tensor)
    up(array, on_tile=on_array)


def files() -> None:
    one = esr.upscale_file("photo.jpg", "large.png", model="lite-psnr-x4")
    assert_type(one.size, tuple[int, int] | None)
    many = esr.upscale_files("photos/", "large/", recursive=True)
    results: Iterator[object] = many
    for result in many:
        assert_type(result.seconds, float)
    del results


class Own(nn.Module):
    body: nn.Sequential


def models(own: Own) -> None:
    network = esr.load_model("lite-psnr-x4")
    assert_type(network, SRNetwork)
    assert_type(network(torch.rand(1, 3, 8, 8)), Tensor)
    assert_type(esr.interpolate("lite-psnr-x4", network, 0.5), SRNetwork)
    assert_type(esr.accelerate(own), Own)


def scripts_for_real_esrgan(image: np.ndarray) -> None:
    upsampler = RealESRGANer(4, ["a.pth", "b.pth"], dni_weight=[0.5, 0.5], tile=256, gpu_id=0)
    output, mode = upsampler.enhance(image, outscale=3.5)
    assert_type(output, np.ndarray)
    text: str = mode
    del text


def mistakes(up: esr.Upscaler, tensor: Tensor) -> None:
    """Each is an error, and said to be expected: an ignore that is not needed is an error too."""
    esr.upscale(tensor, outscaled=2)  # type: ignore[call-overload]
    up(tensor, region=(0, 1, 0, 1))  # type: ignore[call-overload]
    array: np.ndarray = up(tensor)  # type: ignore[arg-type]
    del array
