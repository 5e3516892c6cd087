"""`upscale_store`: pixels, places, pyramids and metadata of what it writes."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Multiscales, Reader
from skimage.measure import block_reduce

from esrgan_ext.inference.large.sizes import needs_of
from esrgan_ext.inference.large.store import prepare, resume, tasks
from esrgan_ext.inference.large.store import pyramid as level_pixels
from esrgan_ext.inference.ranges import fixed_map
from esrgan_ext.inference.tiles import Rect
from tests.inference.large.conftest import (
    SCALE,
    Recorder,
    finest,
    make_store,
    one_level_at_most,
)


def transforms(path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scale and translation of each level, as the ome-zarr library reads them."""
    node = next(iter(Reader(parse_url(path))()))
    assert node.load(Multiscales) is not None
    return [
        (np.array(level[0]["scale"]), np.array(level[1]["translation"]))
        for level in node.metadata["coordinateTransformations"]
    ]


def edges(shape, scale, translation) -> np.ndarray:
    """World coordinates of the outer edges of the first and last pixels along each axis."""
    return np.stack([translation - scale / 2, translation + scale * (np.array(shape) - 0.5)])


def test_threads_give_the_in_memory_upscale(run, reference, tmp_path):
    events = Recorder()
    report = run(tmp_path / "out.zarr", events=events)
    assert (report.failures, report.earlier, report.chunks) == ((), 0, 24)
    assert report.shape == reference.shape
    one_level_at_most(finest(tmp_path / "out.zarr"), reference)
    assert events.written() == list(range(24))
    assert not resume.unfinished(tmp_path / "out.zarr").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.zarr"]


def test_processes_and_a_cluster_give_the_same_bits(run, tmp_path, cluster):
    run(tmp_path / "threads.zarr")
    expected = finest(tmp_path / "threads.zarr")
    events = Recorder()
    run(tmp_path / "processes.zarr", events=events, scheduler="processes", workers=2)
    np.testing.assert_array_equal(finest(tmp_path / "processes.zarr"), expected)
    assert any("dashboard: http://127.0.0.1:" in note for note in events.notes)
    run(tmp_path / "cluster.zarr", scheduler=cluster.scheduler_address)
    np.testing.assert_array_equal(finest(tmp_path / "cluster.zarr"), expected)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_result_lies_on_its_source(version, run, pixels, tmp_path):
    source = make_store(tmp_path / "in.zarr", pixels, "zyx", version)
    run(tmp_path / "out.zarr", source)
    scale, translation = transforms(tmp_path / "out.zarr")[0]
    sources = np.array([SCALE[name] for name in "zyx"])
    found = edges((2, 360, 464), scale, translation)
    np.testing.assert_allclose(found, edges(pixels.shape, sources, np.zeros(3)), atol=1e-12)
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert group.metadata.zarr_format == (2 if version == "0.4" else 3)
    attributes = dict(group.attrs)
    ome = attributes if version == "0.4" else attributes["ome"]
    axes = ome["multiscales"][0]["axes"]
    assert [(axis["name"], axis["unit"]) for axis in axes] == [(n, "micrometer") for n in "zyx"]
    assert ome["multiscales"][0]["name"] == "slide"
    assert attributes["esrgan"]["state"] == "finished"
    if version == "0.5":
        assert group["0"].metadata.dimension_names == ("z", "y", "x")


def test_a_region_is_that_part_of_the_whole_result(run, reference, pixels, tmp_path):
    run(tmp_path / "out.zarr", region=Rect(11, 70, 20, 101))
    one_level_at_most(finest(tmp_path / "out.zarr"), reference[:, 44:280, 80:404])
    scale, translation = transforms(tmp_path / "out.zarr")[0]
    sources = np.array([SCALE[name] for name in "zyx"])
    expected = edges((2, 59, 81), sources, sources * [0, 11, 20])
    np.testing.assert_allclose(edges((2, 236, 324), scale, translation), expected, atol=1e-12)


