"""Saved layers, read by tifffile and an XML parser."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tifffile
from napari.layers import Image

from esrgan_ext.errors import ImageFileError
from napari_esrgan._writer import write_ome_tiff

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
