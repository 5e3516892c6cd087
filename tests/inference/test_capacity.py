"""Whether a disk has room for a result is asked before there is one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.capacity import Facts, check_space

RESULT = Facts(400, 400, 3, np.dtype(np.uint8))


@pytest.mark.parametrize(("free", "enough"), [(50_000, False), (150_000, True)])
def test_a_lossless_result_takes_as_much_as_its_source_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, enough: bool
) -> None:
    """Noise of 100 x 100 takes 30 kB, a quarter of 16 times that 120 kB; a flat image nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    Image.new("RGB", (100, 100)).save(tmp_path / "flat.png")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    check_space(tmp_path / "out.png", [RESULT], tmp_path / "flat.png", 4)
    check_space(tmp_path / "out.webp", [RESULT], tmp_path / "noise.png", 4)
    if enough:
        check_space(tmp_path / "out.png", [RESULT], tmp_path / "noise.png", 4)
    else:
        with pytest.raises(ImageFileError, match="needs 0 MB at the very least"):
            check_space(tmp_path / "out.png", [RESULT], tmp_path / "noise.png", 4)
