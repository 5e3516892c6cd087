"""TIFFs that hold several images, into a store: all of them, or the one that is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from esrgan_ext.errors import ImageFileError, ResumeError
from esrgan_ext.inference import Upscaler
from esrgan_ext.inference.large import upscale_store
from esrgan_ext.inference.large.images import ome_zarr
from esrgan_ext.inference.large.store import several
from esrgan_ext.inference.large.store.options import StoreOptions
from tests.inference.large.conftest import finest, one_level_at_most

SHAPES = [(24, 30), (24, 30), (16, 20)]


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in SHAPES]


@pytest.fixture
def source(tmp_path, images) -> Path:
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as writer:
        for image in images:
            writer.write(image)
    return tmp_path / "in.ome.tif"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_each_into_a_group_of_its_own(source, images, tmp_path, tiny_network, version) -> None:
    options = StoreOptions(model=tiny_network, device="cpu", version=version, data_range=(0, 255))
    report = upscale_store(source, tmp_path / "out.zarr", options)

    assert report.images == 3
    root = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    said = root.attrs if version == "0.4" else root.attrs["ome"]
    assert said["bioformats2raw.layout"] == 3
    listed = root["OME"].attrs if version == "0.4" else root["OME"].attrs["ome"]
    assert listed["series"] == ["0", "1", "2"]
    up = Upscaler(tiny_network, device="cpu", data_range=(0, 255))
    for number, image in enumerate(images):
        part = tmp_path / "out.zarr" / str(number)
        one_level_at_most(finest(part), up(image))
        assert ome_zarr.read_scene(part).version == version
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ome.tif", "out.zarr"]


def test_the_one_that_is_asked_for(source, images, tmp_path, tiny_network) -> None:
    options = StoreOptions(model=tiny_network, device="cpu", series=2, data_range=(0, 255))
    upscale_store(source, tmp_path / "out.zarr", options)
    up = Upscaler(tiny_network, device="cpu", data_range=(0, 255))
    one_level_at_most(finest(tmp_path / "out.zarr"), up(images[2]))
    options = StoreOptions(model=tiny_network, device="cpu", series=3)
    with pytest.raises(ImageFileError, match="series 0 to 2; there is no series 3"):
        upscale_store(source, tmp_path / "other.zarr", options)


def test_a_run_that_was_killed_goes_on(source, tmp_path, tiny_network, monkeypatch) -> None:
    options = StoreOptions(model=tiny_network, device="cpu", data_range=(0, 255))
    with monkeypatch.context() as patch:
        patch.setattr(several, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            upscale_store(source, tmp_path / "out.zarr", options)
    folder = tmp_path / "out.zarr.images.unfinished"
    assert not (tmp_path / "out.zarr").exists()
    shutil.rmtree(folder / "1")
    before = (folder / "0" / "zarr.json").stat().st_mtime_ns

    other = StoreOptions(model=tiny_network, device="cpu", outscale=2, data_range=(0, 255))
    with pytest.raises(ResumeError, match="other options"):
        upscale_store(source, tmp_path / "out.zarr", other)
    report = upscale_store(source, tmp_path / "out.zarr", options)

    assert report.images == 3
    assert (tmp_path / "out.zarr" / "0" / "zarr.json").stat().st_mtime_ns == before
    assert (tmp_path / "out.zarr" / "1" / "0").is_dir()


def test_one_that_cannot_be_read_by_pieces_stops_all(source, tmp_path, tiny_network) -> None:
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(np.zeros((24, 30), np.uint8))
        writer.write(np.zeros((16, 20), np.uint8), photometric="miniswhite")
    with pytest.raises(ImageFileError, match="only gray and RGB"):
        upscale_store(tmp_path / "in.tif", tmp_path / "out.zarr", StoreOptions(model=tiny_network))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("extra", [(0,), (0, 0)])
def test_samples_beside_rgb_that_are_no_alpha_are_channels_by_themselves(
    tmp_path, tiny_network, extra
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 18, 3 + len(extra)), dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / "in.tif", pixels, photometric="rgb", extrasamples=["unspecified"] * len(extra)
    )
    options = StoreOptions(model=tiny_network, device="cpu", data_range=(0, 255))
    upscale_store(tmp_path / "in.tif", tmp_path / "out.zarr", options)
    up = Upscaler(tiny_network, device="cpu", data_range=(0, 255), channel_axis=False)
    one_level_at_most(finest(tmp_path / "out.zarr"), up(np.moveaxis(pixels, -1, 0)))


def test_a_truncated_stack_is_an_error_that_names_the_page(tmp_path, tiny_network) -> None:
    tifffile.imwrite(tmp_path / "whole.tif", np.zeros((5, 16, 18), np.uint8), metadata=None)
    data = (tmp_path / "whole.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "whole.tif") as tif:
        offset = tif.pages[3].offset
    (tmp_path / "in.tif").write_bytes(data[:offset])
    with pytest.raises(ImageFileError, match="cut off behind page 3"):
        upscale_store(tmp_path / "in.tif", tmp_path / "out.zarr", StoreOptions(model=tiny_network))
