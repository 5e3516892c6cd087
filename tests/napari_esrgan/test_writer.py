"""Saved layers, read by tifffile and an XML parser."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pytest
import tifffile
from napari.layers import Image

from esrgan_ext.errors import ImageFileError
from napari_esrgan._writer import write_mp4, write_ome_tiff

RNG = np.random.default_rng(0)
MADE = {"esrgan": {"model": {"name": "lite-psnr-x4", "sha256": "abc"}, "seconds": 1.5}}


def saved(path, layer):
    data, attributes, kind = layer.as_layer_data_tuple()
    assert kind == "image"
    assert write_ome_tiff(str(path), data, attributes) == [str(path)]
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        root = ET.fromstring(file.ome_metadata)
        space = {"ome": root.tag.split("}")[0][1:]}
        pixels = root.find(".//ome:Pixels", space)
        description = root.find(".//ome:Description", space)
        image = root.find(".//ome:Image", space)
        return file.asarray(), file.series[0].axes, pixels.attrib, description, image


def test_pixel_size_units_axes_and_provenance(tmp_path):
    data = RNG.integers(0, 4000, (3, 20, 30), np.uint16)
    layer = Image(
        data,
        name="cells <b>&\x1b x4",
        scale=(0.5, 0.08125, 0.08125),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
        metadata=MADE,
    )
    array, axes, pixels, description, image = saved(tmp_path / "a.ome.tif", layer)
    np.testing.assert_array_equal(array, data)
    assert axes == "ZYX"
    assert float(pixels["PhysicalSizeX"]) == pytest.approx(0.08125)
    assert float(pixels["PhysicalSizeZ"]) == pytest.approx(0.5)
    assert {pixels[f"PhysicalSize{k}Unit"] for k in "XYZ"} == {"µm"}
    assert json.loads(description.text)["esrgan"] == MADE["esrgan"]
    assert image.attrib["Name"] == "cells <b>&\\x1b x4"
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.tif"]


def test_time_and_colour(tmp_path):
    movie = RNG.integers(0, 255, (4, 20, 30, 3), np.uint8)
    layer = Image(
        movie, rgb=True, scale=(2, 1, 1), units=("s", "pixel", "pixel"), axis_labels=("t", "y", "x")
    )
    array, axes, pixels, _, _ = saved(tmp_path / "m.ome.tif", layer)
    np.testing.assert_array_equal(array, movie)
    assert axes == "TYXS"
    assert (float(pixels["TimeIncrement"]), pixels["TimeIncrementUnit"]) == (2, "s")


@pytest.mark.parametrize(
    ("unit", "size", "written"),
    [
        ("um", 0.2, (0.2, "µm")),
        ("micron", 0.2, (0.2, "µm")),
        ("foot", 2, (609600, "µm")),  # none of OME's
        ("pixel", 2, (2, "pixel")),
        ("second", 2, (2, "pixel")),  # y in seconds is no length
    ],
)
def test_every_unit_of_length_is_written_as_one(tmp_path, unit, size, written):
    path = tmp_path / "u.ome.tif"
    attributes = {"scale": (size, size), "units": (unit, unit)}
    write_ome_tiff(str(path), np.zeros((4, 5), np.uint8), attributes)
    root = ET.fromstring(tifffile.TiffFile(path).ome_metadata)
    pixels = root.find(".//{*}Pixels").attrib
    assert float(pixels["PhysicalSizeX"]) == pytest.approx(written[0])
    assert pixels["PhysicalSizeXUnit"] == written[1]


def test_unlabelled_and_multiscale_layers(tmp_path):
    fine = RNG.random((64, 48)).astype(np.float32)
    layer = Image([fine, fine[::2, ::2]], multiscale=True)
    array, axes, pixels, _, _ = saved(tmp_path / "p.ome.tif", layer)
    np.testing.assert_array_equal(array, fine)
    assert axes == "YX"
    assert pixels["PhysicalSizeXUnit"] == "pixel"


@pytest.mark.parametrize(
    ("data", "words"),
    [(np.zeros((1, 1, 1, 1, 2, 2), np.uint8), "axes"), (np.zeros((2, 2), np.int64), "float32")],
)
def test_what_the_format_lacks_is_refused_and_nothing_is_left(tmp_path, data, words):
    with pytest.raises(ImageFileError, match=words):
        write_ome_tiff(str(tmp_path / "x.ome.tif"), data, {})
    assert not list(tmp_path.iterdir())


def test_a_large_plane_is_written_in_bands(tmp_path):
    """No more of a plane than a band of tiles is asked for, and every pixel arrives."""
    data = RNG.integers(0, 255, (2, 600, 5000), np.uint8)
    asked = []

    class Watched:
        shape, dtype, ndim = data.shape, data.dtype, 3

        def __getitem__(self, index):
            part = data[index]
            asked.append(part.size)
            return part

    path = tmp_path / "large.ome.tif"
    attributes = {"axis_labels": ("c", "y", "x")}
    write_ome_tiff(str(path), Watched(), attributes)
    np.testing.assert_array_equal(tifffile.imread(path), data)
    assert max(asked) <= 512 * 5000
    assert tifffile.TiffFile(path).series[0].axes == "CYX"


def test_axes_in_another_order_are_turned(tmp_path):
    data = RNG.integers(0, 255, (30, 4, 20), np.uint8)
    layer = Image(data, axis_labels=("x", "z", "y"), scale=(0.1, 2, 0.3), units=("um",) * 3)
    array, axes, pixels, _, _ = saved(tmp_path / "x.ome.tif", layer)
    np.testing.assert_array_equal(array, data.transpose(1, 2, 0))
    assert axes == "ZYX"
    sizes = [float(pixels[f"PhysicalSize{k}"]) for k in "ZYX"]
    assert sizes == pytest.approx([2, 0.3, 0.1])


def channels_of(path) -> list[tuple[str, int]]:
    root = ET.fromstring(tifffile.TiffFile(path).ome_metadata)
    space = {"ome": root.tag.split("}")[0][1:]}
    found = root.findall(".//ome:Channel", space)
    return [(one.attrib.get("Name"), int(one.attrib.get("Color", 0))) for one in found]


def test_names_of_a_multichannel_source_come_back(tmp_path):
    source = tmp_path / "in.ome.tif"
    pixels = np.zeros((2, 8, 9), np.uint16)
    names = {"Name": ["DAPI", "GFP"]}
    tifffile.imwrite(source, pixels, ome=True, metadata={"axes": "CYX", "Channel": names})
    made = {"source_path": str(source), "parameters": {"axes": ["channel", "y", "x"]}}
    saved(tmp_path / "out.ome.tif", Image(pixels, metadata={"esrgan": made}))
    assert [name for name, _ in channels_of(tmp_path / "out.ome.tif")] == ["DAPI", "GFP"]


def test_file_save_in_a_viewer(tmp_path, make_napari_viewer, npe2pm):
    """One layer, and several as channels with the names and colours that they have."""
    from npe2 import PluginManifest

    if "esrgan-ext" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("esrgan-ext"))
    viewer = make_napari_viewer()
    data = RNG.integers(0, 4000, (2, 3, 20, 30), np.uint16)
    viewer.add_image(
        data,
        channel_axis=0,
        name=["DAPI", "GFP <b>"],
        colormap=["blue", "green"],
        scale=(0.5, 0.1, 0.1),
        units=("um",) * 3,
    )
    one = tmp_path / "one.ome.tif"
    assert viewer.layers[0].save(str(one)) == [str(one)]
    assert channels_of(one) == [("DAPI", 0x0000FFFF)]
    both = tmp_path / "both.ome.tif"
    assert viewer.layers.save(str(both)) == [str(both)]
    assert channels_of(both) == [("DAPI", 0x0000FFFF), ("GFP <b>", 0x00FF00FF)]
    np.testing.assert_array_equal(tifffile.imread(both), data)
    with tifffile.TiffFile(both) as file:
        assert file.series[0].axes == "CZYX"
        assert 'PhysicalSizeX="0.1"' in file.ome_metadata
        assert 'PhysicalSizeZ="0.5"' in file.ome_metadata
    viewer.layers[1].translate = (0, 5, 5)
    with pytest.raises(ImageFileError, match="place"):
        viewer.layers.save(str(both))


class Lazy:
    """A clip whose frames are read one by one, as a lazy reader's; notes which were."""

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames
        self.shape, self.dtype, self.ndim = frames.shape, frames.dtype, frames.ndim
        self.read: list[int] = []

    def __getitem__(self, index: int) -> np.ndarray:
        self.read.append(index)
        return self._frames[index]


