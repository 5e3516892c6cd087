"""TIFF files: stacks, layouts, compressions, calibration. tifffile and Pillow are witnesses."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.files import read_image, write_image


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(5).random(shape)
    if dtype == "bool":
        return values > 0.5
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return (values * np.iinfo(dtype).max).astype(dtype)


def doubled(array: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return array.repeat(2, axis=rows).repeat(2, axis=columns)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64", "bool"])
def test_every_type_comes_back(tmp_path, dtype) -> None:
    ours = noise((11, 13), dtype)
    write_image(tmp_path / "a.tif", ours)
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.pixels, ours)
    assert found.pixels.dtype == ours.dtype
    assert found.channel_axis is False


@pytest.mark.parametrize(
    ("shape", "options", "colour"),
    [
        ((5, 12, 14), {"photometric": "minisblack"}, False),
        ((5, 12, 14, 3), {"photometric": "rgb"}, True),
        ((2, 5, 12, 14), {"imagej": True, "metadata": {"axes": "TZYX"}}, False),
        ((3, 2, 12, 14), {"imagej": True, "metadata": {"axes": "ZCYX"}}, False),
        ((3, 4, 12, 14), {"ome": True, "metadata": {"axes": "CZYX"}}, False),
        ((3, 12, 14, 3), {"ome": True, "metadata": {"axes": "ZYXS"}, "photometric": "rgb"}, True),
    ],
    ids=["pages", "colour pages", "imagej TZ", "imagej ZC", "ome CZ", "ome colour"],
)
def test_stacks_are_read_whole_and_laid_out_as_they_were(tmp_path, shape, options, colour) -> None:
    ours = noise(shape)
    tifffile.imwrite(tmp_path / "in.tif", ours, **options)

    found = read_image(tmp_path / "in.tif")

    np.testing.assert_array_equal(found.pixels, ours)
    assert found.channel_axis == (len(shape) - 1 if colour else False)
    rows = len(shape) - (3 if colour else 2)
    larger = doubled(ours, rows, rows + 1)
    write_image(tmp_path / "out.tif", larger, like=found)
    with (
        tifffile.TiffFile(tmp_path / "in.tif") as before,
        tifffile.TiffFile(tmp_path / "out.tif") as after,
    ):
        np.testing.assert_array_equal(after.series[0].asarray(), larger)
        assert (after.is_imagej, after.is_ome) == (before.is_imagej, before.is_ome)
        if before.is_imagej or before.is_ome:
            assert after.series[0].axes == before.series[0].axes
        assert len(after.pages) == len(before.pages)


def test_colour_planes_become_colour_pixels(tmp_path) -> None:
    planes = noise((3, 12, 14))
    tifffile.imwrite(tmp_path / "in.tif", planes, photometric="rgb", planarconfig="separate")
    found = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(found.pixels, np.moveaxis(planes, 0, -1))


def test_white_is_zero_is_inverted(tmp_path) -> None:
    ours = noise((12, 14))
    tifffile.imwrite(tmp_path / "in.tif", ours, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif").pixels, 255 - ours)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_deflate"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "P", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_image_editors_write(tmp_path, mode, compression, orientation) -> None:
    colour = Image.fromarray(noise((24, 30, 4)), "RGBA")
    if mode == "I;16":
        image = Image.fromarray(noise((24, 30), "uint16"))
    else:
        image = colour.convert("RGB").convert("P") if mode == "P" else colour.convert(mode)
    exif = Image.Exif()
    exif[0x112] = orientation
    image.save(tmp_path / "in.tif", compression=compression, exif=exif.tobytes())
    expected = np.asarray(image.convert("RGB") if mode in ("P", "CMYK") else image)

    found = read_image(tmp_path / "in.tif")

    turned = np.rot90(expected, -1) if orientation == 6 else expected
    np.testing.assert_array_equal(found.pixels, turned)


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize(
    ("samples", "dtype"), [(1, "uint8"), (1, "uint16"), (3, "uint8"), (4, "uint8")]
)
def test_lzw_with_a_predictor(tmp_path, samples, dtype, predictor) -> None:
    ours = noise((20, 33, samples)[: 3 if samples > 1 else 2], dtype)
    image = Image.fromarray(ours)
    image.save(tmp_path / "in.tif", compression="tiff_lzw", tiffinfo={317: predictor})
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif").pixels, ours)


def test_pages_of_lzw(tmp_path) -> None:
    pages = [Image.fromarray(noise((20, 33, 3)) // (k + 1)) for k in range(3)]
    pages[0].save(
        tmp_path / "in.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw"
    )
    found = read_image(tmp_path / "in.tif").pixels
    np.testing.assert_array_equal(found, np.stack([np.asarray(page) for page in pages]))


def test_jpeg_compression_without_alpha(tmp_path) -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))
    Image.fromarray(smooth).save(tmp_path / "in.tif", compression="jpeg")
    found = read_image(tmp_path / "in.tif").pixels
    assert np.abs(found.astype(int) - smooth).max() < 8


def test_uncompressed_stays_uncompressed_and_compressed_compressed(tmp_path) -> None:
    flat = np.zeros((100, 100), np.uint8)
    for compression, expected in ((None, 1), ("zlib", 8)):
        tifffile.imwrite(tmp_path / "in.tif", flat, compression=compression)
        write_image(tmp_path / "out.tif", flat, like=read_image(tmp_path / "in.tif"))
        with tifffile.TiffFile(tmp_path / "out.tif") as result:
            assert int(result.pages.first.compression) == expected


def test_print_resolution_stays_and_calibration_follows_the_pixels(tmp_path) -> None:
    ours = noise((2, 12, 14))
    larger = doubled(ours, 1, 2)
    tifffile.imwrite(tmp_path / "print.tif", ours[0], resolution=(300, 300), resolutionunit=2)
    write_image(tmp_path / "out.tif", larger[0], like=read_image(tmp_path / "print.tif"))
    with Image.open(tmp_path / "out.tif") as witness:
        assert witness.info["dpi"] == (300, 300)

    tifffile.imwrite(
        tmp_path / "ij.tif", ours, imagej=True, resolution=(4.0, 4.0),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 0.5},
    )  # fmt: skip
    write_image(tmp_path / "out.tif", larger, like=read_image(tmp_path / "ij.tif"))
    with tifffile.TiffFile(tmp_path / "out.tif") as result:
        above, below = result.pages.first.tags["XResolution"].value
        assert above / below == pytest.approx(8.0)
        assert result.imagej_metadata["unit"] == "um"
        assert result.imagej_metadata["spacing"] == 0.5

    tifffile.imwrite(
        tmp_path / "ome.tif", ours, ome=True,
        metadata={"axes": "ZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25,
                  "PhysicalSizeXUnit": "µm", "PhysicalSizeZ": 1.5},
    )  # fmt: skip
    write_image(tmp_path / "out.tif", larger, like=read_image(tmp_path / "ome.tif"))
    with tifffile.TiffFile(tmp_path / "out.tif") as result:
        pixels = tifffile.xml2dict(result.ome_metadata)["OME"]["Image"]["Pixels"]
        assert pixels["PhysicalSizeX"] == 0.125
        assert pixels["PhysicalSizeZ"] == 1.5


def test_descriptive_tags_and_gps_are_carried_over(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x8298] = "CC0"
    exif[0x13B] = "someone"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.5)
    Image.fromarray(noise((12, 14))).save(tmp_path / "in.tif", exif=exif.tobytes())
    write_image(tmp_path / "out.tif", noise((24, 28)), like=read_image(tmp_path / "in.tif"))
    with Image.open(tmp_path / "out.tif") as witness:
        found = witness.getexif()
        assert found[0x8298] == "CC0"
        assert found[0x13B] == "someone"
        assert [float(part) for part in found.get_ifd(0x8825)[2]] == [52.0, 31.0, 12.5]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99])
def test_truncated(tmp_path, compression, keep) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noise((100, 100)), compression=compression)
    data = (tmp_path / "in.tif").read_bytes()
    (tmp_path / "in.tif").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ImageFileError, match=r"in\.tif.*(truncated|damaged)"):
        read_image(tmp_path / "in.tif")


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize(
    "shapes", [[(10, 12), (20, 24)], [(10, 12, 3), (10, 12)], [(3, 10, 12), (11, 12), (8, 8, 4)]]
)
def test_several_images_in_one_file(tmp_path, shapes, ome) -> None:
    images = [noise(shape) for shape in shapes]
    with tifffile.TiffWriter(tmp_path / "in.tif", ome=ome) as writer:
        for image in images:
            kind = "rgb" if image.shape[-1] in (3, 4) else "minisblack"
            writer.write(image, photometric=kind)

    found = read_image(tmp_path / "in.tif")
    doubled = [one.pixels.repeat(2, -1) if one.channel_axis is False else one.pixels
               for one in (found, *found.further)]  # fmt: skip
    write_image(
        tmp_path / "out.tif", doubled[0], like=found,
        further=list(zip(found.further, doubled[1:], strict=True)),
    )  # fmt: skip

    assert len(found.further) == len(images) - 1
    for one, image in zip((found, *found.further), images, strict=True):
        np.testing.assert_array_equal(one.pixels, image)
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert tif.is_ome == ome
        assert len(tif.series) == len(images)
        for series, pixels in zip(tif.series, doubled, strict=True):
            np.testing.assert_array_equal(series.asarray().squeeze(), pixels)
    for number, image in enumerate(images):
        np.testing.assert_array_equal(read_image(tmp_path / "in.tif", series=number).pixels, image)
    with pytest.raises(ImageFileError, match=f"there is no series {len(images)}"):
        read_image(tmp_path / "in.tif", series=len(images))


def test_a_reduced_copy_is_no_image_of_its_own(tmp_path) -> None:
    large = noise((64, 64))
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(large)
        writer.write(large[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif").pixels, large)
