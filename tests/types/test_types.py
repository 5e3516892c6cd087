"""The types that users' type checkers see: the kind that goes in comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import compiled
from tests.conftest import ROOT

SCRIPT = Path(__file__).with_name("user_script.py")

# Packages that no type in the script comes from: read too, they would take most of the time. What
# the script needs after all would become Any, which `assert_type` takes for no other type.
NOT_READ = [
    "dask", "distributed", "IPython", "onnx", "onnx_ir", "onnxscript", "rich", "scipy", "zarr",
    "torch._dynamo", "torch._export", "torch._functorch", "torch._higher_order_ops",
    "torch._inductor", "torch._native", "torch._numpy", "torch.ao", "torch.distributed",
    "torch.distributions", "torch.export", "torch.fx", "torch.jit", "torch.onnx", "torch.optim",
    "torch.package",
]  # fmt: skip

SETTINGS = f"""
[mypy]
strict = true
follow_imports = silent
ignore_missing_imports = true

[mypy-{",".join(f"{name}.*" for name in NOT_READ)}]
follow_imports = skip
"""


def test_a_users_script_is_what_mypy_says_it_is(tmp_path):
    pytest.importorskip("mypy")
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS)
    # mypy compares what it kept with the files' content: a later run reads what has changed alone.
    command = [sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir"]
    command.append(compiled.folder() / "mypy")
    found = subprocess.run([*command, SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
