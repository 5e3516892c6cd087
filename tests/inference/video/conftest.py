"""A network that enlarges by nearest and changes nothing, so that colours can be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from esrgan_ext.inference.upscaler import Upscaler
from esrgan_ext.models import CompactConfig, SRVGGNetCompact
from esrgan_ext.weights import save_model


def identity_network(scale: int = 2) -> Any:
    """The compact network of weights 0: what is left is its input, enlarged by nearest."""
    config = CompactConfig(in_channels=3, nf=8, num_conv=1, upsampling=scale)
    network = SRVGGNetCompact(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network.requires_grad_(False)


@pytest.fixture(scope="session")
def enlarger() -> Upscaler:
    return Upscaler(identity_network(), device="cpu")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(identity_network(), tmp_path_factory.mktemp("model") / "nearest.safetensors")


@pytest.fixture
def run(enlarger: Upscaler) -> Callable[..., Any]:
    from esrgan_ext.inference.video import upscale_video

    def call(source: Path, target: Path, **options: Any) -> Any:
        return upscale_video(source, target, enlarger, **({"segment_frames": 10} | options))

    return call
