"""What cannot be upscaled is refused in words, and leaves nothing that looks like a result."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
import tifffile
import zarr

from esrgan_ext import EsrganError, ImageError, ImageFileError, OptionError, SchedulerError
from esrgan_ext.inference.large.store import executors
from esrgan_ext.inference.large.store.options import parse_region
from esrgan_ext.inference.tiles import Rect
from tests.inference.large.conftest import Recorder, finest, make_store, one_level_at_most

SMALL = np.arange(400, dtype=np.uint8).reshape(20, 20)


@pytest.fixture(autouse=True)
def nothing_that_looks_finished(request, tmp_path):
    yield
    if "missing" not in request.node.name:
        assert not (tmp_path / "out.zarr").exists()


def edited(tmp_path, change) -> object:
    """A store whose OME metadata are changed."""
    path = make_store(tmp_path / "in.zarr", SMALL, "yx")
    metadata = json.loads((path / "zarr.json").read_text())
    change(metadata["attributes"])
    (path / "zarr.json").write_text(json.dumps(metadata))
    return path


def test_missing_chunks_are_the_fill_value_with_a_warning(run, pixels, in_memory, tmp_path):
    source = make_store(tmp_path / "in.zarr", pixels, "zyx")
    for name in ("0/1/2", "1/0/0"):
        (source / "s0" / "c" / name).unlink()
    events = Recorder()
    run(tmp_path / "out.zarr", source, events)
    assert any("2 of 24 chunks of in.zarr are missing" in note for note in events.notes)
    filled = np.asarray(zarr.open_group(str(source), mode="r")["s0"])
    assert (filled[0, 32:64, 64:96] == 0).all()
    one_level_at_most(finest(tmp_path / "out.zarr"), in_memory(filled))


def axes(*names):
    def change(attributes):
        attributes["ome"]["multiscales"][0]["axes"] = [
            {"name": n, "type": "channel" if n == "c" else "space"} for n in names
        ]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (axes("x", "y"), "its axes are 'x', 'y'"),
        (axes("c", "y"), "its axes are 'c', 'y'"),
        (axes("z", "y", "x"), "names 3 axes, its array has 2"),
        (axes(), "its axes are none"),
        (lambda a: a["ome"].update(version="0.2"), r"OME-Zarr 0\.2 is not read"),
        (lambda a: a["ome"].pop("multiscales"), "without OME's metadata"),
        (lambda a: a["ome"].update(multiscales=[]), "damaged|without OME"),
        (lambda a: a["ome"]["multiscales"][0].pop("axes"), "metadata are damaged"),
        (
            lambda a: a["ome"]["multiscales"][0]["datasets"][0].update(path="nowhere"),
            "level 'nowhere' is missing",
        ),
        (
            lambda a: a["ome"]["multiscales"][0]["datasets"][0].update(
                coordinateTransformations=[{"type": "affine"}]
            ),
            "transformations of 's0' cannot be used",
        ),
        (lambda a: a.pop("ome"), "without OME's metadata"),
        (lambda a: a["ome"].update(plate={}, multiscales=None) or a["ome"].pop("multiscales"),
         "holds several images"),
    ],
)  # fmt: skip
def test_stores_that_are_no_image(change, message, run, tmp_path):
    with pytest.raises(EsrganError, match=message):
        run(tmp_path / "out.zarr", edited(tmp_path, change))


def test_what_is_no_group_at_all(run, tmp_path):
    with pytest.raises(ImageFileError, match="no such store"):
        run(tmp_path / "out.zarr", tmp_path / "nowhere.zarr")
    zarr.save_array(str(tmp_path / "array.zarr"), SMALL)
    with pytest.raises(ImageFileError, match="upscale_lazy"):
        run(tmp_path / "out.zarr", tmp_path / "array.zarr")
    (tmp_path / "folder.zarr").mkdir()
    with pytest.raises(ImageFileError, match="not an OME-Zarr image"):
        run(tmp_path / "out.zarr", tmp_path / "folder.zarr")
    damaged = make_store(tmp_path / "damaged.zarr", SMALL, "yx")
    (damaged / "zarr.json").write_text("{")
    with pytest.raises(ImageFileError, match="not an OME-Zarr image"):
        run(tmp_path / "out.zarr", damaged)


def test_types_and_channels_that_cannot_be_upscaled(run, tmp_path):
    source = make_store(tmp_path / "c.zarr", SMALL.astype(np.complex64), "yx")
    with pytest.raises(ImageError, match="complex64"):
        run(tmp_path / "out.zarr", source)
    gray = make_store(tmp_path / "g.zarr", SMALL, "yx")
    with pytest.raises(OptionError, match="RGB needs 3 or 4 channels"):
        run(tmp_path / "out.zarr", gray, channels="rgb")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": 7}, "levels 0 to 1"),
        ({"region": Rect(0, 10, 0, 117)}, "reaches beyond the image of 90 x 116"),
        ({"version": "0.3"}, "0.4 or 0.5"),
        ({"tile": 0}, "tile must be"),
        ({"memory_limit": 100_000_000, "tile": "auto"}, "cannot hold one tile"),
        ({"scheduler": "mpi"}, "threads, processes or an address"),
        ({"scheduler": "processes", "workers": 0}, "at least one worker"),
        ({"scheduler": "tcp://127.0.0.1:1", "workers": 2}, "has its own workers"),
        ({"outscale": -1}, "outscale must be"),
        ({"data_range": "some"}, "data_range must be"),
    ],
)
def test_options_that_cannot_be_used(changes, message, run, tmp_path):
    with pytest.raises(OptionError, match=message):
        run(tmp_path / "out.zarr", **changes)
    assert not list(tmp_path.iterdir())


def test_the_result_does_not_take_the_place_of_its_source(run, slide):
    with pytest.raises(OptionError, match="place of the input"):
        run(slide, overwrite=True)
    assert (slide / "zarr.json").exists()


def test_a_scheduler_that_does_not_answer(run, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE", 0.5)  # seconds; 5 for users
    start = time.monotonic()
    with pytest.raises(SchedulerError, match="no dask scheduler answers"):
        run(tmp_path / "out.zarr", scheduler="tcp://127.0.0.1:9")
    assert time.monotonic() - start < 30


def test_a_scheduler_without_workers(run, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE", 0.5)
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as empty,
        pytest.raises(SchedulerError, match="has no workers"),
    ):
        run(tmp_path / "out.zarr", scheduler=empty.scheduler_address)


def test_a_truncated_tiff(run, tmp_path):
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), tile=(32, 32))
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(ImageFileError, match="truncated"):
        run(tmp_path / "out.zarr", path)
    path.write_bytes(b"not a TIFF")
    with pytest.raises(ImageFileError, match=r"truncated|damaged"):
        run(tmp_path / "out.zarr", path)


def test_a_folder_of_somebody_else_is_left_alone(run, tmp_path):
    other = tmp_path / "out.zarr.unfinished"
    other.mkdir()
    (other / "novel.txt").write_text("x")
    with pytest.raises(OptionError, match="holds other things"):
        run(tmp_path / "out.zarr")
    assert (other / "novel.txt").read_text() == "x"


def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ImageFileError, match="cannot be written"):
        run(tmp_path / "file" / "out.zarr")


@pytest.mark.parametrize("text", ["", "1:2", "1:2,3", "a:b,c:d", "5:5,0:9", "9:1,0:9", "-1:4,0:9"])
def test_regions_that_are_none(text):
    with pytest.raises(OptionError, match="region"):
        parse_region(text)


def test_a_region():
    assert parse_region(" 1:20, 3:40") == Rect(1, 20, 3, 40)


def test_the_source_stays_as_it_is(run, slide, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(slide, copy)
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    run(tmp_path / "missing-nothing.zarr", copy)
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == before
