"""Stores whose channels differ in noise: a strength of denoising for each, one for its planes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from esrgan_ext import ResumeError, upscale_lazy
from esrgan_ext.inference.large.images import ome_zarr
from esrgan_ext.inference.large.store import prepare, resume
from esrgan_ext.inference.large.store.options import StoreOptions
from esrgan_ext.inference.large.store.run import upscale_store
from tests.inference.large.conftest import (
    Recorder,
    cut_short,
    finest,
    make_store,
)

OPTIONS = StoreOptions(model="lite-micro-x4", device="cpu", tile=32, data_range=(100, 2100))


def spots(side: int = 64) -> np.ndarray:
    """Smooth bright spots on a dark background, 0 to 1."""
    y, x = np.mgrid[:side, :side]
    image = sum(
        np.exp(-((y - 37 * k % side) ** 2 + (x - 91 * k % side) ** 2) / 60) for k in range(9)
    )
    return image / image.max()


@pytest.fixture(scope="module")
def stains() -> np.ndarray:
    """Two planes of two channels, uint16, (2, 2, 40, 52): z, c, y, x. The first one is clean, the
    second has 30 photons in the brightest pixel and read noise of 1.6 electrons."""
    rng = np.random.default_rng(5)
    clean = spots()[:40, :52]
    planes = np.empty((2, 2, 40, 52))
    planes[:, 0] = clean
    for z in range(2):
        planes[z, 1] = (rng.poisson(clean * 30) + rng.normal(0, 1.6, clean.shape)) / 30
    return (planes * 2000 + 100).round().clip(0).astype(np.uint16)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory, stains: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("stains") / "stains.zarr"
    return make_store(path, stains.swapaxes(0, 1), "czyx")


def alone(folder: Path, planes: np.ndarray, **changes: Any) -> np.ndarray:
    """A channel by itself: a store of its own."""
    source = make_store(folder / "one.zarr", planes, "zyx")
    upscale_store(source, folder / "one_x4.zarr", replace(OPTIONS, **changes))
    return finest(folder / "one_x4.zarr")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, stains: np.ndarray) -> np.ndarray:
    folders = [tmp_path_factory.mktemp("alone") for _ in range(2)]
    return np.stack([alone(folder, stains[:, k]) for k, folder in enumerate(folders)])


def attributes(path: Path) -> dict[str, Any]:
    return dict(zarr.open_group(str(path), mode="r").attrs)["esrgan"]


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_each_channel_as_if_it_were_alone(slide, expected, tmp_path, scheduler):
    events = Recorder()
    # One process, which gets both networks; the cluster below has two.
    options = replace(OPTIONS, scheduler=scheduler, workers=2 if scheduler == "threads" else 1)
    report = upscale_store(slide, tmp_path / "out.zarr", options, events)
    assert np.array_equal(finest(tmp_path / "out.zarr"), expected)
    assert report.strengths == (0.0, 1.0)
    assert "denoising: channel 0 0.00, channel 1 1.00" in events.notes
    said = attributes(tmp_path / "out.zarr")
    assert said["model"] == "lite-micro-x4"
    assert said["denoise"] == [0.0, 1.0]
    assert len(set(said["weights"])) == 2


def test_a_cluster_gets_all_networks(slide, expected, tmp_path, cluster):
    options = replace(OPTIONS, scheduler=cluster.scheduler_address)
    upscale_store(slide, tmp_path / "out.zarr", options)
    assert np.array_equal(finest(tmp_path / "out.zarr"), expected)


def test_channels_have_their_names(stains, tmp_path):
    source = make_store(tmp_path / "in.zarr", stains[0], "cyx")
    group = zarr.open_group(str(source), mode="r+")
    named = [{"label": "DAPI", "color": "0000FF"}, {"label": "actin", "color": "00FF00"}]
    group.attrs["ome"] = {**group.attrs["ome"], "omero": {"channels": named}}
    events = Recorder()
    upscale_store(source, tmp_path / "out.zarr", OPTIONS, events)
    assert "denoising: DAPI 0.00, actin 1.00" in events.notes
    assert ome_zarr.read_scene(tmp_path / "out.zarr").omero["channels"][1]["label"] == "actin"


def test_colours_of_one_image_have_a_strength_each_as_in_memory(stains, tmp_path):
    image = np.stack([*stains[0], stains[0, 0]])
    source = make_store(tmp_path / "in.zarr", image, "cyx")
    report = upscale_store(source, tmp_path / "out.zarr", replace(OPTIONS, channels="rgb"))
    assert report.strengths == (0.0, 1.0, 0.0)
    values = {"device": "cpu", "data_range": (100, 2100)}
    lazily = upscale_lazy(image, "lite-micro-x4", channel_axis=0, tile=32, **values).compute()
    assert np.array_equal(finest(tmp_path / "out.zarr"), lazily)


def test_equal_strengths_stay_one(stains, tmp_path):
    twice = np.stack([stains[:, 1]] * 2)
    source = make_store(tmp_path / "in.zarr", twice, "czyx")
    report = upscale_store(source, tmp_path / "out.zarr", OPTIONS)
    assert report.strengths == (1.0,)
    said = attributes(tmp_path / "out.zarr")
    assert said["denoise"] == [1.0]
    assert said["model"] == "lite-micro-denoise-x4"
    assert isinstance(said["weights"], str)


def test_the_strengths_of_an_unfinished_result_are_found_once(
    slide, expected, tmp_path, monkeypatch
):
    target = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        upscale_store(slide, target, OPTIONS, cut_short(5))
    assert resume.read_plan(resume.unfinished(target))["denoise"] == [0.0, 1.0]
    with pytest.raises(ResumeError, match=r"denoise \[0.0, 1.0\], now \[0.5\]"):
        upscale_store(slide, target, replace(OPTIONS, denoise=0.5))
    with pytest.raises(ResumeError, match="weights"):
        upscale_store(slide, target, replace(OPTIONS, denoise=None))
    # Another estimate, by another version of NumPy say, does not get into the same result.
    monkeypatch.setattr(prepare, "channel_strengths", lambda *_: [0.3, 0.7])
    report = upscale_store(slide, target, OPTIONS)
    assert report.earlier >= 5
    assert report.strengths == (0.0, 1.0)
    assert np.array_equal(finest(target), expected)


def test_strengths_are_found_anew_for_another_source(slide, stains, tmp_path):
    target = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        upscale_store(slide, target, OPTIONS, cut_short(5))
    other = make_store(tmp_path / "other.zarr", stains.swapaxes(0, 1)[::-1], "czyx")
    with pytest.raises(ResumeError, match=r"denoise \[0.0, 1.0\], now \[1.0, 0.0\]"):
        upscale_store(other, target, OPTIONS)
    report = upscale_store(other, target, replace(OPTIONS, overwrite=True))
    assert report.strengths == (1.0, 0.0)
