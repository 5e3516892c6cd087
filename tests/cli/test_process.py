"""What the console script does to its process: how threads wait, and that printing never fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """
import os, sys
from esrgan_ext.cli import app, process
assert "torch" not in sys.modules
process.prepare()
print([os.environ.get(k) for k in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")])
"""


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "[None, '1000', '1']"),
        ({"OMP_WAIT_POLICY": "active"}, "['active', None, None]"),
        ({"GOMP_SPINCOUNT": "0"}, "[None, '0', None]"),
    ],
)
def test_threads_sleep_soon_unless_the_user_chose_otherwise(own: dict, expected: str) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {k: v for k, v in os.environ.items() if k not in names} | own
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_name_that_the_terminal_lacks_stops_nothing(
    tmp_path: Path, photos: Path, models: Path, encoding: str
) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    photo = next(photos.glob("*.png")).read_bytes()
    names = ["日本語.png", "тест é.png", os.fsdecode(b"not utf-8 \xff.png"), "a.png"]
    for name in names:
        (folder / name).write_bytes(photo)
    (folder / "破.png").write_bytes(b"not an image")
    command = [sys.executable, "-m", "esrgan_ext.cli", "upscale", str(folder), str(tmp_path / "o")]
    done = subprocess.run(
        [*command, "--model", str(models / "a.safetensors"), "--device", "cpu"],
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 1  # for the one that is no image
    assert sorted(os.listdir(tmp_path / "o")) == sorted(names)
    assert b"[5/5]" in done.stdout
    assert b"Traceback" not in done.stderr
