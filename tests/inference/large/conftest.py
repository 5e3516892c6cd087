"""Small stores and models, and the in-memory result to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from ome_zarr.format import format_from_version
from ome_zarr.writer import write_image

from esrgan_ext.inference import Upscaler
from esrgan_ext.inference.large.store.options import StoreOptions
from esrgan_ext.inference.large.store.outcome import ChunkOutcome
from esrgan_ext.inference.large.store.run import Report, upscale_store
from esrgan_ext.models import RRDBNet
from esrgan_ext.weights import load_model, save_model
from tests.conftest import make_network

SCALE = {"z": 2.0, "y": 0.5, "x": 0.25}


def make_store(path: Path, pixels: np.ndarray, axes: str, version: str = "0.5") -> Path:
    """An OME-Zarr store, written by the ome-zarr library: two levels, chunks of 32 pixels."""
    fmt = format_from_version(version)
    group = zarr.open_group(str(path), mode="w", zarr_format=fmt.zarr_format)
    chunks = tuple(32 if name in "yx" else 1 for name in axes)
    write_image(
        pixels, group, axes=axes, fmt=fmt, scale_factors=[2],
        scale={name: SCALE.get(name, 1.0) for name in axes},
        axes_units={name: "micrometer" for name in axes if name in "zyx"},
        storage_options={"chunks": chunks}, name="slide",
    )  # fmt: skip
    return path


def lively(network: RRDBNet) -> RRDBNet:
    """The network with a last layer such that each channel of its result spans most of [0, 1]:
    random weights alone give nearly black images, which would agree whatever was done wrong."""
    torch.manual_seed(0)
    with torch.no_grad():
        out = network(torch.rand(1, 1, 48, 48).repeat(1, network.in_channels, 1, 1))
        gain = 0.2 / out.std((0, 2, 3))
        network.conv_last.weight.mul_(gain[:, None, None, None])
        network.conv_last.bias.mul_(gain).add_(0.5 - out.mean((0, 2, 3)) * gain)
        # The channels of a gray image are averaged: they should not cancel each other.
        sign = torch.sign(torch.corrcoef(out[0].flatten(1))[0])
        network.conv_last.weight.mul_(sign[:, None, None, None])
        network.conv_last.bias.sub_(0.5).mul_(sign).add_(0.5)
    return network


@pytest.fixture(scope="session")
def network() -> RRDBNet:
    return lively(make_network(1))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, network: RRDBNet) -> Path:
    return save_model(network, tmp_path_factory.mktemp("lazy-models") / "a.safetensors")


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """Smooth structure and noise, uint8, shape (2, 90, 116): z, y, x."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.sin(np.arange(90) / 5), np.cos(np.arange(116) / 7)) * 50 + 120
    return (ramp + rng.normal(0, 20, (2, 90, 116))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    return make_store(tmp_path_factory.mktemp("slides") / "slide.zarr", pixels, "zyx")


@pytest.fixture(scope="session")
def in_memory(model: Path) -> Callable[..., np.ndarray]:
    network = load_model(model)

    def upscaled(array: np.ndarray, **options: Any) -> np.ndarray:
        return Upscaler(network, device="cpu", **options)(array)

    return upscaled


@pytest.fixture(scope="session")
def reference(in_memory: Callable[..., np.ndarray], pixels: np.ndarray) -> np.ndarray:
    result = in_memory(pixels)
    assert result.std() > 20  # something to compare
    return result


@pytest.fixture(scope="session")
def options(model: Path) -> StoreOptions:
    """Tiles of 32 pixels on the CPU: 24 chunks for the slide."""
    return StoreOptions(model=model, device="cpu", tile=32)


class Recorder:
    """Remembers what a run tells, and does something at an outcome."""

    def __init__(self, at_outcome: Callable[[int], None] = lambda count: None) -> None:
        self.notes: list[str] = []
        self.phases: list[tuple[str, int, int]] = []
        self.outcomes: list[tuple[str, ChunkOutcome]] = []
        self._at_outcome = at_outcome

    def note(self, text: str) -> None:
        self.notes.append(text)

    def phase(self, name: str, total: int, done: int, factor: float) -> None:
        self.phases.append((name, total, done))

    def outcome(self, outcome: ChunkOutcome) -> None:
        self.outcomes.append((self.phases[-1][0], outcome))
        self._at_outcome(len(self.outcomes))

    def written(self, phase: str = "upscaling") -> list[int]:
        """Numbers of the chunks that were written, as often as they were."""
        return sorted(o.number for name, o in self.outcomes if name == phase and not o.error)


Run = Callable[..., Report]


@pytest.fixture
def run(slide: Path, options: StoreOptions) -> Run:
    """`upscale_store` on the slide with the small model."""

    def call(target: Path, source: Path = slide, events: Any = None, **changes: Any) -> Report:
        return upscale_store(source, target, replace(options, **changes), events)

    return call


def finest(path: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(str(path), mode="r")["0"])


def one_level_at_most(result: np.ndarray, expected: np.ndarray) -> None:
    """No pixel further off than one level in 255 of an 8-bit type."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1


def cut_short(after: int) -> Recorder:
    """Events that end a run with Ctrl-C at its n-th outcome."""

    def interrupt(count: int) -> None:
        if count >= after:
            raise KeyboardInterrupt

    return Recorder(interrupt)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two worker processes on this machine, which end with the tests of this folder: they are busy
    a little when they have nothing to do."""
    import logging

    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1",
        memory_limit=None, silence_logs=logging.CRITICAL,
        local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as started:  # fmt: skip
        yield started
