"""A folder of files from the widget, in a real viewer; the results read by tifffile."""

from __future__ import annotations

import json
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

import esrgan_ext as esr
from esrgan_ext.errors import OptionError
from napari_esrgan._upscale_widget import UpscaleWidget
from napari_esrgan._work.folder import run_folder
from napari_esrgan._work.pixel_size import PixelSize
from napari_esrgan._work.request import FolderRequest
from tests.napari_esrgan.conftest import largest_gap, never, words

BROKEN = "f08.tif"


@pytest.fixture
def folder(tmp_path) -> Path:
    """30 images of microscopy and one photo, one of them cut off in the middle."""
    source = tmp_path / "in"
    source.mkdir()
    for number in range(29):
        path = source / f"f{number:02d}.tif"
        kind = number % 3
        if kind == 0:
            tifffile.imwrite(
                path,
                words((2, 20, 30)),
                ome=True,
                metadata={
                    "axes": "CYX",
                    "PhysicalSizeX": 0.2, "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": 0.4, "PhysicalSizeYUnit": "µm",
                    "Channel": {"Name": ["DAPI", "GFP"], "Color": [65535, 16711935]},
                },
            )  # fmt: skip
        elif kind == 1:
            tifffile.imwrite(
                path, words((3, 20, 30)), imagej=True, resolution=(5, 5),
                metadata={"axes": "ZYX", "unit": "um", "spacing": 0.7},
            )  # fmt: skip
        else:
            tifffile.imwrite(path, words((20, 30)))
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    cv2.imwrite(str(source / "photo.png"), colours)
    whole = (source / BROKEN).read_bytes()
    (source / BROKEN).write_bytes(whole[: len(whole) // 2])
    assert len(list(source.iterdir())) == 30
    return source


@pytest.fixture
def widget(make_napari_viewer, qtbot, model_file, npe2pm) -> UpscaleWidget:
    from npe2 import PluginManifest

    if "esrgan-ext" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("esrgan-ext"))
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("esrgan-ext", "Upscale")
    qtbot.waitUntil(lambda: not widget._inventory_runner.running, timeout=60_000)
    widget.model_combo.use_file(model_file)
    qtbot.waitUntil(lambda: widget.model_combo.key == model_file, timeout=30_000)
    return widget


def described(path: Path) -> tuple[dict[str, str], list[dict[str, str]], dict]:
    """Pixels, channels and provenance of an OME-TIFF."""
    with tifffile.TiffFile(path) as file:
        root = ET.fromstring(file.ome_metadata)
    space = {"ome": root.tag.split("}")[0][1:]}
    pixels = root.find(".//ome:Pixels", space)
    channels = [c.attrib for c in pixels.findall("ome:Channel", space)]
    return pixels.attrib, channels, json.loads(root.find(".//ome:Description", space).text)


def test_thirty_files_one_of_them_broken(widget, qtbot, folder, notices, model_file):
    dialog = widget.folder_dialog
    widget.folder_button.click()
    assert dialog.isVisible()
    qtbot.keyClicks(dialog.source_line, str(folder))
    target = folder / "upscaled"
    assert dialog.target_line.text() == str(target)
    said = []
    dialog.run.reported.connect(lambda message: said.append(message.text))
    with qtbot.waitSignal(dialog.run.ended, timeout=120_000) as ended:
        dialog.start_button.click()
    assert ended.args == ["finished"]
    assert any(text.startswith("File 5 of 30, f04.tif") for text in said)
    assert "29 files done, 1 failed" in dialog.panel.status_label.text()
    assert BROKEN in dialog.log.toPlainText()
    assert [level for level, _ in notices] == ["warning"]
    names = {path.name for path in target.iterdir()}
    assert names == {f"f{n:02d}.ome.tif" for n in range(29) if n != 8} | {"photo.ome.tif"}

    pixels, channels, made = described(target / "f00.ome.tif")
    sizes = float(pixels["PhysicalSizeX"]), float(pixels["PhysicalSizeY"])
    assert sizes == pytest.approx((0.05, 0.1))
    assert pixels["PhysicalSizeXUnit"] == "µm"
    assert [(c["Name"], int(c["Color"])) for c in channels] == [("DAPI", 65535), ("GFP", 16711935)]
    assert made["esrgan"]["model"]["scale"] == 4
    assert made["esrgan"]["source"] == "f00.tif"
    result = tifffile.imread(target / "f00.ome.tif")
    source = tifffile.imread(folder / "f00.tif")
    for one, out, (low, high) in zip(
        source, result, made["esrgan"]["parameters"]["ranges"], strict=True
    ):
        expected = esr.upscale(one, model_file, data_range=(low, high), device="cpu")
        assert np.abs(out.astype(int) - expected).max() <= 1

    pixels, _, _ = described(target / "f01.ome.tif")  # ImageJ's calibration
    sizes = [float(pixels[f"PhysicalSize{k}"]) for k in "XYZ"]
    assert sizes == pytest.approx([0.05, 0.05, 0.7])
    assert tifffile.imread(target / "photo.ome.tif").shape == (80, 120, 3)

    # Once more: what is there is left alone.
    before = (target / "f00.ome.tif").stat().st_mtime_ns
    with qtbot.waitSignal(dialog.run.ended, timeout=60_000):
        dialog.start_button.click()
    assert "0 files done, 29 had a result already, 1 failed" in dialog.panel.status_label.text()
    assert (target / "f00.ome.tif").stat().st_mtime_ns == before


def test_cancel_takes_less_than_a_second_and_keeps_what_is_done(widget, qtbot, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number in range(30):
        tifffile.imwrite(source / f"{number:02d}.tif", words((300, 300)))
    widget.model_combo.choose("lite-psnr-x4")
    dialog = widget.folder_dialog
    widget.show_folder()
    dialog.source_line.setText(str(source))
    done = []
    dialog.run.file_done.connect(done.append)
    dialog.start_button.click()
    qtbot.waitUntil(lambda: len(done) >= 2, timeout=120_000)
    begin = time.perf_counter()
    with qtbot.waitSignal(dialog.run.ended, timeout=30_000) as ended:
        dialog.panel.cancel_button.click()
    taken = time.perf_counter() - begin
    print(f"cancelled after {taken:.2f} s")
    assert ended.args == ["cancelled"]
    assert taken < 1
    results = sorted((source / "upscaled").iterdir())
    assert len(results) == len(done) < 30
    assert f"{len(done)} files done" in dialog.panel.status_label.text()
    for path in results:
        assert tifffile.imread(path).shape == (1200, 1200)


def request_for(source: Path, target: Path, model: str, **changes) -> FolderRequest:
    options = {"model": model, "outscale": None, "device": "cpu"}
    fields = {"recursive": False, "overwrite": False, "value_range": None} | changes
    return FolderRequest(source, target, options=options, **fields)


def test_results_have_a_folder_of_their_own(tmp_path, model_file):
    tifffile.imwrite(tmp_path / "a.tif", words((8, 8)))
    with pytest.raises(OptionError, match="folder of their own"):
        run_folder(request_for(tmp_path, tmp_path, model_file), lambda _: None, never)
    with pytest.raises(OptionError, match="no such folder"):
        run_folder(request_for(tmp_path / "x", tmp_path, model_file), lambda _: None, never)


def test_names_below_and_alike(tmp_path, model_file):
    source = tmp_path / "in"
    (source / "below").mkdir(parents=True)
    tifffile.imwrite(source / "a.ome.tif", words((8, 8)), ome=True)
    tifffile.imwrite(source / "a.tif", words((9, 9)))
    tifffile.imwrite(source / "below" / "b.tif", words((8, 8)))
    target = tmp_path / "out"
    request = request_for(source, target, model_file, recursive=True)
    assert run_folder(request, lambda _: None, never).done == 3
    shapes = {
        str(path.relative_to(target)): tifffile.imread(path).shape
        for path in target.rglob("*.ome.tif")
    }
    assert shapes == {
        "a.ome.tif": (32, 32), "a.tif.ome.tif": (36, 36), "below/b.ome.tif": (32, 32)
    }  # fmt: skip


def test_a_result_beyond_the_memory_budget_leaves_no_store(tmp_path, model_file):
    source, stores = tmp_path / "in", tmp_path / "stores"
    source.mkdir()
    pixels = words((40, 50))
    tifffile.imwrite(source / "a.tif", pixels)
    for name, budget in (("disk", 0), ("memory", 1e9)):
        request = request_for(source, tmp_path / name, model_file)
        request.options.update(budget_bytes=budget, folder=stores)
        assert run_folder(request, lambda _: None, never).done == 1
    results = [tifffile.imread(tmp_path / n / "a.ome.tif") for n in ("disk", "memory")]
    np.testing.assert_array_equal(*results)
    assert [p for p in stores.rglob("*") if p.name == "zarr.json"] == []


def test_each_file_is_scaled_to_a_pixel_size(tmp_path, model_file):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, per_um in (("fine", 5), ("coarse", 2.5)):
        tifffile.imwrite(
            source / f"{name}.tif", words((20, 30)), imagej=True,
            resolution=(per_um, per_um), metadata={"unit": "um"},
        )  # fmt: skip
    tifffile.imwrite(source / "unknown.tif", words((20, 30)))
    size = PixelSize(100, "nanometer")
    outcome = run_folder(
        request_for(source, target, model_file, pixel_size=size), lambda _: None, never
    )
    assert tifffile.imread(target / "fine.ome.tif").shape == (40, 60)
    assert tifffile.imread(target / "coarse.ome.tif").shape == (80, 120)
    for name in ("fine", "coarse"):
        pixels, _, _ = described(target / f"{name}.ome.tif")
        assert float(pixels["PhysicalSizeX"]) == pytest.approx(0.1)
    (failed,) = outcome.failed
    assert failed.source.name == "unknown.tif"
    assert "no pixel size" in failed.error


def test_what_else_ome_says_is_kept(tmp_path, model_file):
    source = tmp_path / "in"
    source.mkdir()
    about = {
        "axes": "CYX",
        "Name": "plate 3",
        "AcquisitionDate": "2024-05-06T07:08:09",
        "Description": "fixed, <b>60x",
        "Channel": {
            "Name": ["DAPI", "GFP"],
            "EmissionWavelength": [460.0, 510.0],
            "EmissionWavelengthUnit": ["nm", "nm"],
        },
    }
    tifffile.imwrite(source / "a.tif", words((2, 8, 9)), ome=True, metadata=about)
    run_folder(request_for(source, tmp_path / "out", model_file), lambda _: None, never)
    path = tmp_path / "out" / "a.ome.tif"
    _, channels, made = described(path)
    assert [c["Name"] for c in channels] == ["DAPI", "GFP"]
    assert [float(c["EmissionWavelength"]) for c in channels] == [460, 510]
    assert made["esrgan"]["description"] == "fixed, <b>60x"
    image = ET.fromstring(tifffile.TiffFile(path).ome_metadata).find("{*}Image")
    assert image.attrib["Name"] == "plate 3"
    assert image.find("{*}AcquisitionDate").text == "2024-05-06T07:08:09"


def test_closing_the_dock_ends_the_folder(widget, qtbot, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number in range(9):
        tifffile.imwrite(source / f"{number}.tif", words((300, 300)))
    widget.model_combo.choose("lite-psnr-x4")
    dialog = widget.folder_dialog
    widget.show_folder()
    dialog.source_line.setText(str(source))
    dialog.start_button.click()
    running = "esrgan-folder"
    qtbot.waitUntil(lambda: any(t.name == running for t in threading.enumerate()))
    widget._viewer.window.remove_dock_widget("all")
    qtbot.waitUntil(lambda: not any(t.name == running for t in threading.enumerate()), timeout=9000)
    assert not dialog.isVisible()
    assert len(list((source / "upscaled").glob("*"))) < 9


def test_the_frame_interval_of_imagej_is_kept(tmp_path, model_file):
    source = tmp_path / "in"
    source.mkdir()
    for name, unit in (("s", "sec"), ("m", "min"), ("odd", "fortnight")):
        about = {"axes": "TYX", "unit": "um", "finterval": 2.0, "tunit": unit}
        tifffile.imwrite(
            source / f"{name}.tif", words((6, 8, 9)), imagej=True, resolution=(5, 5), metadata=about
        )
    run_folder(request_for(source, tmp_path / "out", model_file), lambda _: None, never)
    found = [described(tmp_path / "out" / f"{n}.ome.tif")[0] for n in ("s", "m", "odd")]
    assert [one.get("TimeIncrement") for one in found] == ["2.0", "120.0", None]
    assert found[1]["TimeIncrementUnit"] == "s"


def test_alpha_and_files_of_several_images(tmp_path, model_file):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    pixels = np.random.default_rng(0).integers(1, 255, (8, 9, 4), np.uint8)
    cv2.imwrite(str(source / "alpha.png"), pixels)
    with tifffile.TiffWriter(source / "two.tif", ome=True) as writer:
        for side, name in ((8, "first"), (12, "second")):
            writer.write(words((side, side)), metadata={"axes": "YX", "Name": name})
    assert run_folder(request_for(source, target, model_file), lambda _: None, never).done == 2
    with tifffile.TiffFile(target / "alpha.ome.tif") as file:
        assert file.series[0].axes == "YXS"
        result = file.asarray()
        assert [int(one) for one in file.pages[0].extrasamples] == [2]  # alpha, unassociated
    expected = esr.upscale(pixels[..., [2, 1, 0, 3]], model_file, channel_axis=-1, device="cpu")
    assert np.abs(result.astype(int) - expected).max() <= 1
    with tifffile.TiffFile(target / "two.ome.tif") as file:
        assert [one.shape for one in file.series] == [(32, 32), (48, 48)]
        assert [one.name for one in file.series] == ["first", "second"]


def test_the_window_answers_while_a_folder_runs(widget, qtbot, tmp_path):
    """A 20 ms timer waits less than 250 ms; of three runs one counts that nothing else held up."""
    source = tmp_path / "in"
    source.mkdir()
    for number in range(3):
        tifffile.imwrite(source / f"{number}.tif", words((200, 200)))
    widget.model_combo.choose("lite-psnr-x4")
    dialog = widget.folder_dialog
    widget.show_folder()
    dialog.source_line.setText(str(source))
    dialog.overwrite_check.setChecked(True)

    def run() -> None:
        with qtbot.waitSignal(dialog.run.ended, timeout=60_000):
            dialog.start_button.click()

    run()  # imports, kernels
    gaps = [largest_gap(qtbot, run)]
    while gaps[-1] >= 0.25 and len(gaps) < 3:
        gaps.append(largest_gap(qtbot, run))
    print(f"largest gaps: {', '.join(f'{gap:.3f}' for gap in gaps)} s")
    assert min(gaps) < 0.25


def test_the_folder_window_by_keyboard(widget, qtbot, tmp_path, model_file):
    source = tmp_path / "in"
    source.mkdir()
    tifffile.imwrite(source / "a.tif", words((8, 9)))
    widget.folder_button.setFocus()
    QTest.keyClick(widget.folder_button, Qt.Key.Key_Space)
    dialog = widget.folder_dialog
    qtbot.waitUntil(dialog.isVisible)
    QTest.keyClicks(dialog.source_line, str(source))
    reached, here = [], dialog.source_line
    for _ in range(20):
        reached.append(here)
        here = here.nextInFocusChain()
    parts = (
        dialog.target_line, dialog.recursive_check, dialog.overwrite_check, dialog.start_button,
        dialog.panel.cancel_button, dialog.log,
    )  # fmt: skip
    order = [reached.index(part) for part in parts]
    assert order == sorted(order), "Tab goes from top to bottom"
    assert all(part.focusPolicy() & Qt.FocusPolicy.TabFocus for part in parts)
    with qtbot.waitSignal(dialog.run.ended, timeout=60_000):
        QTest.keyClick(dialog.source_line, Qt.Key.Key_Return)
    assert (source / "upscaled" / "a.ome.tif").exists()
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()