def test_a_coarser_level_in(run, slide, in_memory, tmp_path):
    coarse = np.asarray(zarr.open_group(str(slide), mode="r")["s1"])
    run(tmp_path / "out.zarr", level=1)
    one_level_at_most(finest(tmp_path / "out.zarr"), in_memory(coarse))
    scale, _ = transforms(tmp_path / "out.zarr")[0]
    np.testing.assert_allclose(scale, [2.0, 0.5 * 2 / 4, 0.25 * 2 / 4])


def test_translations_and_outer_transformations_are_carried_over(run, pixels, tmp_path):
    source = make_store(tmp_path / "in.zarr", pixels, "zyx")
    group = zarr.open_group(str(source), mode="r+")
    ome = dict(group.attrs["ome"])
    outer = [{"type": "scale", "scale": [3.0, 1.0, 1.0]}]
    ome["multiscales"][0]["coordinateTransformations"] = outer
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"].append(
        {"type": "translation", "translation": [1.0, 7.0, -3.0]}
    )
    ome["omero"] = {"channels": [{"color": "FF0000", "label": "DAPI"}]}
    group.attrs["ome"] = ome
    run(tmp_path / "out.zarr", source)
    _, translation = transforms(tmp_path / "out.zarr")[0]
    shift = 0.5 * (1 / 4 - 1)  # of a source pixel: half a fine one instead of half a coarse one
    np.testing.assert_allclose(translation, [1.0, 7.0 + 0.5 * shift, -3.0 + 0.25 * shift])
    written = zarr.open_group(str(tmp_path / "out.zarr"), mode="r").attrs["ome"]
    assert written["multiscales"][0]["coordinateTransformations"] == outer
    assert written["omero"]["channels"][0]["label"] == "DAPI"


def test_the_pyramid_is_the_mean_of_the_level_before(run, tmp_path, monkeypatch):
    monkeypatch.setattr(level_pixels, "STORED_SIDE", 100)
    run(tmp_path / "out.zarr")
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert [group[str(k)].shape for k in range(4)] == [
        (2, 360, 464), (2, 180, 232), (2, 90, 116), (2, 45, 58),
    ]  # fmt: skip
    for level in range(3):
        finer = np.asarray(group[str(level)]).astype(float)
        mean = np.rint(block_reduce(finer, (1, 2, 2), np.mean))
        np.testing.assert_array_equal(np.asarray(group[str(level + 1)]), mean)
    places = [
        edges(group[str(k)].shape, *transform)
        for k, transform in enumerate(transforms(tmp_path / "out.zarr"))
    ]
    for place in places[1:]:
        np.testing.assert_allclose(place, places[0], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.bool_, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 8), (7, 1)])
