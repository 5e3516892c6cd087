"""The types that users' type checkers see: the kind that goes in comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = Path(__file__).with_name("user_script.py")


def test_a_users_script_is_what_mypy_says_it_is(tmp_path):
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir"]
    found = subprocess.run(
        [*command, str(tmp_path), "--follow-imports", "silent", "--ignore-missing-imports", SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
