"""Finding and building the extension, and doing without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esrgan_ext.ops import extension

RUN = """
import warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from esrgan_ext import ops
    from tests.conftest import make_network
    network = make_network(nf=32, gc=16)
    x = torch.rand(1, 3, 9, 7)
    with torch.inference_mode():
        difference = (network(x) - network.plain_forward(x)).abs().max().item()
        network(x)
assert difference < 1e-5, difference
print(ops.backend(), len(caught))
for warning in caught:
    print(warning.message)
"""


def start(**environment: str) -> list[str]:
    """Run a network in a process of its own; the backend, the number of warnings, their texts."""
    result = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def no_prebuilt_extension() -> bool:
    return extension.load() is not None and extension.origin() != "prebuilt"


def test_switched_off_by_the_environment() -> None:
    first, warning = start(ESRGAN_EXT="off")
    assert first == "reference 1"
    assert "ESRGAN_EXT" in warning


@pytest.mark.skipif(not no_prebuilt_extension(), reason="needs a checkout without a prebuilt one")
class TestJustInTime:
    def test_without_a_compiler(self, tmp_path: Path) -> None:
        first, warning = start(ESRGAN_CACHE_DIR=str(tmp_path), CXX="no-such-compiler")
        assert first == "reference 1"
        assert "no-such-compiler" in warning
        assert "apt install g++" in warning

    def test_with_a_failing_compiler(self, tmp_path: Path) -> None:
        first, warning, *_ = start(ESRGAN_CACHE_DIR=str(tmp_path), CXX="false")
        assert first == "reference 1"
        assert "compiler" in warning

    def test_with_a_cache_that_cannot_be_written(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("a file where a folder should be")
        first, warning = start(ESRGAN_CACHE_DIR=str(blocked))
        assert first == "reference 1"
        assert "ESRGAN_CACHE_DIR" in warning

    def test_a_second_start_does_not_compile(self) -> None:
        before = os.environ.get("ESRGAN_CACHE_DIR")
        environment = {} if before is None else {"ESRGAN_CACHE_DIR": before}
        first, *_ = start(CXX=f"{os.environ.get('CXX', 'c++')}", **environment)
        assert first.startswith("cpu-")


def test_the_key_depends_on_sources_and_torch(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "ops.cpp").write_text("int a;")
    key = extension._key(tmp_path, "c++")
    (tmp_path / "ops.cpp").write_text("int b;")
    changed = extension._key(tmp_path, "c++")
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert len({key, changed, extension._key(tmp_path, "c++")}) == 3


def test_build_information_is_complete() -> None:
    module = extension.load()
    if module is None:
        pytest.skip("no compiled extension")
    info = module.build_info()
    assert info["isa"] in ("avx512", "avx2", "baseline")
    assert info["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert info["compiler"].split()[0] in ("gcc", "clang")