def test_halving(shape, dtype):
    rng = np.random.default_rng(0)
    plane = (rng.random(shape) * 250).astype(dtype)
    expected = np.empty((-(-shape[0] // 2), -(-shape[1] // 2)))
    for y, x in np.ndindex(*expected.shape):
        expected[y, x] = plane[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float).mean()
    found = level_pixels.halved(plane[None])[0]
    assert found.dtype == dtype
    if dtype == np.bool_:
        np.testing.assert_array_equal(found, expected >= 0.5)
    elif np.issubdtype(dtype, np.integer):
        np.testing.assert_array_equal(found, np.rint(expected))
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_halving_lets_nan_count_only_where_all_are():
    plane = np.array([[np.nan, 1, np.nan, np.nan], [3, 2, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(level_pixels.halved(plane[None])[0], [[2.0, np.nan]])


@pytest.mark.parametrize(
    "changes", [{"outscale": 2.5}, {"data_range": "auto"}, {"data_range": (10.0, 200.0)}]
)
def test_options_mean_what_they_mean_in_memory(changes, run, pixels, in_memory, tmp_path):
    run(tmp_path / "out.zarr", **changes)
    one_level_at_most(finest(tmp_path / "out.zarr"), in_memory(pixels, **changes))


def test_colours_go_together_and_stains_do_not(run, in_memory, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    source = make_store(tmp_path / "in.zarr", image, "cyx")
    run(tmp_path / "rgb.zarr", source)  # three of 8 bits: a colour image
    one_level_at_most(finest(tmp_path / "rgb.zarr"), in_memory(image, channel_axis=0))
    run(tmp_path / "gray.zarr", source, channels="separate")
    one_level_at_most(finest(tmp_path / "gray.zarr"), in_memory(image, channel_axis=False))
    group = zarr.open_group(str(source), mode="r+")
    stains = {"channels": [{"color": c} for c in ("0000FF", "00FF00", "FF0000")]}
    group.attrs["ome"] = {**group.attrs["ome"], "omero": stains}
    run(tmp_path / "stains.zarr", source)
    np.testing.assert_array_equal(finest(tmp_path / "stains.zarr"), finest(tmp_path / "gray.zarr"))


def test_five_axes_and_16_bits(run, in_memory, tmp_path):
    image = np.random.default_rng(1).integers(0, 65536, (2, 2, 1, 20, 30), dtype=np.uint16)
    run(tmp_path / "out.zarr", make_store(tmp_path / "in.zarr", image, "tczyx"))
    expected = in_memory(image, channel_axis=False)
    error = finest(tmp_path / "out.zarr").astype(int) - expected.astype(int)
    assert np.abs(error).max() <= 257  # one level in 255


def test_a_tiled_bigtiff_with_levels_and_pixel_size(run, in_memory, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (96, 112, 3), dtype=np.uint8)
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        size = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5}
        common = {"tile": (32, 32), "photometric": "rgb", "compression": "zlib"}
        file.write(image, subifds=1, metadata={"axes": "YXS", **size}, **common)
        file.write(image[::2, ::2], subfiletype=1, **common)
    run(tmp_path / "out.zarr", path)
    channels_first = np.moveaxis(image, 2, 0)
    one_level_at_most(finest(tmp_path / "out.zarr"), in_memory(channels_first, channel_axis=0))
    scale, _ = transforms(tmp_path / "out.zarr")[0]
    np.testing.assert_allclose(scale, [1.0, 0.125, 0.0625])
    axes = zarr.open_group(str(tmp_path / "out.zarr")).attrs["ome"]["multiscales"][0]["axes"]
    assert [axis.get("unit") for axis in axes] == [None, "micrometer", "micrometer"]
    run(tmp_path / "coarse.zarr", path, level=1)
    coarse = np.moveaxis(image[::2, ::2], 2, 0)
    one_level_at_most(finest(tmp_path / "coarse.zarr"), in_memory(coarse, channel_axis=0))
    scale, _ = transforms(tmp_path / "coarse.zarr")[0]
    np.testing.assert_allclose(scale, [1.0, 0.25, 0.125])


def test_an_imagej_stack(run, in_memory, tmp_path):
    stack = np.random.default_rng(1).integers(0, 256, (3, 40, 30), dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / "s.tif", stack, imagej=True, resolution=(4.0, 2.0),
        metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"},
    )  # fmt: skip
    run(tmp_path / "out.zarr", tmp_path / "s.tif", version="0.4")
    one_level_at_most(finest(tmp_path / "out.zarr"), in_memory(stack, channel_axis=False))
    scale, _ = transforms(tmp_path / "out.zarr")[0]
    np.testing.assert_allclose(scale, [3.0, 0.5 / 4, 0.25 / 4])


def test_a_task_is_small(slide, options):
    request = prepare.prepare(slide, options)
    needs = needs_of(request.settings[0], 1)
    job, _ = prepare.planned(request, needs, fixed_map(request.dtype, None), "/tmp/x.unfinished")
    assert len(pickle.dumps(partial(tasks.write_chunk, job))) < 4096
