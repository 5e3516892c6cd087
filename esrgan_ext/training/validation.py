"""PSNR of a network on a folder of HR images, as the literature measures it, during training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from esrgan_ext.evaluation.metrics import luma, psnr
from esrgan_ext.inference.files import read_image
from esrgan_ext.models import SRNetwork
from esrgan_ext.training.bicubic import crop_to_multiple, downscale
from esrgan_ext.training.pack import image_files, rgb8


@dataclass(frozen=True, eq=False)
class ValidationPair:
    """An image to validate on: name, LR and HR pixels (uint8 RGB), and whether it is gray."""

    name: str
    lr: np.ndarray
    hr: np.ndarray
    gray: bool


def validation_pairs(folder: Path, scale: int) -> list[ValidationPair]:
    """HR images of a folder, cut to a multiple of the scale, with their bicubic LR images.

    Raises
    ------
    OptionError, ImageFileError
        The folder is empty, or an image in it cannot be read.
    """
    pairs = []
    for path in image_files([folder]):
        hr = crop_to_multiple(rgb8(read_image(path)), scale)
        gray = bool((hr[..., :1] == hr).all())
        pairs.append(ValidationPair(path.stem, downscale(hr, scale), hr, gray))
    return pairs


@torch.no_grad()
def upscaled(network: SRNetwork, lr: np.ndarray) -> np.ndarray:
    """The network's output for one image, rounded to uint8."""
    device = next(network.parameters()).device
    x = torch.from_numpy(lr).to(device).permute(2, 0, 1).float() / 255
    gray = network.in_channels == 1  # each channel by itself
    y = network(x[:, None])[:, 0] if gray else network(x[None])[0]
    y = y.float().clamp(0, 1).mul(255).round().byte()
    return y.permute(1, 2, 0).cpu().numpy()


def validate(network: SRNetwork, pairs: list[ValidationPair]) -> tuple[float, list[np.ndarray]]:
    """Mean PSNR on Y (a border of `scale` pixels cut), and the upscaled images.

    The network is left in the mode, training or not, that it came in.
    """
    training = network.training
    network.eval()
    values, images = [], []
    for pair in pairs:
        sr = upscaled(network, pair.lr)
        images.append(sr)
        if pair.gray:  # a single-channel image is its own luma
            gray = sr.mean(2).round().astype(np.uint8)
            values.append(psnr(gray, pair.hr[..., 0], border=network.scale))
        else:
            values.append(psnr(luma(sr), luma(pair.hr), border=network.scale))
    network.train(training)
    return float(np.mean(values)), images
