"""Every block of Python in the documentation runs as it stands, on small data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import esrgan_ext as esr
from esrgan_ext.models import RRDBNet, RRDBNetConfig
from tests.conftest import ROOT
from tests.docs.sample_files import write_clip, write_sample_files

#: Text that is replaced before a block runs: positions in an image that is not made here, and a
#: package that takes a minute to make.
SMALLER = {"40_000:44_000, 12_000:16_000": "40:44, 12:16", "zoo-model.zip": "zoo-model.pth"}
#: Blocks with these are compiled alone: a model that would be downloaded, a package that needs a
#: GPU, one that needs a torchvision of the torch in use.
NOT_RUN = ("realesr-general-x4v3", "import cupy", "spandrel")


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def names(page: Path) -> dict[str, Any]:
    """What a page takes as given: its image, its model."""
    given: dict[str, Any] = {
        "esr": esr,
        "esrgan_ext": esr,
        "torch": torch,
        "image": np.full((16, 24), 7, np.uint8),
        "model": RRDBNet(RRDBNetConfig(nf=32, nb=1, gc=16)).eval(),
    }
    if page.name == "scaling.md":
        da = pytest.importorskip("dask.array")
        given["zarr_or_dask_array"] = da.zeros((2, 24, 24), np.uint8)
    return given


PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if blocks(p)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sample_files(tmp_path)
    if page.name == "video.md":
        write_clip(tmp_path / "clip.mp4")
    if page.name == "bioimageio.md":
        esr.save_model(esr.load_model("lite-micro-x4"), tmp_path / "zoo-model.pth")
    monkeypatch.chdir(tmp_path)
    given = names(page)
    for block in blocks(page):
        for large, small in SMALLER.items():
            block = block.replace(large, small)
        code = compile(block, str(page), "exec")
        if not any(text in block for text in NOT_RUN):
            exec(code, given)


def test_there_is_python_to_run() -> None:
    assert ROOT / "README.md" in PAGES
    assert len(PAGES) > 6
