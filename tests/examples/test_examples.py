"""Each example runs as it is, on small data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))
    cv2.imwrite(str(tmp_path / "photo.png"), image[:40, 80:120])
    return tmp_path / "photo.png"


def test_every_example_is_run_here_and_listed() -> None:
    tested = Path(__file__).read_text()
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.[pi][yp]*"):
        assert f'"{path.name}"' in tested
        assert f"({path.name})" in listed


def test_a_folder(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    said = run("upscale_folder.py", tmp_path, tmp_path / "out")
    assert "broken.png: cannot be read" in said
    assert cv2.imread(str(tmp_path / "out" / "photo.png")).shape == (160, 160, 3)


def test_a_stack(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(100, 2000, (3, 20, 24), np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", stack)
    run("z_stack.py", tmp_path / "stack.tif", tmp_path / "out.ome.tif", "--pixel-size", 0.4)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        assert file.series[0].shape == (3, 80, 96)
        assert file.series[0].axes == "ZYX"
        assert 'PhysicalSizeX="0.1"' in (file.ome_metadata or "")
        result = file.asarray()
    assert abs(result.mean() - stack.mean()) < 50  # the values are the camera's again


def test_a_lazy_array() -> None:
    said = run("dask_array.py", "--side", 2100)  # the chunks of its last row are low
    assert "(2100, 2100) -> (8400, 8400)" in said
    assert "a corner of 200 x 200 pixels" in said


def test_interpolation(tmp_path: Path, photo: Path) -> None:
    said = run("interpolation.py", photo, tmp_path / "mixes")
    assert "alpha 0.0: 0.00 levels" in said
    assert len(list((tmp_path / "mixes").iterdir())) == 3


def test_training(tmp_path: Path, photo: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    image = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))
    cv2.imwrite(str(photos / "a.png"), cv2.resize(image, (200, 200)))
    out = tmp_path / "run"
    run("train_your_own.py", photos, photo, "--out", out, "--steps", 3)
    assert cv2.imread(str(out / "result.png")).shape == (160, 160, 3)


def test_the_notebook(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "first_steps.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=200, resources={"metadata": {"path": str(EXAMPLES)}}
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1
