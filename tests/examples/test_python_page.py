"""Every block of Python of docs/python.md runs, in the order of the page."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.published import Descriptor, OldRRDBNet
from tests.conftest import ROOT
from tests.inference.test_kinds import OtherArray

PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what cannot be had here: CuPy needs a GPU, spandrel's example a downloaded file."""
    cupy = types.ModuleType("cupy")
    cupy.float32 = np.float32  # type: ignore[attr-defined]
    made = lambda shape, dtype: OtherArray(np.zeros(shape, dtype))  # noqa: E731
    cupy.zeros = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    class ModelLoader:
        def load_from_file(self, path: str) -> Descriptor:
            torch.manual_seed(0)
            return Descriptor(OldRRDBNet().eval(), 4)

    spandrel = types.ModuleType("spandrel")
    spandrel.ModelLoader = ModelLoader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spandrel", spandrel)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("xarray")
    pytest.importorskip("PIL.Image")
    stand_ins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    image = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))[:40, 80:120]
    Path("photos").mkdir()
    cv2.imwrite("photo.jpg", image)
    cv2.imwrite("photos/one.png", image)
    names: dict[str, object] = {}
    results: dict[str, tuple] = {}
    assert len(BLOCKS) >= 9
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
        for name in ("large", "stack", "channels", "y", "finer"):
            if name in names:
                results[f"{name} {BLOCKS.index(block)}"] = tuple(getattr(names[name], "shape", ()))
    found = set(results.values())
    assert {(128, 160, 3), (5, 64, 80), (7, 64, 80), (2, 3, 96, 128), (80, 120)} <= found
    assert (1, 3, 96, 128) in found  # accelerated
    finer = names["finer"]
    assert finer.attrs == {"stain": "DAPI"}  # type: ignore[attr-defined]
    assert np.allclose(np.diff(finer.x.values), 0.125)  # type: ignore[attr-defined]
    assert cv2.imread("larger.png").shape == (160, 160, 3)
    assert Path("large.png").is_file()
    assert len(list(Path("large").iterdir())) == 1
    assert "stopped" in capsys.readouterr().out
