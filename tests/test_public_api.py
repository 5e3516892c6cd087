"""What `import esrgan_ext` promises: the public names, and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import esrgan_ext as esr


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*{{m.split('.')[0] for m in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"torch", "numpy", "cv2", "napari", "qtpy", "dask", "tifffile", "onnx", "lightning"}
    assert not heavy & imported_by("import esrgan_ext")


def test_listing_models_needs_no_torch():
    assert "torch" not in imported_by("import esrgan_ext; esrgan_ext.list_models()")


def test_every_public_name_is_there():
    for name in esr.__all__:
        assert getattr(esr, name) is not None
    assert set(esr.__all__) <= set(dir(esr))
    with pytest.raises(AttributeError, match="no attribute 'upscal'"):
        esr.upscal  # noqa: B018


def test_every_error_is_an_esrgan_error():
    errors = [v for v in map(esr.__dict__.get, esr.__all__) if isinstance(v, type)]
    for error in errors:
        if issubclass(error, Exception):
            assert issubclass(error, esr.EsrganError)


def test_the_packaged_models_are_listed_first_and_are_here():
    models = esr.list_models()
    assert [m.name for m in models[:5]] == [
        "realesrgan-x4plus",
        "realesrgan-x4plus-anime",
        "realsr-df2k",
        "lite-psnr-x4",
        "lite-esrgan-x4",
    ]
    assert all(m.path is not None and m.path.exists() for m in models[:5])
    assert {m.scale for m in models} == {2, 3, 4}


def test_a_loaded_model_says_what_it_is():
    network = esr.load_model("realesrgan-x4plus-anime")
    assert not network.training
    assert (network.scale, network.in_channels, network.out_channels) == (4, 3, 3)
    assert network.info.name == "realesrgan-x4plus-anime"