def frames_of_mp4(path) -> tuple[list[np.ndarray], float]:
    """What OpenCV decodes, RGB, and the frames a second."""
    video = cv2.VideoCapture(str(path))
    found = []
    while True:
        there, frame = video.read()
        if not there:
            return found, video.get(cv2.CAP_PROP_FPS)
        found.append(frame[..., ::-1])


def test_a_lazy_clip_becomes_mp4_frame_by_frame(tmp_path):
    clip = np.zeros((5, 32, 48, 3), np.uint8)
    for number, frame in enumerate(clip):
        frame[..., 0], frame[..., 2] = 40 * number, 200
    lazy = Lazy(clip)
    path = str(tmp_path / "clip.mp4")
    units = ("second", "pixel", "pixel")
    assert write_mp4(path, lazy, {"rgb": True, "scale": (0.1, 1, 1), "units": units}) == [path]
    assert set(lazy.read) == set(range(5))
    found, rate = frames_of_mp4(path)
    assert rate == pytest.approx(10)
    assert len(found) == 5
    for frame, expected in zip(found, clip, strict=True):
        assert np.abs(frame.mean((0, 1)) - expected.mean((0, 1))).max() < 6


def test_a_gray_stack_becomes_mp4_as_its_contrast_limits_show_it(tmp_path):
    stack = np.full((3, 16, 16), 1000, np.uint16)
    stack[1] = 2000
    write_mp4(str(tmp_path / "a.mp4"), stack, {"contrast_limits": (0, 2000)})
    found, rate = frames_of_mp4(tmp_path / "a.mp4")
    assert rate == pytest.approx(25)
    assert [round(frame.mean()) for frame in found] == pytest.approx(
        [128, 255, 128], abs=6
    )  # the codec's range
    with pytest.raises(ImageFileError, match="T, Y, X"):
        write_mp4(str(tmp_path / "b.mp4"), stack[0], {})
    assert not (tmp_path / "b.mp4").exists()
